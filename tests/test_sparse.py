"""Sparse matrices in Zarr: read as sparse blocks, and decomposed as the same matrix stored dense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from distributed import Client

import bigsvd
from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.distill.panels import RowPanels
from bigsvd.errors import BadInputError, ChunkCorruptError, ChunkMissingError, MetadataError
from bigsvd.events import Event
from bigsvd.slabs.sparse import SparseBlock
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.laws import SourceLaws
from tests.sparse_groups import counts, write_sparse

M, N = 90, 40
A = counts(M, N)
FORMS = {"csr": A, "csc": A.tocsc()}
MASK = np.random.default_rng(1).random(N) < 0.5


@pytest.fixture(params=["csr", "csc"])
def form(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestSparse(SourceLaws):
    """By rows and by columns, in both formats."""

    @pytest.fixture(params=[2, 3])
    def source(self, tmp_path: Path, form: str, request: pytest.FixtureRequest) -> Source:
        return open_source(write_sparse(tmp_path / "a.zarr", FORMS[form], request.param))

    @pytest.fixture
    def entries(self) -> np.ndarray:
        return np.asarray(A.toarray())


class TestSomeLines(SourceLaws):
    """Rows and columns that are selected."""

    @pytest.fixture
    def source(self, tmp_path: Path, form: str) -> Source:
        path = write_sparse(tmp_path / "a.zarr", FORMS[form])
        return open_source(path, rows=np.arange(0, M, 2), cols=MASK)

    @pytest.fixture
    def entries(self) -> np.ndarray:
        return np.asarray(A.toarray()[::2, MASK])


class TestARange(TestSomeLines):
    """Rows and columns that follow each other."""

    @pytest.fixture
    def source(self, tmp_path: Path, form: str) -> Source:
        return open_source(write_sparse(tmp_path / "a.zarr", FORMS[form]), rows="10:70", cols="5:30")

    @pytest.fixture
    def entries(self) -> np.ndarray:
        return np.asarray(A.toarray()[10:70, 5:30])


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "centred": {"center": True},
    "scaled": {"center": True, "scale": True},
    "by columns": {"center": True, "samples": "columns"},
    "functions": {"functions": ["normalize_total:1e4", "log1p"], "center": True},
    "some genes": {"center": True, "cols": MASK},
    "gram": {"center": True, "method": "gram"},
    "chosen": {"center": True, "method": "auto"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_its_svd_is_that_of_the_dense_matrix(tmp_path: Path, form: str, options: dict[str, Any]) -> None:
    matrix = counts(600, N)
    path = write_sparse(tmp_path / "a.zarr", matrix.asformat(form), chunk=500)
    given: dict[str, Any] = {"method": "krylov", "tol": 1e-8, "memory": "300MB"} | options
    factors = bigsvd.svd(path, 4, tmp_path / "out", **given)
    B = expected(matrix.toarray().astype(float), options)
    U, s, Vt = np.linalg.svd(B, full_matrices=False)
    np.testing.assert_allclose(factors.s, s[:4], rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(factors.Vt[:] * Vt[:4], axis=1)), 1, rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(factors.U[:] * U[:, :4], axis=0)), 1, rtol=1e-6)
    reading = {name: value for name, value in options.items() if name in ("cols", "samples")}
    source = open_source(path, **reading)
    assert verify(factors, source, lambda _: None).findings == ()


def expected(B: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """The matrix as decomposed."""
    if "functions" in options:
        totals = B.sum(axis=1, keepdims=True)
        B = np.log1p(B * 1e4 / np.where(totals == 0, 1, totals))
    if "cols" in options:
        B = B[:, MASK]
    axis = int(options.get("samples") == "columns")
    if options.get("center"):
        B = B - B.mean(axis=axis, keepdims=True)
    if options.get("scale"):
        deviation = B.std(axis=axis, keepdims=True)
        B = B / np.where(deviation > 0, deviation, 1)
    return B


class StoppedError(Exception):
    """Raised by a progress callback to end a run in the middle."""


def stop_after_the_second_pass(event: Event) -> None:
    if event.kind == "pass" and event["name"].endswith("-001"):
        raise StoppedError


def test_a_resumed_run_and_one_on_a_cluster_have_the_same_bits(
    tmp_path: Path, form: str, client: Client
) -> None:
    matrix = sp.random(2000, 300, 0.03, "csr", np.float32, np.random.default_rng(0)).asformat(form)
    path = write_sparse(tmp_path / "a.zarr", matrix, chunk=600)
    options: dict[str, Any] = {"method": "krylov", "center": True, "tol": 1e-3}
    with pytest.raises(StoppedError):
        bigsvd.svd(path, 4, tmp_path / "out", progress=stop_after_the_second_pass, **options)
    resumed = bigsvd.svd(path, 4, tmp_path / "out", **options)
    for other in (bigsvd.svd(path, 4, **options), bigsvd.svd(path, 4, client=client, **options)):
        np.testing.assert_array_equal(resumed.s, other.s)
        np.testing.assert_array_equal(resumed.U[:], other.U[:])


def test_its_panels_take_memory_for_what_is_not_zero(tmp_path: Path, form: str) -> None:
    matrix = sp.random(4000, 4000, 0.01, form, np.float32, np.random.default_rng(0))
    path = write_sparse(tmp_path / "a.zarr", matrix, chunk=10_000)
    sparse, dense = bigsvd.plan(path, 5), bigsvd.plan(np.zeros((4000, 4000), np.float32), 5)
    assert sparse.bytes_per_pass < 0.05 * dense.bytes_per_pass
    assert sparse.transposed == (form == "csc")
    block = open_source(path).block(slice(0, 4000), slice(0, 4000), ReadBuffers())
    assert block.nbytes == pytest.approx(sparse.bytes_per_pass, rel=0.01)
    assert block.nbytes <= 4000 * 4000 * sparse.facts.entry_bytes


def test_lines_that_are_selected_may_be_the_heaviest(tmp_path: Path, form: str) -> None:
    dense = np.zeros((1600, 100), np.float32)
    dense[::16] = np.random.default_rng(0).standard_normal((100, 100))
    heavy = np.arange(0, 1600, 16)
    if form == "csc":
        dense = dense.T.copy()
    path = write_sparse(tmp_path / "a.zarr", sp.csr_matrix(dense).asformat(form), chunk=500)
    source = open_source(path, rows=heavy) if form == "csr" else open_source(path, cols=heavy)
    rows, cols = source.facts.shape
    block = source.block(slice(0, rows), slice(0, cols), ReadBuffers())
    assert block.nbytes <= 1.1 * rows * cols * source.facts.entry_bytes


def test_panels_of_sparse_rows_have_many(tmp_path: Path, form: str) -> None:
    matrix = sp.random(4000, 4000, 0.002, form, np.float32, np.random.default_rng(0))
    facts = open_source(write_sparse(tmp_path / "a.zarr", matrix, chunk=1000)).facts
    assert RowPanels.rows_fitting(facts, 2**26) > 100


def test_entries_in_any_order_and_several_at_a_place_are_added(tmp_path: Path) -> None:
    parts = np.array([1.0, 2.0, 4.0, 8.0]), np.array([2, 0, 2, 1]), np.array([0, 3, 3, 4])
    path = write_sparse(tmp_path / "a.zarr", sp.csr_matrix(parts, shape=(3, 3)))
    block = open_source(path).block(slice(0, 3), slice(0, 3), ReadBuffers())
    assert isinstance(block, SparseBlock)
    assert block.count == 3
    np.testing.assert_array_equal(block.rows(slice(None)), [[2, 0, 5], [0, 0, 0], [0, 8, 0]])


def test_half_floats_are_read_as_float32(tmp_path: Path) -> None:
    group = zarr.open_group(write_sparse(tmp_path / "a.zarr", A))
    group.create_array("data", data=A.data.astype(np.float16), chunks=(100,), overwrite=True)
    source = open_source(tmp_path / "a.zarr")
    assert source.facts.dtype == "float32"
    np.testing.assert_array_equal(source.read(slice(0, M), slice(0, N)), A.toarray())


def test_a_store_with_one_sparse_matrix_is_that(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes={"encoding-type": "anndata"})
    write_sparse(tmp_path / "a.zarr" / "X", A)
    assert open_source(tmp_path / "a.zarr").facts.name == f"{tmp_path}/a.zarr/X"
    assert open_source(zarr.open_group(tmp_path / "a.zarr")).facts.shape == (M, N)


IN_MEMORY: dict[str, Any] = {
    "csr": A,
    "csc": A.tocsc(),
    "coo": A.tocoo(),
    "csr array": sp.csr_array(A),
    "Dask of csr": da.from_array(A.toarray(), chunks=(20, N)).map_blocks(sp.csr_matrix),
    "Dask of csr arrays, wide": da.from_array(A.toarray(), chunks=(20, 15)).map_blocks(sp.csr_array),
}


@pytest.mark.parametrize("given", IN_MEMORY.values(), ids=IN_MEMORY)
def test_sparse_matrices_of_scipy_are_read_dense_by_panels(given: Any) -> None:
    source = open_source(given)
    np.testing.assert_array_equal(source.read(slice(10, 50), slice(3, 30)), A.toarray()[10:50, 3:30])
    factors = bigsvd.svd(given, 3, center=True, tol=1e-6)
    np.testing.assert_allclose(
        factors.s, np.linalg.svd(expected(A.toarray(), {"center": True}))[1][:3], rtol=1e-6
    )


BROKEN: dict[str, tuple[str, Any, type[BadInputError], str]] = {
    "a row too few": ("indptr", A.indptr[:-1], MetadataError, "has 90 entries for 90 rows"),
    "falling": ("indptr", A.indptr[::-1], MetadataError, "indptr from .* to 0, not ascending"),
    "columns lost": ("indices", A.indices[:-3], MetadataError, "data, .* indices"),
}


@pytest.mark.parametrize(("part", "values", "error", "said"), BROKEN.values(), ids=BROKEN)
def test_parts_that_do_not_fit_are_refused(
    tmp_path: Path, part: str, values: np.ndarray, error: type[BadInputError], said: str
) -> None:
    group = zarr.open_group(write_sparse(tmp_path / "a.zarr", A))
    group.create_array(part, data=values, overwrite=True)
    with pytest.raises(error, match=said):
        open_source(tmp_path / "a.zarr")


def test_a_column_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    group = zarr.open_group(write_sparse(tmp_path / "a.zarr", A))
    columns: Any = group["indices"]
    columns[7] = N
    with pytest.raises(ChunkCorruptError, match=r"indices from 0 to 40 of 40"):
        bigsvd.svd(tmp_path / "a.zarr", 2)


@pytest.mark.parametrize("part", ["data", "indices"])
def test_chunks_that_are_lost_or_damaged_are_named(tmp_path: Path, part: str) -> None:
    path = write_sparse(tmp_path / "a.zarr", A)
    chunk = path / part / "1"
    chunk.write_bytes(b"nonsense")
    with pytest.raises(ChunkCorruptError, match=f"{part}/1"):
        bigsvd.svd(path, 2)
    chunk.unlink()
    with pytest.raises(ChunkMissingError, match=f"{part}/1"):
        bigsvd.svd(path, 2)


def test_no_shape_is_refused(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "a.zarr", A, shape=[90])
    with pytest.raises(MetadataError, match=r"the shape \[90\]"):
        open_source(path)
