"""Laws that every object of a kind obeys, as classes: a test file subclasses one and gives the object."""

from __future__ import annotations

import json
import pickle
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zarr

import bigsvd
from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.errors import DeviceError, RequestError, travels
from bigsvd.events import BytesRead, Event, SampleTaken
from bigsvd.execution.executor import Call, Executor, announce, results_of, with_source
from bigsvd.facts import SourceFacts
from bigsvd.request import Request
from bigsvd.slabs.slab import Slab
from bigsvd.sources.base import Rectangle, Source
from bigsvd.sources.open import open_source

CALLS = 12
A = np.random.default_rng(0).standard_normal((60, 8))


@travels
def noted(folder: Path, number: int, failing: int) -> int:
    """Leave a file that says so, announce it, and wait until a file says that all may end; one call fails."""
    (folder / f"begun-{number}").touch()
    if number == failing:
        raise RequestError(f"call {number} fails", "nothing")
    while not (folder / "stop").exists():
        time.sleep(0.005)
    (folder / f"ended-{number}").touch()
    return number


def meet(folder: Path, number: int) -> int:
    """Wait until as many calls are under way as there are."""
    (folder / f"begun-{number}").touch()
    while numbers(folder, "begun") != {0, 1}:
        time.sleep(0.005)
    return number


def squared(number: int) -> int:
    """A call that announces what it does."""
    announce(BytesRead(number))
    return number**2


def let_end(folder: Path) -> str:
    """Let all calls end that wait; the name of the folder."""
    (folder / "stop").touch()
    return str(folder)


def first_rows(source: Source, count: int) -> np.ndarray:
    """What a call reads of a source."""
    return source.fresh().read(slice(0, count), slice(0, source.facts.shape[1]))


def numbers(folder: Path, kind: str) -> set[int]:
    """Of which calls there is a file of that kind."""
    return {int(path.name.split("-")[1]) for path in folder.glob(f"{kind}-*")}


class ExecutorLaws:
    """What `execution.executor.Executor` promises; a subclass has a fixture `executor`, of two threads."""

    def test_each_call_gives_its_result(self, executor: Executor) -> None:
        assert results_of(executor, [Call(squared, (i,)) for i in range(CALLS)]) == [
            i**2 for i in range(CALLS)
        ]

    def test_no_calls_are_no_failure(self, executor: Executor) -> None:
        assert results_of(executor, []) == []

    def test_results_are_taken_once_by_the_caller(self, executor: Executor) -> None:
        taken: list[tuple[int, int, int]] = []
        executor.carry_out(
            [Call(squared, (i,)) for i in range(CALLS)],
            lambda number, result: taken.append((number, result, threading.get_ident())),
        )
        assert sorted(taken) == [(i, i**2, threading.get_ident()) for i in range(CALLS)]

    def test_what_calls_announce_is_told(self, executor: Executor) -> None:
        told: list[Event] = []
        all_told = threading.Event()

        def listen(event: Event) -> None:
            told.append(event)
            if len(told) == CALLS:
                all_told.set()

        executor.carry_out([Call(squared, (i,)) for i in range(CALLS)], lambda *_: None, listen)
        assert all_told.wait(30)
        assert {event.bytes for event in told if isinstance(event, BytesRead)} == set(range(CALLS))

    def test_what_nobody_listens_to_is_no_failure(self) -> None:
        announce(SampleTaken(3))

    def test_after_an_error_nothing_is_begun_and_nothing_runs(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        calls = [Call(noted, (tmp_path, number, 0)) for number in range(CALLS)]
        with pytest.raises(RequestError, match="call 0 fails"):
            executor.carry_out(calls, lambda *_: None, stop=Call(let_end, (tmp_path,)))
        begun = numbers(tmp_path, "begun")
        assert numbers(tmp_path, "ended") == begun - {0}
        assert len(begun) < CALLS
        assert results_of(executor, [Call(squared, (3,))]) == [9]
        assert numbers(tmp_path, "begun") == begun

    def test_an_error_of_who_takes_ends_it_too(self, executor: Executor, tmp_path: Path) -> None:
        def refuse(number: int, result: int) -> None:
            raise KeyboardInterrupt(number, result)

        calls = [Call(squared, (0,)), *(Call(noted, (tmp_path, number, -1)) for number in range(1, CALLS))]
        with pytest.raises(KeyboardInterrupt):
            executor.carry_out(calls, refuse, stop=Call(let_end, (tmp_path,)))
        assert numbers(tmp_path, "ended") == numbers(tmp_path, "begun")

    def test_what_a_listener_raises_ends_it(self, executor: Executor, tmp_path: Path) -> None:
        def refuse(event: Event) -> None:
            raise ZeroDivisionError(event)

        calls = [Call(squared, (0,)), *(Call(noted, (tmp_path, number, -1)) for number in range(1, CALLS))]
        with pytest.raises(ZeroDivisionError):
            executor.carry_out(calls, lambda *_: None, refuse, Call(let_end, (tmp_path,)))
        assert numbers(tmp_path, "ended") == numbers(tmp_path, "begun")

    def test_dask_computes_by_a_client(self, executor: Executor) -> None:
        with executor.dask_client() as client:
            assert client.submit(squared, 3).result() == 9

    def test_everywhere_is_in_each_process(self, executor: Executor, tmp_path: Path) -> None:
        assert set(executor.everywhere(let_end, tmp_path)) == {str(tmp_path)}

    @pytest.mark.parametrize("device", ["auto", "cpu", "gpu"])
    def test_machines_are_as_asked_for_the_best_first(self, executor: Executor, device: Any) -> None:
        try:
            offers = executor.machines(Request("d", 1, memory=10**8, device=device))
        except DeviceError:
            assert device == "gpu"
            return
        kinds = [offer.machine.has_own_memory for offer in offers]
        assert kinds in {"auto": [[True, False], [False]], "cpu": [[False]], "gpu": [[True]]}[device]
        for machine, found in ((offer.machine, offer.device) for offer in offers):
            assert (machine.device, machine.has_own_memory) == (found.name, found.has_own_memory)
            assert machine.budget_bytes == 10**8
            assert machine.threads >= 1
            assert (machine.device_budget_bytes > 0) == machine.has_own_memory

    def test_unless_told_a_run_takes_a_part_of_memory(self, executor: Executor) -> None:
        budget_bytes = executor.machines(Request("d", 1, device="cpu"))[0].machine.budget_bytes
        assert 0 < budget_bytes < psutil.virtual_memory().total

    def test_calls_read_what_was_sent_of_a_source(self, executor: Executor, tmp_path: Path) -> None:
        zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(20, 8))
        source = executor.reach(open_source(tmp_path / "a.zarr"))
        part = executor.part(source, [(slice(0, 30), slice(0, 8))])
        [rows] = results_of(executor, [Call(with_source, (first_rows, part.source, part.values, 30))])
        np.testing.assert_array_equal(rows, A[:30])

    @pytest.mark.parametrize("method", ["krylov", "compressed"])
    def test_for_a_run_it_carries_out_as_many_at_a_time_as_planned(
        self, executor: Executor, tmp_path: Path, method: Any
    ) -> None:
        plan = replace(bigsvd.plan(A, 2, method=method, device="cpu"), threads=2)
        with executor.for_run(plan) as running:
            calls = [Call(meet, (tmp_path, number)) for number in range(2)]
            assert results_of(running, calls) == [0, 1]


RECTANGLES = 5


def rectangles(shape: tuple[int, int]) -> list[Rectangle]:
    """The whole matrix, a row, a column, an entry in the corner, and some at random."""
    m, n = shape
    random = np.random.default_rng(0)
    found = [(slice(0, m), slice(0, n)), (slice(0, 1), slice(0, n)), (slice(0, m), slice(n - 1, n))]
    found.append((slice(m - 1, m), slice(n - 1, n)))
    for _ in range(RECTANGLES):
        (top, bottom), (left, right) = (np.sort(random.integers(0, length, 2)) for length in shape)
        found.append((slice(int(top), int(bottom) + 1), slice(int(left), int(right) + 1)))
    return found


def most_bytes(source: Source, entries: np.ndarray) -> int:
    """Of a block with these entries; a sparse one has places too, and its parts begin at words."""
    if not source.facts.is_sparse:
        return entries.nbytes
    stored = int(np.count_nonzero(entries))
    return 4 * (max(map(int, entries.shape)) + 1) + (4 + entries.itemsize) * stored + 16


class SourceLaws:
    """What `bigsvd.sources.base.Source` promises; a subclass has the fixtures `source` and its `entries`."""

    def test_a_rectangle_is_that_of_numpy(self, source: Source, entries: np.ndarray) -> None:
        for rectangle in rectangles(entries.shape):
            found = source.read(*rectangle)
            assert found.dtype == np.dtype(source.facts.dtype)
            assert found.dtype.isnative
            np.testing.assert_array_equal(found, entries[rectangle])

    def test_memory_may_be_used_again(self, source: Source, entries: np.ndarray) -> None:
        space = ReadBuffers()
        for rectangle in rectangles(entries.shape):
            np.testing.assert_array_equal(source.read(*rectangle, space), entries[rectangle])

    def test_a_block_has_the_rows_and_is_as_large_as_it_says(
        self, source: Source, entries: np.ndarray
    ) -> None:
        for rows, cols in rectangles(entries.shape):
            block, expected = source.block(rows, cols, ReadBuffers()), entries[rows, cols]
            assert block.shape == expected.shape
            assert block.T.shape == expected.T.shape
            assert block.nbytes <= most_bytes(source, expected)
            np.testing.assert_array_equal(block.rows(slice(None)), expected)
            np.testing.assert_array_equal(block.T.rows(slice(None)), expected.T)
            np.testing.assert_array_equal(block.rows(slice(0, 1)), expected[:1])

    def test_a_block_that_was_moved_is_the_same(self, source: Source, entries: np.ndarray) -> None:
        for rows, cols in rectangles(entries.shape):
            block = source.block(rows, cols, ReadBuffers())
            moved = block.moved(np.ascontiguousarray).moved(np.copy)
            assert moved.checksum() == block.checksum() == block.T.checksum()
            np.testing.assert_array_equal(moved.rows(slice(None)), entries[rows, cols])

    def test_a_pickled_copy_reads_the_same(self, source: Source, entries: np.ndarray) -> None:
        copy = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own
        assert (copy.facts, copy.orientation) == (source.facts, source.orientation)
        for rectangle in rectangles(entries.shape):
            np.testing.assert_array_equal(copy.read(*rectangle), entries[rectangle])
        assert copy.counters.filled_chunks == 0

    def test_a_fresh_one_reads_the_same_and_keeps_its_own_books(
        self, source: Source, entries: np.ndarray
    ) -> None:
        source.counters.retries = 7
        fresh = source.fresh()
        assert fresh.facts == source.facts
        assert fresh.counters.retries == 0
        assert source.counters.retries == 7
        for rectangle in rectangles(entries.shape):
            np.testing.assert_array_equal(fresh.read(*rectangle), entries[rectangle])

    def test_a_part_reads_its_rectangles(self, source: Source, entries: np.ndarray) -> None:
        for rectangle in rectangles(entries.shape):
            part = source.part([rectangle]).given({})
            np.testing.assert_array_equal(part.read(*rectangle), entries[rectangle])

    def test_facts_are_known_before_anything_is_read(self, source: Source, entries: np.ndarray) -> None:
        facts = source.facts
        assert facts.shape == entries.shape
        assert facts.dtype == entries.dtype.name
        assert facts.nbytes == entries.nbytes
        assert all(1 <= chunk <= length for chunk, length in zip(facts.chunks, facts.shape, strict=True))
        assert SourceFacts.from_dict(json.loads(json.dumps(facts.to_dict()))) == facts

    def test_stamps_do_not_change_while_nobody_writes(self, source: Source, entries: np.ndarray) -> None:
        for rectangle in rectangles(entries.shape):
            assert source.stamp(*rectangle) == source.fresh().stamp(*rectangle)


@dataclass(frozen=True, eq=False)
class MadeSlab:
    """A slab, and the numbers (r, c) that it must stand for."""

    slab: Slab
    expected: np.ndarray


class SlabLaws:
    """What `bigsvd.slabs.slab.Slab` promises; a subclass has the fixture `made`, in float64."""

    def test_it_has_the_entries_of_its_place(self, made: MadeSlab) -> None:
        slab, expected = made.slab, made.expected
        np.testing.assert_allclose(host(slab, slab.to_array()), expected, atol=1e-12)
        assert (slab.rows.stop - slab.rows.start, slab.cols.stop - slab.cols.start) == expected.shape
        assert slab.squares() == pytest.approx(np.sum(expected**2))

    def test_products_are_those_of_its_array(self, made: MadeSlab) -> None:
        slab, B = made.slab, made.expected
        random, device = np.random.default_rng(2), made.slab.entries.device
        Q, Y = random.standard_normal((B.shape[1], 3)), random.standard_normal((B.shape[0], 3))
        q, y = device.to_device(Q), device.to_device(Y)
        np.testing.assert_allclose(host(slab, slab.times(q)), B @ Q, atol=1e-10)
        np.testing.assert_allclose(host(slab, slab.adjoint_times(y)), B.T @ Y, atol=1e-10)
        np.testing.assert_allclose(host(slab, slab.transposed_adjoint_times(y)), Y.T @ B, atol=1e-10)
        np.testing.assert_allclose(host(slab, slab.gram()), B.T @ B, atol=1e-10)


def host(slab: Slab, array: Any) -> np.ndarray:
    """An array of a slab's device as NumPy's."""
    return slab.entries.device.to_host(array)
