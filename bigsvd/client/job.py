"""`RemoteJob`: what may be asked of a job of a service; `bigsvd.Job` is the same of one on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bigsvd.client.events import Events
from bigsvd.client.result import RemoteResult
from bigsvd.client.told import status_from
from bigsvd.client.wire import Wire
from bigsvd.errors import BigsvdError, CancelledError, by_code
from bigsvd.jobs.status import JobStatus
from bigsvd.jobs.waiting import end_of

_FIRST_LOOK_SECONDS = 0.2
_MOST_LOOK_SECONDS = 2.0
_PATIENCE_SECONDS = 60.0  # for a service to start a lost driver again


class RemoteJob:
    """A decomposition that a service has done, by its id; made by `Client.job` and `Client.submit`."""

    def __init__(self, wire: Wire, first: JobStatus) -> None:
        self._wire = wire
        self._first = first
        self._path = f"v1/jobs/{self.id}"

    @property
    def id(self) -> str:
        """What tells it from every other job."""
        return self._first.asked.id

    @property
    def out(self) -> str:
        """Where its result is, or will be, on the service's machine."""
        return self._first.out

    @property
    def status(self) -> JobStatus:
        """How it stands now."""
        return status_from(self._wire.told("GET", self._path))

    @property
    def result(self) -> RemoteResult:
        """Its result, which is there when the job is done."""
        return RemoteResult(self._wire, self.id)

    def wait(self, timeout_seconds: float | None = None) -> RemoteResult:
        """The result, when the job has ended.

        Raises:
            BigsvdError: what the job failed by. CancelledError: it was cancelled. JobLostError: its driver is
                gone, and the service has not started another. RuntimeLimitError: it goes on after
                `timeout_seconds`.

        """
        pauses = _pauses()
        status = end_of(
            lambda: self.status,
            lambda: self._wire.pause(next(pauses)),
            _PATIENCE_SECONDS,
            timeout_seconds,
            remedy=f"resume job {self.id}",
        )
        return self._result(status)

    def _result(self, status: JobStatus) -> RemoteResult:
        if status.state == "done":
            return self.result
        if status.state == "cancelled":  # before or after it had begun
            raise CancelledError("the job was cancelled", "resume it to go on")
        if status.error is None:
            raise BigsvdError(f"job {self.id} is {status.state} and does not say why", "its log says where")
        raise by_code(status.error.code, status.error.message, status.error.remedy)

    def stop(self) -> None:
        """Have the job publish what it has after the present pass."""
        self._wish("stop")

    def cancel(self, *, drop: bool = False) -> None:
        """Have the job end at once without a result; with `drop`, delete what it has finished too.

        It is "cancelled" when its last lane has stopped: see `wait`.
        """
        self._wish("cancel", drop=drop)

    def resume(self) -> None:
        """Let a job that was interrupted, failed or cancelled go on from what is finished."""
        self._wish("resume")

    def _wish(self, verb: str, **body: bool) -> None:
        self._wire.wish("POST", f"{self._path}/{verb}", json=body)

    def events(self) -> Iterator[dict[str, Any]]:
        """What has happened, oldest first, as `bigsvd.events` has it, each with its attempt and time."""
        return Events(self._wire, self._path).so_far()

    def follow(self) -> Iterator[dict[str, Any]]:
        """The same, and then each as it happens, until the job has ended."""
        return Events(self._wire, self._path).as_they_come(lambda: self.status.has_ended)

    def log(self, tail_bytes: int | None = None) -> str:
        """What its drivers have printed, as far as it is kept; the last `tail_bytes` of it, if given."""
        given = {} if tail_bytes is None else {"tail_bytes": tail_bytes}
        return self._wire.ask("GET", f"{self._path}/log", params=given).text

    def forget(self) -> None:
        """Delete its record, which its result does not need; `StateError` where it has not ended."""
        self._wire.wish("DELETE", self._path)


def _pauses() -> Iterator[float]:
    """Seconds between two looks: short at first, since many jobs are."""
    seconds = _FIRST_LOOK_SECONDS
    while True:
        yield seconds
        seconds = min(1.5 * seconds, _MOST_LOOK_SECONDS)
