"""One thread that writes: it commits all that waits together, and only then answers.

A commit waits for the disk. A hundred jobs that come at once wait for one commit, not for a hundred.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Engine,
    Executable,
    Insert,
    Select,
    Update,
    func,
    select,
)
from sqlalchemy.exc import DBAPIError, OperationalError

from bigsvd.errors import BigsvdError, DiskFullError, StorageError, first_line

_Result = TypeVar("_Result")
_MOST_TOGETHER = 500
_END_SECONDS = 5.0
_COLLIDED = "40"  # how the codes begin by which PostgreSQL gives up one of two transactions


@dataclass(frozen=True)
class Turn:
    """A transaction, and the time at which it is made, by the database's clock."""

    connection: Connection
    now: float
    _made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, make: Callable[[Turn], _Result]) -> _Result:
        """What this makes of the transaction: for all whose works are in it, until one changes something."""
        if make not in self._made:
            self._made[make] = make(self)
        found: _Result = self._made[make]
        return found

    def first(self, query: Select[Any], **given: Any) -> dict[str, Any] | None:
        """The first row that is found, by column; None where there is none."""
        found = self.connection.execute(query, given).mappings().first()
        return None if found is None else dict(found)

    def all(self, query: Select[Any]) -> list[dict[str, Any]]:
        """The rows that are found, by column."""
        return [dict(row) for row in self.connection.execute(query).mappings()]

    def values(self, query: Executable, **given: Any) -> list[Any]:
        """The first column of what is found, or returned for what is written."""
        return list(self.connection.scalars(query, given))

    def count(self, *which: ColumnElement[bool]) -> int:
        """How many rows of a table meet this."""
        return self.connection.scalar(select(func.count()).where(*which)) or 0

    def change(self, statement: Insert | Update | Delete) -> int:
        """How many rows are written, or deleted, by this."""
        self._made.clear()
        return int(self.connection.execute(statement).rowcount)


Work = Callable[[Turn], Any]


@dataclass(frozen=True)
class _Waiting:
    """What is to be written, and who waits for it."""

    work: Work
    future: Future[Any]


class Writer:
    """Writes for everybody; a context manager, which ends when all that waits is written.

    A work may raise a `BigsvdError` before it has written anything: then it is refused, and the others are
    not. It may be made twice, where the database does not say whether it has committed.
    """

    def __init__(self, engine: Engine, clock: Callable[[Connection], float]) -> None:
        self._engine = engine
        self._clock = clock
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="bigsvd-writer", daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join(_END_SECONDS)  # a database that does not answer holds up no end

    def submit(self, work: Callable[[Turn], _Result]) -> Future[_Result]:
        """Have it written; the future has its result once that is committed.

        Its error is a `BigsvdError` that it has raised, or `StorageError` where the database has failed.
        """
        future: Future[_Result] = Future()
        self._queue.put(_Waiting(work, future))
        return future

    def write(self, work: Callable[[Turn], _Result]) -> _Result:
        """The same, when it is done."""
        return self.submit(work).result()

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            waiting = [self._queue.get(), *self._more()]
            goes_on = None not in waiting
            taken = [each for each in waiting if each is not None]
            self._serve([each for each in taken if each.future.set_running_or_notify_cancel()])

    def _more(self) -> Iterator[_Waiting | None]:
        """What else waits now."""
        for _ in range(_MOST_TOGETHER):
            try:
                yield self._queue.get_nowait()
            except Empty:
                return

    def _serve(self, waiting: Sequence[_Waiting]) -> None:
        """All in one transaction; where that fails each in its own, so that one spoils none of the others."""
        if not waiting:
            return
        try:
            outcomes = self._together([each.work for each in waiting])
        except Exception as error:  # noqa: BLE001 - whoever waits is to have it
            self._serve_without(error, waiting)
        else:
            for each, outcome in zip(waiting, outcomes, strict=True):
                _answer(each.future, outcome)

    def _serve_without(self, error: Exception, waiting: Sequence[_Waiting]) -> None:
        """Each in a transaction of its own, where one of several may have spoiled that of all."""
        if len(waiting) == 1 or _is_down(error):
            for each in waiting:
                each.future.set_exception(told(error))
        else:
            for each in waiting:
                self._serve([each])

    def _together(self, works: Sequence[Work]) -> list[Any]:
        with self._engine.begin() as connection:
            turn = Turn(connection, self._clock(connection))
            return [_outcome(work, turn) for work in works]


def _is_down(error: Exception) -> bool:
    """Whether the database does not work at all; not so where transactions of two servers have collided."""
    code = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return isinstance(error, OperationalError) and not code.startswith(_COLLIDED)


def _outcome(work: Work, turn: Turn) -> Any:
    """What a work returns, or by which error it is refused."""
    try:
        return work(turn)
    except BigsvdError as error:
        return error


def _answer(future: Future[Any], outcome: Any) -> None:
    if isinstance(outcome, BigsvdError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def told(error: Exception) -> Exception:
    """The `StorageError` that an error of the database is; any other is as it was."""
    if not isinstance(error, DBAPIError):
        return error
    said = first_line(error.orig or error)
    if "full" in said or "No space" in said:
        return DiskFullError(f"the database of the service is full ({said})", "delete results, or make room")
    return StorageError(
        f"the database of the service failed ({said})", "look after the database, then ask again"
    )


@contextmanager
def database_errors() -> Iterator[None]:
    """Turns errors of the database into `StorageError`."""
    try:
        yield
    except DBAPIError as error:
        raise told(error) from error
