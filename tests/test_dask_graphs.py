"""Dask graphs as they are: computed where they lie, what blocks share once, never more held than planned."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client, wait

import bigsvd
from bigsvd.errors import MemoryBudgetError, SourceError
from bigsvd.execution import dask_executor
from bigsvd.facts import SourceFacts
from bigsvd.sources.open import open_source
from tests.clusters import own_cluster, worker_processes

M, N = 240, 30
A = np.random.default_rng(0).standard_normal((M, N)) @ np.diag(np.linspace(5, 0.1, N))
SIGMA = np.linalg.svd(A, compute_uv=False)
ROWS = slice(0, M)
COLS = slice(0, N)
AWAITED = threading.Event()


def when_awaited(block: np.ndarray) -> np.ndarray:
    """The block, once somebody awaits it."""
    assert AWAITED.wait(30)
    return block


class Counted:
    """An array that cannot be pickled and counts how often its rows are read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, 2
        self.rows = 0

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        found: np.ndarray = self.values[key]
        self.rows += found.shape[0]
        return found

    def __reduce__(self) -> Any:
        message = "an open handle"
        raise TypeError(message)


@pytest.fixture(scope="module")
def processes() -> Iterator[Client]:
    with worker_processes(1) as client:
        yield client


def graphs(folder: Path) -> dict[str, Any]:
    """Arrays whose blocks need one source chunk, several, or all."""
    stored = zarr.create_array(folder / "a.zarr", data=A, chunks=(20, N))
    d = da.from_zarr(stored)
    order = np.random.default_rng(1).permutation(M)
    deeper = da.from_array(A.reshape(M, 5, 6), chunks=(50, 5, 2)).reshape(M, N)
    return {
        "stored": (d, A),
        "rechunked": (d.rechunk((M, 7)), A),
        "shuffled": (d[order], A[order]),
        "reshaped": (deeper, A),
        "centred": (d - d.mean(0), A - A.mean(0)),
        "standardised": ((d - d.mean(0)) / d.std(0), (A - A.mean(0)) / A.std(0)),
        "lines and columns": (d.rechunk((50, 8)) - d.mean(1, keepdims=True), A - A.mean(1, keepdims=True)),
        "product": (d @ (d.T @ d), A @ (A.T @ A)),
        "overlapping": (da.concatenate([d, d + 1]), np.concatenate([A, A + 1])),
        "transposed": (d.T, A.T),
    }


@pytest.mark.parametrize("name", [
    "stored", "rechunked", "shuffled", "reshaped", "centred", "standardised",
    "lines and columns", "product", "overlapping", "transposed",
])  # fmt: skip
def test_any_rectangle_of_any_graph_is_what_dask_computes(name: str, tmp_path: Path) -> None:
    array, expected = graphs(tmp_path)[name]
    source, sent = open_source(array), open_source(array).sent()
    m, n = expected.shape
    for rectangle in [
        (slice(0, m), slice(0, n)),
        (slice(m // 3, m // 2), slice(0, n)),
        (slice(0, m), slice(n // 3, n - 1)),
        (slice(m - 1, m), slice(n - 1, n)),
    ]:
        block = source.read(*rectangle)
        np.testing.assert_array_equal(block, array[rectangle].compute(scheduler="sync"))
        np.testing.assert_allclose(block, expected[rectangle], rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(sent.part([rectangle]).read(*rectangle), block)


def test_what_all_blocks_share_is_computed_once() -> None:
    handle = Counted(A)
    d = da.from_array(handle, chunks=(20, N))
    source = open_source((d - d.mean(0)) / d.std(0))
    for start in [*range(0, M, 20), *range(0, M, 20)]:
        source.read(slice(start, start + 20), COLS)
    assert handle.rows <= 2 * M + 3 * M  # each block twice, mean, and std with a mean of its own
    assert list(source.shared)
    kept = sum(np.asarray(value).nbytes for value in source.shared.values())
    assert kept <= A.nbytes // 8


def test_source_chunks_that_many_blocks_need_are_not_kept() -> None:
    d = da.from_array(Counted(A), chunks=(20, N))
    source = open_source(d[np.random.default_rng(1).permutation(M)])
    source.read(ROWS, COLS)
    assert sum(np.asarray(value).nbytes for value in source.shared.values()) <= A.nbytes // 8


def test_the_run_reads_standardised_data_once_a_pass_and_the_mean_once() -> None:
    handle = Counted(A)
    d = da.from_array(handle, chunks=(20, N))
    factors = bigsvd.svd(d - d.mean(0), 3, method="krylov")
    passes = factors.provenance["costs"]["passes"]
    assert handle.rows <= (passes + 3) * M  # one for the mean; a rehearsal and the rates read a few blocks
    expected = np.linalg.svd(A - A.mean(0), compute_uv=False)[:3]
    np.testing.assert_allclose(factors.s, expected, rtol=1e-3)


@pytest.mark.parametrize("client_given", [False, True])
def test_a_persisted_array_is_read_on_the_callers_client(client_given: bool) -> None:
    with own_cluster(n_workers=1, threads_per_worker=2, processes=False) as client:
        d = da.from_array(A, chunks=(60, N)).persist()
        options: dict[str, Any] = {"client": client} if client_given else {}
        for array, expected in ((d, SIGMA[:2]), (d * 2, 2 * SIGMA[:2])):
            np.testing.assert_allclose(bigsvd.svd(array, 2, **options).s, expected, rtol=1e-3)


def test_what_is_still_being_persisted_is_awaited_before_lanes_take_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lane that waited for a block in the only thread of a cluster would keep it from being computed."""

    def awaited(futures: Any, *args: Any, **options: Any) -> Any:
        AWAITED.set()
        return wait(futures, *args, **options)

    monkeypatch.setattr(dask_executor, "wait", awaited)
    with own_cluster(n_workers=1, threads_per_worker=1, processes=False) as client:
        pending = da.from_array(A, chunks=(60, N)).map_blocks(when_awaited, meta=A[:0]).persist()
        factors = bigsvd.svd(pending, 2, client=client)
    np.testing.assert_allclose(factors.s, SIGMA[:2], rtol=1e-3)


def test_workers_of_other_processes_get_what_they_need(processes: Client) -> None:
    d = da.from_array(A, chunks=(20, N))
    held = d.persist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        factors = bigsvd.svd(held - held.mean(0) + d.mean(0), 2, client=processes)
    np.testing.assert_allclose(factors.s, SIGMA[:2], rtol=1e-3)


def test_an_open_handle_is_refused_for_workers_of_other_processes(processes: Client, tmp_path: Path) -> None:
    d = da.from_array(Counted(A), chunks=(20, N))
    with pytest.raises(SourceError, match=r"cannot be sent .*an open handle.*; .*run without a client"):
        bigsvd.svd(d, 2, tmp_path / "out", client=processes)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_allclose(bigsvd.svd(d, 2).s, SIGMA[:2], rtol=1e-3)


def test_an_array_in_the_graph_is_not_sent_to_threads_of_this_process() -> None:
    values = np.random.default_rng(0).standard_normal((4000, 400))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Dask warns of large graphs
        bigsvd.svd(da.from_array(values, chunks=(250, 400)), 2, tol=0.9)


def test_a_graph_that_holds_more_than_the_budget_is_stopped_with_the_cure() -> None:
    source = open_source(da.from_array(Counted(A), chunks=(20, N)).rechunk((M, 7)))
    with pytest.raises(MemoryBudgetError, match=r"holds .* kB .* budget is 20.0 kB; .*to_zarr"):
        source.limited(20_000).read(ROWS, slice(0, 7))
    np.testing.assert_array_equal(source.limited(200_000).read(ROWS, slice(0, 7)), A[:, :7])


def test_a_graph_that_needs_more_than_the_budget_is_refused_before_the_run(tmp_path: Path) -> None:
    d = da.from_array(np.ones((1000, 500)), chunks=(100, 500))
    d = d.map_blocks(lambda b: np.concatenate([b] * 300).reshape(300, *b.shape).mean(0), dtype=d.dtype)
    with pytest.raises(MemoryBudgetError, match=r"chunks being decoded .* budget is 100.0 MB; .*to_zarr"):
        bigsvd.svd(d, 2, tmp_path / "out", memory="100MB")
    assert list(tmp_path.iterdir()) == []


def test_what_a_graph_holds_is_in_the_plan() -> None:
    block = 100
    values = np.random.default_rng(0).standard_normal((1000, 500))
    d = da.from_array(values, chunks=(block, 500))
    lean = bigsvd.svd(d, 2, tol=0.9, memory="200MB").provenance["plan"]
    wasteful = d.map_blocks(lambda b: np.concatenate([b] * 20).reshape(20, *b.shape).mean(0), dtype=d.dtype)
    rich = bigsvd.svd(wasteful, 2, tol=0.9, memory="200MB").provenance["plan"]
    more = rich["facts"]["spare_bytes"] + rich["facts"]["spare_ratio"] * block * 500 * 8
    assert more >= 20 * block * 500 * 8
    assert rich["memory"]["chunks being decoded"] > lean["memory"]["chunks being decoded"]
    assert "once the run starts" in str(bigsvd.plan(d, 2))


def test_a_resumed_run_need_not_measure_the_same(tmp_path: Path) -> None:
    facts = open_source(da.from_array(A, chunks=(20, N))).facts
    other = SourceFacts.from_dict(facts.to_dict() | {"reader": "measured", "spare_bytes": 7, "held_bytes": 9})
    assert facts.same_data(other)
    assert not facts.same_data(SourceFacts.from_dict(facts.to_dict() | {"fingerprint": "another"}))


def test_what_a_block_raises_is_named_with_its_type_and_text() -> None:
    def broken(block: np.ndarray) -> np.ndarray:
        message = "no such month"
        raise KeyError(message)

    d = da.from_array(A, chunks=(20, N)).map_blocks(broken, dtype=A.dtype, meta=np.empty((0, 0)))
    with pytest.raises(SourceError, match=r"rows 0:20, .* raised KeyError: .*no such month"):
        bigsvd.svd(d, 2)


@pytest.mark.parametrize("wrong", [lambda b: b[:-1], lambda b: b.astype(complex), lambda b: b.tolist()])
def test_a_block_that_is_not_what_was_announced_is_refused(wrong: Any) -> None:
    d = da.from_array(A[:, :1], chunks=(20, 1))
    d = d.map_blocks(wrong, dtype=np.int8, meta=np.empty((0, 0), np.int8))
    with pytest.raises(SourceError, match="announced"):
        open_source(d).read(ROWS, slice(0, 1))
