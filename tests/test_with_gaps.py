"""Reconstructions are NaN where the data had no value, which is read from the data again."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import RequestError, SourceError
from bigsvd.results.factors import Factors

M, N, K = 50, 37, 3
REGIONS: tuple[Any, ...] = (
    (slice(None), slice(None)), (slice(7, 33), slice(11, 30)), 3, (slice(None), -1), ([4, 40, 4], [30, 2]),
    (slice(40, 3, -7), np.arange(N) % 3 == 0), (slice(5, 5), slice(None)), (2, 5),
)  # fmt: skip


def field(seed: int = 0) -> np.ndarray:
    """A field in kelvin of low rank and noise, one in eight entries NaN."""
    rng = np.random.default_rng(seed)
    values = (
        280 + rng.standard_normal((M, K)) @ rng.standard_normal((K, N)) + 0.1 * rng.standard_normal((M, N))
    )
    return np.where(rng.random((M, N)) < 0.125, np.nan, values)


def packed(folder: Path, zarr_format: Any = 3) -> Path:
    """The field as xarray packs it into 16 bits."""
    encoding = {
        "dtype": "i2",
        "scale_factor": 0.001,
        "add_offset": 280.0,
        "_FillValue": -32767,
        "chunks": (8, 9),
    }
    dataset = xr.Dataset({"t2m": (("time", "cell"), field())})
    dataset.to_zarr(
        folder / "a.zarr", encoding={"t2m": encoding}, zarr_format=zarr_format, consolidated=False
    )
    return folder / "a.zarr" / "t2m"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def factors(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Factors:
    out = tmp_path_factory.mktemp("out") / "u"
    return bigsvd.svd(path, K, out, center=True, missing="mean")


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_a_region_is_nan_where_nothing_was_seen(factors: Factors, path: Path, region: Any) -> None:
    rows, cols = region if isinstance(region, tuple) else (region, slice(None))
    seen, shown = field()[rows][..., cols], bigsvd.with_gaps(factors)[region]
    if isinstance(rows, list):
        seen = field()[np.ix_(rows, cols)]
    np.testing.assert_array_equal(np.isnan(shown), np.isnan(seen))
    there = ~np.isnan(seen)
    np.testing.assert_array_equal(shown[there], factors[region][there])
    assert np.all(np.abs(shown[there] - seen[there]) < 2)
    assert not np.isnan(factors[region]).any()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_every_way_of_reading_shows_them(tmp_path: Path, zarr_format: Any) -> None:
    path = packed(tmp_path, zarr_format)
    factors = bigsvd.svd(path, K, tmp_path / "u", center=True, missing="mean")
    shown, gaps = bigsvd.with_gaps(factors, path), np.isnan(field())
    np.testing.assert_array_equal(np.isnan(shown.reconstruct().compute(scheduler="threads")), gaps)
    np.testing.assert_array_equal(np.isnan(shown.as_zarr()[:]), gaps)
    np.testing.assert_array_equal(np.isnan(shown.truncate(2).on("cpu")[:]), gaps)
    again = pickle.loads(pickle.dumps(shown.low_rank()))  # noqa: S301 - our own
    np.testing.assert_array_equal(np.isnan(again[:]), gaps)
    np.testing.assert_array_equal(shown.showing(None)[:], factors[:])


def test_the_command_line_shows_them(factors: Factors, path: Path, tmp_path: Path) -> None:
    command = ["reconstruct", str(factors.path), "--gaps", str(path)]
    ended = CliRunner().invoke(main, [*command, str(tmp_path / "r.npy")])
    assert ended.exit_code == 0, ended.output
    np.testing.assert_array_equal(np.isnan(np.load(tmp_path / "r.npy")), np.isnan(field()))
    ended = CliRunner().invoke(main, [*command, "--rows", "0:4", "--json"])
    values = np.array(json.loads(ended.stdout)["values"])
    np.testing.assert_array_equal(np.isnan(values), np.isnan(field()[:4]))


def test_sentinels_are_known_from_the_request(tmp_path: Path) -> None:
    calls = np.random.default_rng(1).integers(-1, 3, (30, 20)).astype("i1")
    zarr.create_array(tmp_path / "a.zarr", data=calls, chunks=(7, 20))
    factors = bigsvd.svd(tmp_path / "a.zarr", 2, tmp_path / "u", missing="mean", missing_value=-1)
    np.testing.assert_array_equal(np.isnan(bigsvd.with_gaps(factors)[:]), calls == -1)


def test_an_array_in_memory_has_to_be_given(tmp_path: Path) -> None:
    factors = bigsvd.svd(field(), K, missing="zero")
    with pytest.raises(RequestError, match="an array in memory; give it as data"):
        bigsvd.with_gaps(factors)
    np.testing.assert_array_equal(np.isnan(bigsvd.with_gaps(factors, field())[:]), np.isnan(field()))


def test_other_data_are_refused(factors: Factors, path: Path, tmp_path: Path) -> None:
    for other, told in ((field()[:40], "shape"), (field(), "dtype")):
        with pytest.raises(RequestError, match=f"of data with {told} .*computed from"):
            bigsvd.with_gaps(factors, other)
    with pytest.raises(SourceError, match="does not exist"):
        bigsvd.with_gaps(factors, tmp_path / "gone.zarr")


@pytest.mark.parametrize("samples", ["rows", "columns"])
def test_gaps_are_among_the_lines_that_were_taken_by_values_in_memory(samples: str) -> None:
    rows, cols = np.arange(M) % 3 > 0, np.array([30, 2, 7, 12])
    factors = bigsvd.svd(field(), 2, missing="mean", center=True, rows=rows, cols=cols, samples=samples)
    taken = np.zeros((M, N), dtype=bool)
    taken[np.ix_(rows, cols)] = True
    found = np.isnan(bigsvd.with_gaps(factors, field())[:])
    assert np.array_equal(found, np.isnan(field()) | ~taken)
