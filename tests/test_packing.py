"""CF attributes of a Zarr array: what xarray reads is what is decomposed, in its units."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from distributed import Client

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import MetadataError, NonFiniteError
from bigsvd.facts import Packing
from bigsvd.sources.open import open_source
from bigsvd.verify import verify

ENCODINGS: dict[str, dict[str, Any]] = {
    "packed": {"dtype": "int16", "scale_factor": 0.002, "add_offset": 280.0, "_FillValue": -32767},
    "scaled": {"dtype": "uint8", "scale_factor": 0.5, "add_offset": 250.0, "_FillValue": 255},
    "offset": {"dtype": "int32", "add_offset": 270.0, "scale_factor": 1e-4, "_FillValue": -1},
    "float with a fill value": {"dtype": "float32", "_FillValue": np.float32(1e20)},
    "float with NaN": {"dtype": "float64", "_FillValue": np.nan},
}
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
    client: Client, tmp_path: Path, encoding: str, zarr_format: Format, shape: tuple[int, int]
) -> None:
    field = written(tmp_path / "t.zarr", ENCODINGS[encoding], zarr_format, shape)
    mean = np.nanmean(field, axis=0)
    B = np.where(np.isnan(field), 0, field - mean)
    path = tmp_path / "t.zarr" / "t2m"
    factors = bigsvd.svd(path, 3, tmp_path / "f", client=client, center=True, missing="mean", tol=1e-6)
    assert np.allclose(factors.s, np.linalg.svd(B, compute_uv=False)[:3], rtol=1e-5)
    assert np.allclose(factors.mean, mean, rtol=1e-7)
    counts = factors.certificate.counts
    assert counts is not None
    assert counts.missing == np.isnan(field).sum() > 0
    assert verify(factors, open_source(path), lambda _: None, client).findings == ()
    rows = np.where(np.isnan(field), mean, field)[:4]
    U, s, _ = np.linalg.svd(B, full_matrices=False)
    assert np.allclose(np.abs(factors.project(rows)), np.abs(U[:4, :3] * s[:3]), atol=1e-2)


def test_gaps_that_nothing_fills_are_refused_and_named(client: Client, tmp_path: Path) -> None:
    written(tmp_path / "t.zarr", ENCODINGS["packed"], 3, (60, 45))
    with pytest.raises(NonFiniteError, match="stored as -32767 have no value"):
        bigsvd.svd(tmp_path / "t.zarr" / "t2m", 3, client=client)


def test_entries_may_be_taken_as_they_are_stored(client: Client, tmp_path: Path) -> None:
    written(tmp_path / "t.zarr", ENCODINGS["packed"], 3, (60, 45))
    stored = np.asarray(zarr.open_array(str(tmp_path / "t.zarr/t2m"))[...], dtype=float)
    factors = bigsvd.svd(tmp_path / "t.zarr/t2m", 3, client=client, decode=False)
    assert np.allclose(factors.s, np.linalg.svd(stored, compute_uv=False)[:3], rtol=1e-5)
    plan = CliRunner().invoke(main, ["plan", str(tmp_path / "t.zarr/t2m"), "-k", "3"]).output
    assert "packing       stored · 0.002 + 280, -32767 for no value" in plan
    raw = CliRunner().invoke(main, ["plan", str(tmp_path / "t.zarr/t2m"), "-k", "3", "--no-decode"]).output
    assert "packing" not in raw


def test_a_sentinel_beside_packing_is_a_stored_value(client: Client, tmp_path: Path) -> None:
    field = written(tmp_path / "t.zarr", ENCODINGS["packed"], 3, (60, 45))
    array = zarr.open_array(str(tmp_path / "t.zarr/t2m"), mode="r+")
    array[3, 4] = 12345
    factors = bigsvd.svd(array, 3, client=client, missing="zero", missing_value=12345)
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
        ({"_Unsigned": "true"}, "holds unsigned integers as int16"),
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
