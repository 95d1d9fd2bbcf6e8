"""The books of the watchdog: who has not been heard of for too long."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from bigsvd.events import BytesRead, Event, LaneRepeated
from bigsvd.execution.watch import Patience, Watch


@dataclass
class Clock:
    """One that is set by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Books:
    """A watch, its clock, and what it told."""

    lane_seconds: float = 0.0
    clock: Clock = field(default_factory=Clock)
    told: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = Watch(self.told.append, Patience(30.0, self.lane_seconds), self.clock)


@pytest.fixture
def books() -> Books:
    return Books()


def test_a_task_that_says_nothing_is_overdue(books: Books) -> None:
    books.watch.sent("a", 0)
    books.clock.now = 30
    assert not books.watch.suspects()
    books.clock.now = 31
    assert books.watch.suspects()
    assert books.watch.overdue({"w1": ["a", "of another run"]}) == {"a": "w1"}


def test_one_that_no_worker_has_waits_for_one(books: Books) -> None:
    books.watch.sent("a", 0)
    books.clock.now = 100
    assert books.watch.overdue({"w1": []}) == {}


def test_one_that_has_not_begun_is_as_silent_as_its_worker(books: Books) -> None:
    for key, number in (("a", 0), ("b", 1), ("c", 2)):
        books.watch.sent(key, number)
    books.clock.now = 40
    books.watch.heard("a", "w1", None)
    books.clock.now = 50
    assert books.watch.overdue({"w1": ["a", "b"], "w2": ["c"]}) == {"c": "w2"}
    books.clock.now = 71
    assert books.watch.overdue({"w1": ["a", "b"], "w2": ["c"]}) == {"a": "w1", "b": "w1", "c": "w2"}


def test_one_that_has_announced_something_speaks_for_itself(books: Books) -> None:
    for key, number in (("a", 0), ("b", 1)):
        books.watch.sent(key, number)
        books.watch.heard(key, "w1", None)
        books.watch.heard(key, "w1", BytesRead(5))
    books.clock.now = 31
    books.watch.heard("b", "w1", BytesRead(5))
    assert books.watch.overdue({"w1": ["a", "b"]}) == {"a": "w1"}


@pytest.mark.parametrize(("expected", "seen"), [(50, 1), (1, 50)])
def test_where_lanes_take_long_they_may_be_silent_for_long(expected: float, seen: float) -> None:
    books = Books(lane_seconds=expected)
    books.watch.sent("a", 0)
    books.watch.heard("a", "w1", None)
    books.clock.now = seen
    books.watch.ended("a")
    books.watch.sent("b", 1)
    books.clock.now += 100
    assert not books.watch.suspects()
    books.clock.now += 1
    assert books.watch.suspects()


def test_a_call_that_was_sent_again_is_given_twice_the_time(books: Books) -> None:
    books.watch.sent("a", 0)
    books.clock.now = 31
    books.watch.repeated(0)
    books.watch.sent("a again", 0)
    books.clock.now = 90
    assert not books.watch.suspects()
    books.clock.now = 92
    assert books.watch.overdue({"w1": ["a"], "w2": ["a again"]}) == {"a": "w1", "a again": "w2"}


def test_what_several_tasks_of_a_call_read_is_told_once(books: Books) -> None:
    for key in ("a", "a again"):
        books.watch.sent(key, 0)
        books.watch.heard(key, "w", None)
    for key, size in (("a", 5), ("a again", 3), ("a again", 4), ("a", 1), ("a", 4)):
        books.watch.heard(key, "w", BytesRead(size))
    assert sum(event.bytes for event in books.told if isinstance(event, BytesRead)) == 10
    books.watch.heard("a", "another", None)  # Dask has given it to another worker
    books.watch.heard("a", "another", BytesRead(10))
    books.watch.heard("a", "another", LaneRepeated(0, "full"))
    assert sum(event.bytes for event in books.told if isinstance(event, BytesRead)) == 10
    assert books.told[-1] == LaneRepeated(0, "full")
    books.watch.forgotten("a")
    books.watch.heard("a", "w", BytesRead(100))
    assert books.told[-1] == LaneRepeated(0, "full")
