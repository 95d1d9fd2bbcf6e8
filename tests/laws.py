"""Laws that every object of a kind obeys, as classes: a test file subclasses one and gives the object."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from bigsvd.errors import RequestError, travels
from bigsvd.events import BytesRead, Event, SampleTaken
from bigsvd.executor import Call, Executor, announce, results_of

CALLS = 12


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


def squared(number: int) -> int:
    """A call that announces what it does."""
    announce(BytesRead(number))
    return number**2


def let_end(folder: Path) -> str:
    """Let all calls end that wait; the name of the folder."""
    (folder / "stop").touch()
    return str(folder)


def numbers(folder: Path, kind: str) -> set[int]:
    """Of which calls there is a file of that kind."""
    return {int(path.name.split("-")[1]) for path in folder.glob(f"{kind}-*")}


class ExecutorLaws:
    """What `bigsvd.executor.Executor` promises; a subclass has a fixture `executor`, of two threads."""

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
