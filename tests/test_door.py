"""What is given is asked before it is trusted: refused in a line with what to do, nothing created."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import numpy as np
import pytest
import scipy.sparse as sp
import xarray as xr
import zarr

import bigsvd
from bigsvd.errors import BadInputError, DtypeError, MemoryBudgetError, ShapeError, SourceError
from bigsvd.sources.open import open_source

M, N = 60, 12
A = np.random.default_rng(0).standard_normal((M, N))
CSR = sp.random(M, N, density=0.2, format="csr", random_state=0)
DASK = da.from_array(A, chunks=(20, N))


class Foreign:
    """An array of another library."""

    def __init__(self, shape: Any = (M, N), dtype: Any = "float64", chunks: Any = None) -> None:
        self.shape, self.dtype, self.chunks = shape, dtype, chunks

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        return A[key]


class NoNumpyType:
    """Stands for torch.float32."""


REFUSED: dict[str, tuple[Any, type[BadInputError], str]] = {
    "unknown rows": (DASK[DASK[:, 0] > 0], SourceError, r"unknown; call x.compute_chunk_sizes"),
    "delayed": (dask.delayed(A), SourceError, "from_delayed"),
    "bag": (db.from_sequence([1, 2]), SourceError, "Bag"),
    "dtype of torch": (Foreign(dtype=NoNumpyType()), DtypeError, "none of NumPy's; .*asarray"),
    "no dtype": (Foreign(dtype=None), DtypeError, "none of NumPy's"),
    "complex": (Foreign(dtype="complex128"), DtypeError, "complex128"),
    "three axes": (np.zeros((4, 3, 2)), ShapeError, "name the axis of the samples by dim=AXIS: 0, 1 or 2"),
    "Dask of three axes": (
        da.zeros((4, 3, 2)),
        ShapeError,
        "name the axis of the samples by dim=AXIS: 0, 1 or 2",
    ),
    "one axis": (np.zeros(4), ShapeError, "two axes"),
    "no axes": (np.float64(3), ShapeError, "two axes"),
    "no rows": (np.zeros((0, 3)), ShapeError, "at least one entry"),
    "negative": (Foreign(shape=(-1, 3)), ShapeError, "at least one entry"),
    "fractions": (Foreign(shape=(2.5, 3)), ShapeError, "integers"),
    "Dataset": (xr.Dataset({"t2m": (("a", "b"), A)}), SourceError, "t2m"),
    "list": (A.tolist(), SourceError, r"numpy.array\(x\)"),
    "None": (None, SourceError, "is not a matrix"),
    "bytes": (b"a.zarr", SourceError, "is not a matrix"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_matrix_is_refused_in_one_line_and_nothing_created(name: str, tmp_path: Path) -> None:
    data, kind, said = REFUSED[name]
    with pytest.raises(kind, match=said) as caught:
        bigsvd.svd(data, 2, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_data_frame_is_refused_with_how_to_give_it() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(SourceError, match="to_numpy"):
        open_source(pandas.DataFrame(A))
    with pytest.raises(SourceError, match="to_numpy"):
        open_source(pandas.DataFrame(A)[0])


@pytest.mark.parametrize(
    ("shape", "dtype", "chunks", "expected"),
    [
        ([M, N], "float64", None, (M, N)),
        ((np.int64(M), np.uint8(N)), np.float64, (7, 5), (7, 5)),
        ((M, N), ">f8", ((20, 30, 10), (6, 6)), (30, 6)),
        ((M, N), "f8", (100, 100), (M, N)),
        ((M, N), "f8", (100,), (M, N)),
    ],
)
def test_shapes_types_and_chunks_of_other_libraries_are_understood(
    shape: Any, dtype: Any, chunks: Any, expected: tuple[int, int]
) -> None:
    source = open_source(Foreign(shape, dtype, chunks))
    assert (source.facts.shape, source.facts.dtype) == ((M, N), "float64")
    assert source.facts.chunks == expected
    np.testing.assert_array_equal(source.read(slice(5, 9), slice(0, N)), A[5:9])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (A[:3], "has shape"),
        (A.astype(complex), "has dtype complex128"),
        (CSR[:3], "has shape"),
        (3.0, "has shape"),
    ],
)
def test_a_read_that_gives_something_else_is_refused(found: Any, said: str) -> None:
    class Wrong(Foreign):
        def __getitem__(self, key: Any) -> Any:
            return found

    with pytest.raises(SourceError, match=said):
        open_source(Wrong()).read(slice(0, M), slice(0, N))


def test_a_read_that_raises_is_named_by_type_and_text() -> None:
    class Broken(Foreign):
        def __getitem__(self, key: Any) -> Any:
            message = "tape drive on fire\nsecond line"
            raise RuntimeError(message)

    with pytest.raises(SourceError, match="raised RuntimeError: tape drive on fire") as caught:
        bigsvd.svd(Broken(), 2)
    assert "\n" not in str(caught.value)


# Lazily read arrays


def test_a_lazily_opened_variable_counts_as_what_it_reads(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((2000, 1000))
    encoding = {"v": {"chunks": (2000, 1000)}}
    dataset = xr.DataArray(values, dims=("t", "x"), name="v").to_dataset()
    dataset.to_zarr(tmp_path / "a.zarr", encoding=encoding, consolidated=False)
    lazy = xr.open_zarr(tmp_path / "a.zarr", chunks=None, consolidated=False).v
    for variable, chunks in ((lazy, (2000, 1000)), (lazy.T, (1000, 2000))):
        facts = open_source(variable).facts
        assert (facts.reader, facts.chunks) == ("foreign", chunks)
        with pytest.raises(MemoryBudgetError, match="to_zarr"):
            bigsvd.svd(variable, 3, memory="50MB")
    factors = bigsvd.svd(lazy, 3, memory="200MB", tol=0.9)
    plan = factors.provenance["plan"]
    assert plan["facts"]["reader"] == "measured"
    assert plan["memory"]["chunks being decoded"] >= values.nbytes


def test_arrays_in_memory_are_read_in_place() -> None:
    for data in (A, xr.DataArray(A), xr.Variable(("a", "b"), A), xr.DataArray(A).T):
        facts = open_source(data).facts
        assert facts.reader == "memory"


# Masks


def masked() -> tuple[np.ma.MaskedArray[Any, Any], np.ndarray]:
    mask = np.random.default_rng(1).random((M, N)) < 0.1
    hidden = np.where(mask, 1e20, A)
    return np.ma.MaskedArray(hidden, mask), np.where(mask, np.nan, A)


@pytest.mark.parametrize("missing", ["mean", "zero"])
def test_what_a_mask_hides_is_missing(missing: str) -> None:
    data, expected = masked()
    wanted = bigsvd.svd(expected, 3, missing=missing).s
    late = da.from_array(expected, chunks=(20, N)).map_blocks(
        np.ma.masked_invalid, dtype=expected.dtype, meta=np.empty((0, 0))
    )
    for given in (data, da.from_array(data, chunks=(20, N)), late):
        np.testing.assert_allclose(bigsvd.svd(given, 3, missing=missing).s, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "floating"), [("int8", "float32"), ("int32", "float64"), ("float32", "float32")]
)
def test_masked_integers_become_the_floats_that_hold_them(dtype: str, floating: str) -> None:
    data = np.ma.masked_equal(np.arange(M * N).reshape(M, N).astype(dtype), 5)
    for given in (data, da.from_array(data, chunks=(20, N))):
        source = open_source(given, missing="mean")
        assert (source.facts.dtype, source.facts.masked) == (floating, True)
        block = source.read(slice(0, M), slice(0, N))
        np.testing.assert_array_equal(np.isnan(block), np.ma.getmaskarray(data))
        np.testing.assert_array_equal(block[~np.isnan(block)], data.compressed())


def test_masks_are_refused_where_missing_is_not_said() -> None:
    data, _expected = masked()
    announced = da.from_array(data, chunks=(20, N))
    unannounced = DASK.map_blocks(lambda b: np.ma.masked_less(b, 0), dtype=A.dtype, meta=np.empty((0, 0)))
    for given in (data, announced, unannounced):
        with pytest.raises(SourceError, match=r"mask.*missing='mean'"):
            bigsvd.svd(given, 2)


def test_a_mask_that_hides_nothing_is_no_mask() -> None:
    unmasked = DASK.map_blocks(np.ma.MaskedArray, dtype=A.dtype, meta=np.empty((0, 0)))
    for given in (np.ma.MaskedArray(A), np.ma.MaskedArray(A, np.zeros(A.shape, bool)), unmasked):
        np.testing.assert_array_equal(open_source(given).read(slice(0, M), slice(0, N)), A)


def test_integers_whose_mask_nobody_announced_are_refused() -> None:
    late = da.ones((M, N), dtype=int, chunks=(20, N)).map_blocks(
        lambda b: np.ma.masked_equal(b, 1), dtype=int, meta=np.empty((0, 0), int)
    )
    with pytest.raises(SourceError, match="astype"):
        open_source(late, missing="mean").read(slice(0, M), slice(0, N))


def test_masked_rows_are_not_projected() -> None:
    factors = bigsvd.svd(A, 3)
    with pytest.raises(BadInputError, match="masked"):
        factors.project(np.ma.masked_less(A, 0))
    np.testing.assert_array_equal(factors.project(np.ma.MaskedArray(A)), factors.project(A))


# Groups


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_of_a_group_the_largest_matrix_is_named(zarr_format: Any, consolidated: bool, tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "era.zarr", zarr_format=zarr_format)
    group.create_array("lat", data=np.arange(20.0))
    group.create_array("names", data=np.zeros((500, 500), complex))
    group.create_array("time", data=np.arange(3000.0))
    group.create_group("deep").create_array("t2m", data=np.eye(30, 20))
    group.create_array("small", data=np.eye(3, 2))
    if consolidated:
        zarr.consolidate_metadata(tmp_path / "era.zarr")
    for given in (tmp_path / "era.zarr", zarr.open_group(tmp_path / "era.zarr", mode="r")):
        with pytest.raises(
            SourceError, match=r"arrays deep/t2m \(30x20 float64\), .*such as .*era\.zarr/deep/t2m$"
        ):
            open_source(given)


def test_sparse_matrices_of_anndata_are_named(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "ad.zarr", attributes={"encoding-type": "anndata"})
    for name, kind in (("X", "csr_matrix"), ("layers/counts", "coo_matrix")):
        sparse = group.create_group(name, attributes={"encoding-type": kind, "shape": [30, 20]})
        for part in ("data", "indices", "indptr"):
            sparse.create_array(part, data=np.arange(4))
    said = r"sparse X \(csr_matrix\), layers/counts \(coo_matrix\); .*such as .*ad.zarr/X"
    with pytest.raises(SourceError, match=said):
        open_source(tmp_path / "ad.zarr")
    with pytest.raises(SourceError, match=r"sparse layers/counts|store it as one of csr_matrix, csc_matrix"):
        open_source(tmp_path / "ad.zarr" / "layers" / "counts")
    with pytest.raises(ShapeError, match="part of a sparse matrix; then give its group"):
        open_source(tmp_path / "ad.zarr" / "X" / "data")
    group.create_array("obsm/dense", data=np.eye(30, 20))
    with pytest.raises(SourceError, match=r"obsm/dense .* and the sparse X .*such as .*ad.zarr/X"):
        open_source(tmp_path / "ad.zarr")


def test_a_group_of_arrays_of_more_axes_says_how_to_make_a_matrix(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array("call_genotype", data=np.zeros((10, 6, 2), np.int8))
    with pytest.raises(ShapeError, match=r"call_genotype has shape \(10, 6, 2\); .*by dim=AXIS: 0, 1 or 2"):
        open_source(tmp_path / "g.zarr")
    group.create_array("call_mask", data=np.zeros((10, 6, 1), np.int8))
    with pytest.raises(SourceError, match=r"such as .*/call_genotype, and the axis of its samples by dim="):
        open_source(tmp_path / "g.zarr")


def test_a_group_of_very_many_arrays_is_not_looked_through(tmp_path: Path) -> None:
    folder = tmp_path / "g.zarr"
    zarr.create_group(folder)
    zarr.create_array(folder / "a0000", data=A)
    text = (folder / "a0000" / "zarr.json").read_text()
    for i in range(1, 300):
        (folder / f"a{i:04d}").mkdir()
        (folder / f"a{i:04d}" / "zarr.json").write_text(text)
    with pytest.raises(SourceError, match=r"and 94 more \(200 further members were not looked at\)"):
        open_source(folder)


def test_chunks_of_varying_sizes_are_refused(tmp_path: Path) -> None:
    if not hasattr(zarr.config, "get") or zarr.config.get("array.rectilinear_chunks", None) is None:
        pytest.skip("this version of zarr has none")
    with zarr.config.set({"array.rectilinear_chunks": True}):
        chunks: Any = [[10, 20, 30], [7, 5]]
        zarr.create_array(tmp_path / "r.zarr", shape=(M, N), dtype="f8", chunks=chunks)
        with pytest.raises(SourceError, match=r"varying sizes.*; store it again"):
            open_source(tmp_path / "r.zarr")
