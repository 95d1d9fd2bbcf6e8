"""The index: every job that was taken in, found by id, owner, state, label or text; and the queue's wishes.

What it says of a job is what the record beside the output said a moment ago. What it decides itself is who
is taken in, in which order they come, and what somebody wishes of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, delete, exists, func, select

from bigsvd.errors import RequestError, StateError
from bigsvd.jobs.job import Job
from bigsvd.jobs.record import new_id
from bigsvd.service.logs import tell_of_job
from bigsvd.service.queue.admission import Admission, Admitted
from bigsvd.service.queue.line import AT_WORK, Line
from bigsvd.service.queue.rows import JobPage, JobQuery, JobRow, NewJob
from bigsvd.service.queue.wishes import wished
from bigsvd.service.settings import Limits
from bigsvd.service.store.database import Database
from bigsvd.service.store.tables import jobs, labels, of_job, row_of
from bigsvd.service.store.writer import Turn

Hook = Callable[[], None]
Verb = Literal["stop", "cancel", "resume"]
_FRESH_SECONDS = 0.25  # for which an order of the line is good enough
_COMMIT_SECONDS = 1.0  # from the moment that a row bears until others see it


@dataclass(frozen=True)
class QueueFacts:
    """How the queue stands.

    Attributes:
        states: how many jobs are in each. oldest_waiting_seconds: since the first of those in line was taken
            in; oldest_silent_seconds: since the lease ran out of whatever server has been gone longest.

    """

    states: dict[str, int]
    oldest_waiting_seconds: float
    oldest_silent_seconds: float

    @classmethod
    def now(cls, turn: Turn) -> QueueFacts:
        """As it stands."""
        counts = select(jobs.c.state, func.count().label("number")).group_by(jobs.c.state)
        states = {row["state"]: row["number"] for row in turn.all(counts)}
        waiting = _oldest(turn, jobs.c.created, "line")
        return cls(states, waiting, _oldest(turn, jobs.c.lease, *AT_WORK))


class Index:
    """The jobs in the tables of a database.

    `changed` is called whenever something is there to do for whoever runs them.
    """

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        self._line = _Looked(self._look_at_line)
        self.changed: Hook = _nothing

    def add(self, new: NewJob) -> Future[tuple[JobRow, bool]]:
        """Take a job in; when that is on the disk, the job, and whether it was made now.

        The same key with the same body is the same job; so is the same request to the same output while that
        goes on, or when it is done and its result is there.

        The future raises:
            KeyReusedError: the key was another body's. OutputBusyError: a job of another request writes the
            output. QuotaError: the owner has too many that have not ended. StorageError: see `Writer`.

        Raises:
            JobError: the terms are none.

        """
        admission = Admission.of(new_id(), new, self._limits.queued_jobs)
        answer: Future[tuple[JobRow, bool]] = Future()
        written = self._database.writer.submit(admission.write)
        written.add_done_callback(lambda done: self._answer(answer, done))
        return answer

    def _answer(self, answer: Future[tuple[JobRow, bool]], done: Future[Admitted]) -> None:
        """Pass on what was written, with its place in line."""
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(self._placed(*done.result()))
        except Exception as error:  # noqa: BLE001 - it is whoever waits that is to have it
            answer.set_exception(error)
        self.changed()

    def _placed(self, row: dict[str, Any], line: Line | None) -> tuple[JobRow, bool]:
        """With its place in line."""
        if line is None:
            return self._row(row, time.time()), False
        tell_of_job(row["id"], row)
        return JobRow.of(row, line, line.moment), True

    def job(self, job: str) -> JobRow:
        """That of this id; `JobError` where there is none."""
        with self._database.reading() as turn:
            return self._row(row_of(turn, job), turn.now)

    def jobs(self, query: JobQuery) -> JobPage:
        """A page of those that are asked for.

        Whoever follows the cursors sees each job once, whatever is taken in or deleted meanwhile.

        Raises:
            RequestError: the limit or the cursor is none.

        """
        limit, before = self._limit(query.limit), _place_of(query.cursor)
        which = _conditions(query)
        page = select(jobs).where(*which, *before).order_by(jobs.c.seq.desc()).limit(limit + 1)
        with self._database.reading() as turn:
            found, total = turn.all(page), turn.count(jobs.c.seq > 0, *which)
        rows = tuple(self._row(row, turn.now) for row in found[:limit])
        more = str(found[limit - 1]["seq"]) if len(found) > limit else None
        return JobPage(rows, more, total)

    def wish(self, job: str, verb: Verb, *, drop: bool = False) -> JobRow:
        """Have it published after this pass, cancelled, or gone on with; `drop` deletes scratch too.

        It is written down when this returns, and done soon after: a job is "cancelled" when its last lane has
        stopped.

        Raises:
            JobError: there is no such job. StateError: it is not in a state for that. OutputBusyError: it is
                to go on, and another writes its output.

        """
        self._database.writer.write(lambda turn: wished(turn, job, verb, drop=drop))
        self._line.forget()
        self.changed()
        return self.job(job)

    def forget(self, job: str) -> None:
        """Delete the record and all that is known of a job that has ended; its result stays.

        Raises:
            JobError: there is no such job. StateError: it has not ended.

        """
        found = self.job(job)
        if not found.has_ended:
            raise StateError(f"job {job} is {found.state}", "cancel it first")
        if found.record is not None:
            _forget_record(Job(found.out))
        ended = jobs.c.stage == "ended"
        deleted = delete(jobs).where(of_job(job), ended)
        self._database.writer.write(lambda turn: turn.change(deleted))

    def facts(self) -> QueueFacts:
        """How the queue stands."""
        with self._database.reading() as turn:
            return QueueFacts.now(turn)

    def _row(self, row: dict[str, Any], now: float) -> JobRow:
        return JobRow.of(row, self._line_of(row), now)

    def _line_of(self, row: dict[str, Any]) -> Line:
        """The line that a job is in; none if it is in none."""
        if row["stage"] != "line":
            return Line()
        return self._line.with_job(row["id"], row["updated"])

    def _look_at_line(self) -> Line:
        with self._database.reading() as turn:
            return Line.now(turn)

    def _limit(self, limit: int) -> int:
        most = self._limits.page_rows
        if 1 <= limit <= most:
            return limit
        raise RequestError(f"limit={limit} is not in 1..{most} (page_rows)", "give one in that range")


class _Looked:
    """The line as it was looked at last; of all who ask at a time one looks again."""

    def __init__(self, look: Callable[[], Line]) -> None:
        self._look = look
        self._turn = threading.Lock()
        self._line = Line()
        self._until = 0.0

    def with_job(self, job: str, since: float) -> Line:
        """It, not long ago; and after that job, which is in line since that moment, has come there."""
        with self._turn:
            came_later = job not in self._line.places and self._line.moment < since + _COMMIT_SECONDS
            if came_later or time.monotonic() > self._until:
                self._refresh()
            return self._line

    def _refresh(self) -> None:
        self._line = self._look()
        self._until = time.monotonic() + _FRESH_SECONDS

    def forget(self) -> None:
        """Have it looked at again."""
        self._until = 0.0


def _nothing() -> None:
    """What happens where nobody runs jobs."""


def _oldest(turn: Turn, moment: ColumnElement[float], *stages: str) -> float:
    """How long ago the first of these moments was; 0 where there is none."""
    (first,) = turn.values(select(func.min(moment)).where(jobs.c.stage.in_(stages)))
    return max(0.0, turn.now - (first or turn.now))


def _place_of(cursor: str) -> list[ColumnElement[bool]]:
    if not cursor:
        return []
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise RequestError(f"cursor={cursor[:40]!r} is none", "give that of the page before, or leave it out")
    return [jobs.c.seq < int(cursor)]


def _conditions(query: JobQuery) -> list[ColumnElement[bool]]:
    """What a row must meet."""
    which = [jobs.c.words.contains(word, autoescape=True) for word in query.text.casefold().split()]
    which += [_labelled(name, value) for name, value in query.labels.items()]
    if query.owner is not None:
        which.append(jobs.c.owner == query.owner)
    if query.states:
        which.append(jobs.c.state.in_(query.states))
    return which


def _forget_record(job: Job) -> None:
    """Delete the record of a job that this server takes for ended; it is told so where it does not know."""
    if not job.status.has_ended:
        job.cancel()
    if not job.status.has_ended:
        raise StateError(f"job {job.id} has a driver yet, which is told to end", "delete it in a moment")
    job.forget()


def _labelled(name: str, value: str) -> ColumnElement[bool]:
    return exists().where(labels.c.job == jobs.c.id, labels.c.name == name, labels.c.value == value)
