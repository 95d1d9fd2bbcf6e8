"""CF attributes of a Zarr array: what xarray reads is what is decomposed, in its units."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import MetadataError, NonFiniteError
from bigsvd.facts import Packing, SourceFacts
from bigsvd.request import Request
from bigsvd.slabs.transform import Transform
from bigsvd.sources.open import open_source
from bigsvd.verify import verify

ENCODINGS: dict[str, dict[str, Any]] = {
    "packed": {"dtype": "int16", "scale_factor": 0.002, "add_offset": 280.0, "_FillValue": -32767},
    "scaled": {"dtype": "uint8", "scale_factor": 0.5, "add_offset": 250.0, "_FillValue": 255},
    "offset": {"dtype": "int32", "add_offset": 270.0, "scale_factor": 1e-4, "_FillValue": -1},
    "float with a fill value": {"dtype": "float32", "_FillValue": np.float32(1e20)},
    "unsigned": {
        "dtype": "int8",
        "_Unsigned": "true",
        "scale_factor": 0.1,
        "add_offset": 267.0,
        "_FillValue": -1,
    },
    "signed": {
        "dtype": "uint8",
        "_Unsigned": "false",
        "scale_factor": 0.1,
        "add_offset": 280.0,
        "_FillValue": 127,
    },
    "float with NaN": {"dtype": "float64", "_FillValue": np.nan},
}
NUMBERS = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
Format = Literal[2, 3]


def written(path: Path, encoding: dict[str, Any], zarr_format: Format, shape: tuple[int, int]) -> np.ndarray:
    """A field with gaps, stored by xarray; what xarray reads back (m, n) float64 with NaN for gaps."""
    rng = np.random.default_rng(0)
    field = 280 + 3 * rng.standard_normal(shape)
    field[rng.random(shape) < 0.05] = np.nan
    dataset = xr.DataArray(field, dims=("time", "cell"), name="t2m").to_dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of consolidated metadata in format 3
        dataset.to_zarr(path, encoding={"t2m": encoding | {"chunks": (20, 20)}}, zarr_format=zarr_format)
        return np.asarray(xr.open_zarr(path, chunks=None)["t2m"].to_numpy(), dtype=float)


@pytest.mark.parametrize("shape", [(120, 45), (45, 120)], ids=["tall", "wide"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_packed_array_is_the_matrix_that_xarray_reads(
    tmp_path: Path, encoding: str, zarr_format: Format, shape: tuple[int, int]
) -> None:
    field = written(tmp_path / "t.zarr", ENCODINGS[encoding], zarr_format, shape)
    mean = np.nanmean(field, axis=0)
    B = np.where(np.isnan(field), 0, field - mean)
    path = tmp_path / "t.zarr" / "t2m"
    factors = bigsvd.svd(path, 3, tmp_path / "f", center=True, missing="mean", tol=1e-6)
    assert np.allclose(factors.s, np.linalg.svd(B, compute_uv=False)[:3], rtol=1e-5)
    assert np.allclose(factors.mean, mean, rtol=1e-7)
    counts = factors.certificate.counts
    assert counts is not None
    assert counts.missing == np.isnan(field).sum() > 0
    assert verify(factors, open_source(path), lambda _: None).findings == ()
    rows = np.where(np.isnan(field), mean, field)[:4]
    U, s, _ = np.linalg.svd(B, full_matrices=False)
    assert np.allclose(np.abs(factors.project(rows)), np.abs(U[:4, :3] * s[:3]), atol=1e-2)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_packed_array_has_the_numbers_of_its_decoded_copy(
    tmp_path: Path, zarr_format: Format, *, center: bool
) -> None:
    field = written(tmp_path / "t.zarr", ENCODINGS["packed"], zarr_format, (120, 45))
    packed, copy = (
        bigsvd.svd(data, 4, center=center, missing="mean", tol=1e-6)
        for data in (tmp_path / "t.zarr/t2m", field)
    )
    np.testing.assert_allclose(packed.s, copy.s, rtol=1e-5)
    np.testing.assert_allclose(packed[:], copy[:], atol=1e-3)


def test_gaps_that_nothing_fills_are_refused_and_named(tmp_path: Path) -> None:
    written(tmp_path / "t.zarr", ENCODINGS["packed"], 3, (60, 45))
    with pytest.raises(NonFiniteError, match="stored as -32767 have no value"):
        bigsvd.svd(tmp_path / "t.zarr" / "t2m", 3)


def test_entries_may_be_taken_as_they_are_stored(tmp_path: Path) -> None:
    written(tmp_path / "t.zarr", ENCODINGS["packed"], 3, (60, 45))
    stored = np.asarray(zarr.open_array(str(tmp_path / "t.zarr/t2m"))[...], dtype=float)
    factors = bigsvd.svd(tmp_path / "t.zarr/t2m", 3, decode=False)
    assert np.allclose(factors.s, np.linalg.svd(stored, compute_uv=False)[:3], rtol=1e-5)
    plan = CliRunner().invoke(main, ["plan", str(tmp_path / "t.zarr/t2m"), "-k", "3"]).output
    assert "decoding      stored · 0.002 + 280, -32767 for no value" in plan
    raw = CliRunner().invoke(main, ["plan", str(tmp_path / "t.zarr/t2m"), "-k", "3", "--no-decode"]).output
    assert "decoding      none: entries are taken as they are stored" in raw


def test_a_sentinel_beside_packing_is_a_stored_value(tmp_path: Path) -> None:
    field = written(tmp_path / "t.zarr", ENCODINGS["packed"], 3, (60, 45))
    array = zarr.open_array(str(tmp_path / "t.zarr/t2m"), mode="r+")
    array[3, 4] = 12345
    factors = bigsvd.svd(array, 3, missing="zero", missing_value=12345)
    field[3, 4] = np.nan
    assert np.allclose(factors.s, np.linalg.svd(np.nan_to_num(field), compute_uv=False)[:3], rtol=1e-6)
    assert factors.certificate.counts is not None
    assert factors.certificate.counts.missing == np.isnan(field).sum()


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"scale_factor": "0.1"}, "scale_factor='0.1', which is no number"),
        ({"scale_factor": 0}, "scale_factor=0"),
        ({"scale_factor": [1, 2]}, "which is no number"),
        ({"add_offset": True}, "which is no number"),
        ({"_FillValue": "nothing"}, "_FillValue='nothing', which is no number"),
        ({"valid_range": [1, 2, 3]}, "valid_range=\\[1, 2, 3\\], which is no pair"),
        ({"valid_range": [0, 9], "valid_min": 0}, "valid_min=0, beside a valid_range"),
        ({"valid_min": "low"}, "valid_min='low', which is no number"),
        ({"valid_max": -40000}, "valid_ attributes that no entry can fulfil"),
        ({"valid_range": [9, 0]}, "valid_ attributes that no entry can fulfil"),
    ],
)
def test_attributes_that_are_not_understood_are_refused(
    tmp_path: Path, attributes: dict[str, Any], message: str
) -> None:
    data = np.ones((4, 3), "i2")
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=data, chunks=(4, 3), attributes=attributes)
    with pytest.raises(MetadataError, match=message):
        open_source(array)
    assert open_source(array, decode=False).facts.packing == Packing()


@pytest.mark.parametrize(
    ("attributes", "dtype", "wanted"),
    [
        ({"missing_value": [-1, -2]}, "i2", (-1, -2)),
        ({"_FillValue": -9999, "missing_value": -9999}, "i2", (-9999,)),
        ({"_FillValue": -9999}, "u1", ()),
        ({"_FillValue": "NaN"}, "f4", ()),
        ({"_FillValue": None}, "f4", ()),
        ({"scale_factor": [1.0], "missing_value": 1e20}, "f4", (float(np.float32(1e20)),)),
        ({"long_name": "nothing of the kind"}, "i2", ()),
    ],
)
def test_fill_values_are_those_that_the_type_can_hold(
    tmp_path: Path, attributes: dict[str, Any], dtype: str, wanted: tuple[float, ...]
) -> None:
    data = np.ones((4, 3), dtype)
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=data, chunks=(4, 3), attributes=attributes)
    assert open_source(array).facts.packing.fills == wanted


@pytest.mark.parametrize(
    ("fill", "attributes", "wanted"), [(0, {}, ()), (-1, {}, (-1,)), (0, {"add_offset": 2}, (0,))]
)
def test_the_fill_value_of_format_2_counts_where_xarray_wrote_it(
    tmp_path: Path, fill: int, attributes: dict[str, Any], wanted: tuple[int, ...]
) -> None:
    """Zeros are not taken for missing only because Zarr's fill value is 0 by default."""
    for name, more in (("x", {"_ARRAY_DIMENSIONS": ["a", "b"]}), ("plain", {})):
        array = zarr.create_array(
            str(tmp_path / name), shape=(4, 3), chunks=(4, 3), dtype="i2", fill_value=fill, zarr_format=2,
            attributes=attributes | more,
        )  # fmt: skip
        assert open_source(array).facts.packing.fills == (wanted if more else ())


@pytest.mark.parametrize(
    ("attributes", "dtype", "wanted"),
    [
        ({"valid_range": [0, 200]}, "i2", (0, 200)),
        ({"valid_min": 0}, "i2", (0, None)),
        ({"valid_max": [200]}, "i2", (None, 200)),
        ({"valid_range": [-32768, 32767]}, "i2", (None, None)),
        ({"valid_range": [-40000, 40000]}, "i2", (None, None)),
        ({"valid_range": [0.5, 2.5]}, "i2", (1, 2)),
        ({"valid_range": [0, -6], "_Unsigned": "true"}, "i2", (None, 65530)),
        ({"valid_range": [0, 300], "scale_factor": 0.1}, "i2", (0, 300)),
        ({"valid_range": [0.0, 30.0], "scale_factor": 0.1}, "i2", (0, 300)),
        ({"valid_range": [250.0, 300.05], "scale_factor": 0.1, "add_offset": 280}, "i2", (-300, 200)),
        ({"valid_min": 0.0, "scale_factor": -0.5}, "i2", (None, 0)),
        ({"valid_max": 0.1}, "f4", (None, float(np.float32(0.1)))),
        ({"valid_max": 1e300}, "f4", (None, None)),
    ],
)
def test_limits_of_what_is_valid_are_as_entries_are_stored(
    tmp_path: Path, attributes: dict[str, Any], dtype: str, wanted: tuple[float | None, float | None]
) -> None:
    """Packed integers have packed limits, unless these are written as the numbers that are unpacked."""
    data = np.ones((4, 3), dtype)
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=data, chunks=(4, 3), attributes=attributes)
    packing = open_source(array).facts.packing
    assert (packing.least, packing.most) == wanted


@pytest.mark.parametrize("seed", range(60))
def test_decoded_entries_are_those_of_the_convention(tmp_path: Path, seed: int) -> None:
    """Any type, in either format, unsigned or not, with several fill values and limits."""
    rng = np.random.default_rng(seed)
    stored = np.dtype(NUMBERS[seed % len(NUMBERS)])
    raw = rng.integers(0, 100, (9, 7)).astype(stored)
    attributes: dict[str, Any] = {"missing_value": rng.integers(0, 100, 3).tolist()}
    numbers = raw
    if stored.kind in "iu" and rng.random() < 0.5:
        raw = rng.integers(0, 256, (*raw.shape, stored.itemsize), "u1").view(stored)[..., 0]
        attributes["_Unsigned"] = {"i": "true", "u": "false"}[stored.kind]
        numbers = raw.view({"i": "u", "u": "i"}[stored.kind] + str(stored.itemsize))
        attributes["_FillValue"] = int(raw[3, 4])
    gone = np.isin(raw, attributes["missing_value"]) | np.isin(raw, attributes.get("_FillValue", 10**9))
    if rng.random() < 0.5:
        low, high = (int(limit) for limit in np.quantile(numbers, [0.1, 0.9]))
        attributes["valid_range"] = [low, high]
        gone |= (numbers < low) | (numbers > high)
    scale, offset = 1.0, 0.0
    if rng.random() < 0.7:
        scale, offset = float(rng.standard_normal()), float(10 * rng.standard_normal())
        attributes |= {"scale_factor": scale, "add_offset": offset}
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), data=raw, chunks=(4, 3), attributes=attributes,
        zarr_format=(2, 3)[seed // 8 % 2],
    )  # fmt: skip
    source = open_source(array)
    transform = Transform.of(Request("a", 1, missing="zero", missing_value=-7777), source.facts)
    read = source.read(slice(0, 9), slice(0, 7))
    values, gaps = transform.widen(CpuDevice(), read, np.dtype(source.facts.dtype))
    wanted = numbers.astype(np.float64) * scale + offset
    np.testing.assert_array_equal(np.zeros_like(gone) if gaps is None else gaps.mask, gone)
    np.testing.assert_allclose(values, np.where(gone, 0, wanted), rtol=1e-15, atol=1e-14)
    assert SourceFacts.from_dict(json.loads(json.dumps(source.facts.to_dict()))) == source.facts


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_entries_that_are_not_valid_are_missing(tmp_path: Path, zarr_format: Format) -> None:
    """Also where they are counted again and reported; a plan says what counts as missing."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 1000, (80, 30)).astype("i2")
    raw[rng.random(raw.shape) < 0.1] = 5000
    attributes: dict[str, Any] = {"scale_factor": 0.01, "valid_range": [0, 1000]}
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), data=raw, chunks=(20, 30), attributes=attributes, zarr_format=zarr_format
    )
    with pytest.raises(NonFiniteError, match="stored as less than 0 and more than 1000 have no value"):
        bigsvd.svd(array, 2)
    field = np.where(raw > 1000, np.nan, raw * 0.01)
    mean = np.nanmean(field, axis=0)
    factors = bigsvd.svd(array, 2, center=True, missing="mean")
    wanted = np.linalg.svd(np.where(np.isnan(field), 0, field - mean), compute_uv=False)[:2]
    np.testing.assert_allclose(factors.s, wanted, rtol=1e-6)
    assert factors.certificate.counts is not None
    assert factors.certificate.counts.missing == (raw == 5000).sum()
    assert verify(factors, open_source(array), lambda _: None).findings == ()
    assert "less than 0 and more than 1000 for no value" in str(bigsvd.plan(array, 2))
