"""`Job`: what Python and the command line hold of a job, and what may be asked of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bigsvd.errors import (
    BigsvdError,
    CancelledError,
    JobError,
    by_code,
)
from bigsvd.jobs.attempt import Attempt, Told
from bigsvd.jobs.files import date_of, read_text
from bigsvd.jobs.index import find, forget
from bigsvd.jobs.launch import start
from bigsvd.jobs.status import JobStatus, status_of
from bigsvd.jobs.tail import Tail
from bigsvd.jobs.waiting import end_of
from bigsvd.results.factors import Factors, open_factors
from bigsvd.results.output import Output

_LOOK_SECONDS = 0.5
_ENDING_SECONDS = 30.0  # for a driver that was told to end: as long as one may take before it is left behind
_PATIENCE_SECONDS = 60.0  # for a cluster to start a lost driver again


class Job:
    """A decomposition that goes on without this process; by its id, or the path of its output.

    All of it that only looks works while neither scheduler nor workers live.

    Raises:
        JobError: there is no such job.

    """

    def __init__(self, job: str | Path) -> None:
        self.record = find(job)
        self._asked = self.record.asked()

    @property
    def id(self) -> str:
        """What tells it from every other job."""
        return self._asked.id

    @property
    def out(self) -> Path:
        """Where its result is, or will be."""
        return self.record.out

    @property
    def status(self) -> JobStatus:
        """How it stands now."""
        return status_of(self.record)

    def wait(self, timeout_seconds: float | None = None) -> Factors:
        """The result, when the job has ended.

        Raises:
            BigsvdError: what the job failed by. CancelledError: it was cancelled. JobLostError: its driver is
                gone, and nobody has started another. RuntimeLimitError: it goes on after `timeout_seconds`.

        """
        patience_seconds = _PATIENCE_SECONDS if self.record.launch().scheduler else 0.0
        status = end_of(
            lambda: self.status,
            lambda: time.sleep(_LOOK_SECONDS),
            patience_seconds,
            timeout_seconds,
            remedy=f"bigsvd resume {self.out}",
        )
        return self._result(status)

    def _result(self, status: JobStatus) -> Factors:
        if status.state == "done":
            return open_factors(self.out)
        raise _error_of(status.error)

    def stop(self) -> None:
        """Have the job publish what it has after the present pass.

        Raises:
            JobError: it has ended, or is interrupted, so that there is no present pass.

        """
        self._refuse_ended("stop")
        if self.status.state == "interrupted":
            raise JobError(f"job {self.id} is interrupted: there is nothing to stop", "resume it first")
        self.record.ask(self.record.stop)

    def cancel(self, *, drop: bool = False) -> None:
        """Have the job end at once without a result; with `drop`, delete what it has finished too.

        It is "cancelled" when its last lane has stopped: see `wait`. Where no driver lives, this ends it.

        Raises:
            JobError: it has ended. OutputBusyError: another run holds the output whose scratch is to go.

        """
        if drop and self.status.has_ended and self.status.state != "done":
            self._drop()
            return
        self._refuse_ended("cancel")
        self.record.ask(self.record.cancel)
        if not self._is_driven():
            self._close_cancelled()
        if drop:
            self._await_end()
            self._drop()

    def _is_driven(self) -> bool:
        last = Attempt.last_of(self.record)
        return last is not None and last.is_alive(self.record.now())

    @property
    def awaits_cluster(self) -> bool:
        """Whether a scheduler was given the job, which may be gone, and no driver has begun since."""
        last = Attempt.last_of(self.record)
        begun = last is not None and (not last.is_past or self._is_driven())
        return bool(self.record.launch().scheduler) and not begun

    def _close_cancelled(self) -> None:
        """End the job here, since nobody else does."""
        attempt = Attempt.begin(self.record)
        if attempt is not None:
            attempt.close("cancelled", CancelledError("the job was cancelled", "submit it again to go on"))

    def _await_end(self) -> None:
        while not self.status.has_ended:
            if not self._is_driven():
                self._close_cancelled()
            time.sleep(_LOOK_SECONDS)

    def _drop(self) -> None:
        """Delete the scratch of the job, which nobody else may hold meanwhile."""
        with Output(self.out, overwrite=True) as output:
            output.sweep()

    def check_resumable(self) -> None:
        """`JobError` where a driver is at work, or the job is done."""
        if self.status.state == "done":
            raise JobError(f"job {self.id} is done", f"open {self.out}")
        if self.record.cancel.exists():
            self._await_driver()
        if self._is_driven():
            raise JobError(f"job {self.id} is at work ({self.status.where})", "wait for it, or cancel it")

    def _await_driver(self) -> None:
        """Until a driver that was told to end has ended, or takes too long."""
        until = time.monotonic() + _ENDING_SECONDS
        while self._is_driven() and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)

    def resume(self, *, storage_options: Mapping[str, Any] | None = None) -> None:
        """Start another driver, where it was started before, which goes on from what is finished.

        Raises:
            JobError: a driver is at work, or the job is done.

        """
        self.check_resumable()
        self.record.withdraw()
        start(self.record, self.record.launch(), storage_options or {})

    @property
    def ended_seconds_ago(self) -> float:
        """How long ago the job's last attempt ended, by the clock of its file system."""
        last = Attempt.last_of(self.record)
        ended = None if last is None else date_of(last.ended)
        return 0.0 if ended is None else self.record.now() - ended

    def events(self) -> Iterator[dict[str, Any]]:
        """What has happened, oldest first, as `bigsvd.events` has it, with number, attempt and time."""
        return iter(Tail(self.record).new())

    def log(self, tail_bytes: int | None = None) -> str:
        """What its drivers have printed, as far as it is kept; the last `tail_bytes` of it, if given."""
        return read_text(self.record.log, tail_bytes)

    def forget(self) -> None:
        """Delete its record, which its result does not need.

        Raises:
            JobError: it has not ended.

        """
        if not self.status.has_ended:
            raise JobError(f"job {self.id} is {self.status.state}", "cancel it first")
        self.record.remove()
        forget(self.id)

    def _refuse_ended(self, verb: str) -> None:
        status = self.status
        if status.has_ended:
            raise JobError(
                f"job {self.id} is {status.state}: there is nothing to {verb}", "look at its status"
            )


def _error_of(told: Told | None) -> BigsvdError:
    """The error that a job has ended by, of its own class."""
    if told is None:
        return BigsvdError("the job failed and does not say by what", "its log says where")
    return by_code(told.code, told.message, told.remedy)
