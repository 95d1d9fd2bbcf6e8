"""Arrays of more axes than two as matrices: what is read, what is decomposed, in which shape it is shown."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from distributed import Client
from zarr.codecs import BytesCodec

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import NonFiniteError, RequestError, ShapeError
from bigsvd.sources.base import Axes, Source
from bigsvd.sources.open import open_source
from bigsvd.sources.stacking import Stacking
from bigsvd.sources.transposed import TransposedSource
from bigsvd.verify import verify
from tests.laws import SourceLaws, rectangles

NAMES = ("time", "y", "x")
X = np.random.default_rng(0).standard_normal((23, 5, 7)) * 10 + 300
K = 3


def matrix(array: np.ndarray, axis: int) -> np.ndarray:
    """What the array is as a matrix: the definition."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


@pytest.mark.parametrize("lengths", [(4, 5), (3, 4, 5), (4, 1, 3, 2), (2, 3, 2, 2, 3)])
def test_a_rectangle_lies_in_its_box(lengths: tuple[int, ...]) -> None:
    array = np.arange(math.prod(lengths)).reshape(lengths)
    for axis in range(len(lengths) if len(lengths) > 2 else 1):
        stacking, expected = Stacking(lengths, axis), matrix(array, axis)
        assert stacking.shape == expected.shape
        for rows, cols in rectangles(expected.shape):
            box = stacking.box(rows, cols)
            np.testing.assert_array_equal(stacking.lay(array[box], rows, cols), expected[rows, cols])
            memory, rectangle = stacking.room(rows, cols, np.empty)
            memory[...] = array[box]
            np.testing.assert_array_equal(rectangle, expected[rows, cols])


def test_what_is_best_read_together_is_whole_chunks_next_to_each_other() -> None:
    stacking = Stacking((30, 6, 8, 10), 0)
    assert stacking.unit((7, 2, 3, 4)) == (7, 160)
    assert stacking.unit((7, 1, 4, 4)) == (7, 40)  # 4 divides 8: chunks of one line follow each other
    assert stacking.unit((7, 1, 3, 4)) == (7, 80)
    assert stacking.unit((40, 9, 9, 12)) == (30, 480)
    assert stacking.piece((7, 2, 3, 4)) == (7, 24)
    assert Stacking((30, 6, 8), 2).unit((10, 3, 5)) == (5, 60)


def in_zarr(folder: Path, array: np.ndarray) -> Any:
    zarr.create_array(folder / "a.zarr", data=array, chunks=(4, 2, 3), dimension_names=NAMES)
    return folder / "a.zarr"


def in_zarr_2(folder: Path, array: np.ndarray) -> Any:
    attributes: dict[str, Any] = {"_ARRAY_DIMENSIONS": list(NAMES)}
    zarr.create_array(folder / "a", data=array, chunks=(4, 5, 7), zarr_format=2, attributes=attributes)
    return zarr.open_array(folder / "a")


def in_shards(folder: Path, array: np.ndarray) -> Any:
    zarr.create_array(folder / "a", data=array, chunks=(4, 2, 3), shards=(8, 4, 6), dimension_names=NAMES)
    return folder / "a"


def in_zarr_by_its_pipeline(folder: Path, array: np.ndarray) -> Any:
    zarr.create_array(
        folder / "a", data=array, chunks=(4, 2, 3), dimension_names=NAMES, serializer=BytesCodec(endian="big")
    )
    return folder / "a"


def in_hdf5(folder: Path, array: np.ndarray) -> Any:
    with h5py.File(folder / "a.h5", "w") as file:
        dataset = file.create_dataset("t", data=array, chunks=(4, 2, 3))
        for axis, name in zip(dataset.dims, NAMES, strict=True):
            axis.label = name
    return folder / "a.h5"


def in_numpy(folder: Path, array: np.ndarray) -> Any:
    return xr.DataArray(array, dims=NAMES)


def in_numpy_by_columns(folder: Path, array: np.ndarray) -> Any:
    return xr.DataArray(np.asfortranarray(array), dims=NAMES)


def in_a_map(folder: Path, array: np.ndarray) -> Any:
    np.save(folder / "a.npy", array)
    return xr.DataArray(np.load(folder / "a.npy", mmap_mode="r"), dims=NAMES)


def in_dask(folder: Path, array: np.ndarray) -> Any:
    return xr.DataArray(da.from_array(array, chunks=((4, 19), (2, 3), (3, 4))) + 0, dims=NAMES)


def lazily_by_xarray(folder: Path, array: np.ndarray) -> Any:
    xr.DataArray(array, dims=NAMES, name="t").to_dataset().to_zarr(folder / "a.zarr", zarr_format=2)
    return xr.open_zarr(folder / "a.zarr", chunks=None)["t"]


KINDS: tuple[Callable[[Path, np.ndarray], Any], ...] = (
    in_zarr,
    in_zarr_2,
    in_shards,
    in_zarr_by_its_pipeline,
    in_hdf5,
    in_numpy,
    in_numpy_by_columns,
    in_a_map,
    in_dask,
)
BY_NAME = [kind.__name__ for kind in KINDS]
# Each kind around one axis at least, and those that are read in their own ways around each.
AROUND = [(name, NAMES[number % 3]) for number, name in enumerate(BY_NAME)]
AROUND += [(name, dim) for name in ("in_zarr", "in_dask", "in_numpy") for dim in NAMES]
AROUND = sorted(set(AROUND))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The array of every kind, kept alive as a user would."""
    return {kind.__name__: kind(tmp_path_factory.mktemp(kind.__name__), X) for kind in KINDS}


class TestEveryKind(SourceLaws):
    """An array of three axes, stacked around each of them."""

    @pytest.fixture(params=AROUND, ids="-".join)
    def which(self, request: pytest.FixtureRequest) -> tuple[str, str]:
        kind, dim = request.param
        return str(kind), str(dim)

    @pytest.fixture
    def source(self, data: dict[str, Any], which: tuple[str, str]) -> Source:
        return open_source(data[which[0]], dim=which[1])

    @pytest.fixture
    def entries(self, which: tuple[str, str]) -> np.ndarray:
        return matrix(X, NAMES.index(which[1]))


@pytest.mark.parametrize("kind", BY_NAME)
def test_axes_are_known_by_name_and_number(data: dict[str, Any], kind: str) -> None:
    facts = open_source(data[kind], dim="y").facts
    assert (facts.dims, facts.array_shape, facts.array_axis) == (NAMES, X.shape, 1)
    assert open_source(data[kind], dim=1).facts == facts
    assert open_source(data[kind], dim="-2").facts == facts
    assert open_source(data[kind], samples="y").facts == facts
    with pytest.raises(RequestError, match=r"has no axis 'lat'; .* give time, y or x"):
        open_source(data[kind], dim="lat")
    with pytest.raises(ShapeError, match=r"name the axis of the samples by dim=AXIS: time, y or x"):
        open_source(data[kind])
    with pytest.raises(ShapeError, match="in which nothing is a column"):
        open_source(data[kind], samples="columns")


def test_an_array_in_memory_is_read_where_it_lies_if_its_order_allows() -> None:
    for dim, reader in (("time", "memory"), ("y", "foreign"), ("x", "memory")):
        source = open_source(xr.DataArray(X, dims=NAMES), dim=dim)
        m, n = source.facts.shape
        assert source.facts.reader == reader
        assert np.may_share_memory(source.read(slice(0, m), slice(0, n)), X) == (reader == "memory")


def test_dim_of_a_matrix_says_which_axis_has_the_samples() -> None:
    array = xr.DataArray(X[:, 0], dims=("time", "x"))
    assert open_source(array, dim="x").facts.samples_axis == 1
    assert open_source(array, dim="time").facts.samples_axis == 0
    assert open_source(array, dim=1).facts.shape == (23, 7)


@pytest.mark.parametrize(("kind", "dim"), AROUND)
def test_the_answer_is_that_of_the_stacked_matrix(
    tmp_path: Path, data: dict[str, Any], kind: str, dim: str
) -> None:
    A = matrix(X, NAMES.index(dim))
    options: dict[str, Any] = {"center": True, "tol": 1e-6}
    plain = bigsvd.svd(A, K, **options)
    factors = bigsvd.svd(data[kind], K, tmp_path / "f", dim=dim, **options)
    np.testing.assert_allclose(factors.s, plain.s, rtol=1e-12)
    np.testing.assert_allclose(factors.scores, plain.scores, atol=1e-9)
    assert factors.certificate.relative_error == pytest.approx(plain.certificate.relative_error, abs=1e-13)
    assert factors.shape == A.shape
    others = tuple(length for name, length in zip(NAMES, X.shape, strict=True) if name != dim)
    assert factors.components.shape == (K, *others)
    np.testing.assert_allclose(factors.components.reshape(K, -1), plain.components, atol=1e-10)
    np.testing.assert_allclose(factors.unstacked(factors[:]), _unstacked(plain[:], dim), atol=1e-9)
    assert factors.unstacked(factors.mean).shape == others
    assert verify(factors, open_source(data[kind], dim=dim), lambda _: None).findings == ()


def _unstacked(A: np.ndarray, dim: str) -> np.ndarray:
    """The array whose matrix A is, around an axis."""
    axis = NAMES.index(dim)
    return np.moveaxis(A.reshape(X.shape[axis], *np.delete(X.shape, axis)), 0, axis)


def test_lazily_opened_xarray_is_read_too(tmp_path: Path) -> None:
    lazy = lazily_by_xarray(tmp_path, X)
    factors = bigsvd.svd(lazy, K, dim="time", tol=1e-6)
    np.testing.assert_allclose(factors.s, np.linalg.svd(matrix(X, 0), compute_uv=False)[:K], rtol=1e-10)


@pytest.mark.parametrize("kind", ["in_zarr", "in_dask", "in_shards"])
def test_workers_in_other_processes_read_it(client: Client, data: dict[str, Any], kind: str) -> None:
    factors = bigsvd.svd(data[kind], K, dim="y", center=True, tol=1e-6, client=client)
    A = matrix(X, 1)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A - A.mean(axis=0), compute_uv=False)[:K], rtol=1e-9)


def test_a_packed_array_is_decoded(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(-3000, 3000, (40, 6, 5)).astype("i2")
    stored[3, 2, 1] = -32767
    attributes: dict[str, Any] = {"scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32767}
    zarr.create_array(
        tmp_path / "a", data=stored, chunks=(9, 2, 4), attributes=attributes, dimension_names=NAMES
    )
    with pytest.raises(NonFiniteError, match="the first at time 3, y 2, x 1"):
        bigsvd.svd(tmp_path / "a", K, dim="time")
    factors = bigsvd.svd(tmp_path / "a", K, dim="time", center=True, missing="mean", tol=1e-6)
    field = np.where(stored == -32767, np.nan, stored * 0.01 + 280).reshape(40, -1)
    B = np.nan_to_num(field - np.nanmean(field, axis=0))
    np.testing.assert_allclose(factors.s, np.linalg.svd(B, compute_uv=False)[:K], rtol=1e-7)


# Sums


def genotypes() -> np.ndarray:
    """Alleles (variants, samples, ploidy) with calls of which one or both are missing."""
    rng = np.random.default_rng(2)
    calls = rng.integers(0, 2, (60, 25, 2)).astype("i1")
    calls[rng.random((60, 25)) < 0.03] = -1
    calls[4, 5] = [1, -1]
    return calls


def dosages() -> np.ndarray:
    """What sgkit would make of them, NaN where a call is missing (60, 25)."""
    calls = genotypes()
    return np.asarray(np.where((calls < 0).any(axis=2), np.nan, calls.sum(axis=2)))


@pytest.mark.parametrize("chunks", [(7, 6, 2), (7, 6, 1), (60, 25, 2)])
@pytest.mark.parametrize("orientation", [{"samples": "samples"}, {"dim": "samples"}, {"dim": 1}])
def test_genotypes_are_summed_to_dosages(
    tmp_path: Path, chunks: tuple[int, ...], orientation: dict[str, Any]
) -> None:
    names = ("variants", "samples", "ploidy")
    zarr.create_array(tmp_path / "g", data=genotypes(), chunks=chunks, dimension_names=names)
    asked: dict[str, Any] = {"sum": "ploidy", "missing": "mean"} | orientation
    factors = bigsvd.svd(tmp_path / "g", K, center=True, tol=1e-6, **asked)
    mean = np.nanmean(dosages(), axis=1)
    B = np.nan_to_num(dosages() - mean[:, None])
    np.testing.assert_allclose(factors.s, np.linalg.svd(B, compute_uv=False)[:K], rtol=1e-6)
    np.testing.assert_allclose(factors.mean, mean, rtol=1e-12)
    assert factors.certificate.counts is not None
    assert factors.certificate.counts.missing == np.isnan(dosages()).sum() > 5
    assert (factors.shape, factors.components.shape, factors.scores.shape) == ((60, 25), (K, 60), (25, K))
    assert verify(factors, open_source(tmp_path / "g", **asked), lambda _: None).findings == ()
    with pytest.raises(NonFiniteError, match="stored as -1 have no value"):
        bigsvd.svd(tmp_path / "g", K, sum="ploidy")


class TestSummed(SourceLaws):
    """Dosages, as they are told to the engine: -1 for a call that is missing."""

    @pytest.fixture(params=["zarr", "numpy", "dask", "transposed"])
    def source(self, tmp_path: Path, request: pytest.FixtureRequest) -> Source:
        calls: Any = genotypes()
        if request.param == "zarr":
            zarr.create_array(tmp_path / "g", data=calls, chunks=(7, 6, 1))
            calls = tmp_path / "g"
        if request.param == "dask":
            calls = da.from_array(calls, chunks=(13, 25, 2)) + 0
        source = open_source(calls.transpose(1, 0, 2) if request.param == "transposed" else calls, sum=2)
        self.kept = calls
        return TransposedSource(source) if request.param == "transposed" else source

    @pytest.fixture
    def entries(self) -> np.ndarray:
        return np.asarray(np.nan_to_num(dosages(), nan=-1), dtype="i2")


def test_other_sums(tmp_path: Path) -> None:
    many = np.full((9, 4, 2, 3), 100, "i1")
    source = open_source(many, sum=-1, dim=0)
    assert (source.facts.shape, source.facts.array_shape) == ((9, 8), (9, 4, 2))
    assert np.all(source.read(slice(0, 9), slice(0, 8)) == 300)
    floats = many.astype("f4")
    floats[1, 2, 0, 0] = np.nan
    found = open_source(floats, sum=3, dim=0).read(slice(0, 9), slice(0, 8))
    assert np.flatnonzero(np.isnan(found)).tolist() == [12]
    with pytest.raises(RequestError, match="is not the last axis"):
        open_source(many, sum=1, dim=0)
    attributes: dict[str, Any] = {"scale_factor": 0.5}
    zarr.create_array(tmp_path / "p", data=many, chunks=(3, 4, 2, 3), attributes=attributes)
    with pytest.raises(RequestError, match="is packed"):
        open_source(tmp_path / "p", sum=3, dim=0)


@pytest.mark.parametrize(("dtype", "fill"), [("u1", 255), ("f4", -1), ("f4", 9), ("i2", 9)])
def test_a_sum_of_what_the_attributes_call_missing_is_missing(tmp_path: Path, dtype: str, fill: int) -> None:
    raw = genotypes().astype(np.int64)
    calls = np.where(raw < 0, fill, raw).astype(dtype)
    zarr.create_array(tmp_path / "g", data=calls, chunks=(7, 6, 1), attributes={"_FillValue": fill})
    options: dict[str, Any] = {"sum": 2, "samples": "columns", "center": True, "missing": "mean", "tol": 1e-6}
    factors = bigsvd.svd(tmp_path / "g", K, **options)
    counts = factors.certificate.counts
    assert counts is not None
    assert counts.missing == np.isnan(dosages()).sum() > 5
    np.testing.assert_allclose(factors.mean, np.nanmean(dosages(), axis=1), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool"])
def test_sums_of_what_cannot_be_negative_have_no_gaps(dtype: str) -> None:
    """Colours of a video: nothing is looked for, and nothing said of it."""
    video = np.random.default_rng(3).integers(0, 2, (30, 4, 5, 3)).astype(dtype)
    source = open_source(video, dim=0, sum=-1)
    assert not source.facts.marks_gaps
    assert "summed over axis -1\n" in str(bigsvd.plan(video, K, dim=0, sum=-1))
    factors = bigsvd.svd(video, K, dim=0, sum=-1, tol=1e-6)
    exact = np.linalg.svd(video.sum(axis=3, dtype=float).reshape(30, -1), compute_uv=False)[:K]
    np.testing.assert_allclose(factors.s, exact, rtol=1e-6)


def test_what_is_missing_is_no_sum() -> None:
    calls = genotypes()
    options: dict[str, Any] = {"sum": 2, "samples": "columns", "missing": "mean", "center": True}
    named = bigsvd.svd(calls, K, missing_value=-1, **options)
    np.testing.assert_array_equal(named.s, bigsvd.svd(calls, K, **options).s)
    with pytest.raises(RequestError, match=r"missing_value=9.* would be compared with sums over 2"):
        bigsvd.svd(calls, K, missing_value=9, **options)
    with pytest.raises(RequestError, match="is the axis that sum=-1 sums over"):
        bigsvd.svd(np.ones((6, 5, 4, 3)), K, sum=-1, dim=3)


def test_of_a_matrix_no_axis_is_summed() -> None:
    for options in ({"sum": 1}, {"sum": 1, "dim": 0}, {"sum": -1, "samples": "columns"}):
        with pytest.raises(ShapeError, match="no axis is left to be summed"):
            open_source(np.ones((4, 5)), **options)


# The command line


def test_the_command_line(tmp_path: Path) -> None:
    data, out = str(in_zarr(tmp_path, X)), str(tmp_path / "out")

    def said(*arguments: str) -> dict[str, Any]:
        outcome = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        found: dict[str, Any] = json.loads(outcome.stdout)
        return found

    asked = ["-k", "3", "--center", "--dim", "time", "--tol", "1e-6"]
    facts = said("plan", data, *asked)["facts"]
    assert (facts["array_shape"], facts["dims"]) == ([23, 5, 7], list(NAMES))
    said("svd", data, out, *asked, "--quiet")
    info = said("info", out)
    assert (info["shape"], info["array_shape"], info["dims"]) == ([23, 35], [23, 5, 7], list(NAMES))
    assert said("verify", out, data)["holds"]
    for name in ("a.npy", "b.zarr"):
        target = tmp_path / name
        assert said("reconstruct", out, str(target), "--rows", "2:9", "--unstack")["shape"] == [7, 5, 7]
        found: Any = np.load(target) if name == "a.npy" else zarr.open_array(target, mode="r")[...]
        factors = bigsvd.open(out)
        np.testing.assert_allclose(found, factors.unstacked(factors[2:9]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": "y", "samples": "x"}, "both say what the samples are"),
        ({"dim": True}, "dim=True is no axis"),
        ({"sum": ""}, "sum='' is no axis"),
    ],
)
def test_what_is_no_axis_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        bigsvd.Request("d", 3, **options)


def test_the_words_of_a_request() -> None:
    assert Axes("rows").of_samples is None
    assert Axes("time").of_samples == "time"
    assert Axes(dim=2).of_samples == 2
