"""What a record says of its job, derived from its files and their dates: no cluster is asked.

"Running" is said of a job only as long as its driver says that it lives.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bigsvd.jobs.attempt import LEASE_SECONDS, Attempt, Told
from bigsvd.jobs.files import date_of, read_json
from bigsvd.jobs.phase import Phase
from bigsvd.jobs.record import Asked, Launch, Record

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
_INTERRUPTED = {"interrupted": "its driver was told to end", "unstarted": "no driver could be started"}
_START_SECONDS = 30.0  # by which a driver that was started here has taken its number


@dataclass(frozen=True)
class JobStatus:
    """A job at one moment.

    Attributes:
        state: see `State`. reason: why it waits, or is interrupted; empty otherwise.
        attempt: the number of the last; 0 before the first. where: the process that makes or made it.
        submitted: when, in seconds of the file system's clock. seconds: from then until it ended, or now.
        stopping: whether it is to publish after this pass. error: by what it failed, or what ended its last
            attempt; None while it goes on.

    """

    asked: Asked
    out: str
    state: State
    reason: str
    phase: Phase
    attempt: int = 0
    where: str = ""
    submitted: float = 0.0
    seconds: float = 0.0
    stopping: bool = False
    error: Told | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        asked = self.asked
        return {
            "id": asked.id,
            "name": asked.name,
            "labels": asked.labels,
            "owner": asked.owner,
            "source": asked.request.source,
            "k": asked.request.k,
            "out": self.out,
            "state": self.state,
            "reason": self.reason,
            "phase": self.phase.to_dict(),
            "attempt": self.attempt,
            "where": self.where,
            "submitted": self.submitted,
            "seconds": round(self.seconds, 3),
            "stopping": self.stopping,
            "error": self.error and asdict(self.error),
        }

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to happen."""
        return self.state in ENDED


def status_of(record: Record, now: float | None = None) -> JobStatus:
    """What the record says; `now` is by the clock of its file system, asked for where it is None.

    Raises:
        JobError: there is no job, or its record is damaged.

    """
    asked, launch = record.asked(), record.launch()
    if now is None:
        now = record.now()
    last = Attempt.last_of(record)
    phase = Phase.from_dict(read_json(record.phase))
    state, reason = _state(record, last, launch, now)
    if state == "running" and phase.name == "queued":
        state, reason = "queued", phase.doing
    submitted = date_of(record.job) or now
    seconds = max(0.0, now - submitted)
    found = JobStatus(asked, str(record.out), state, reason, phase, submitted=submitted, seconds=seconds)
    return found if last is None else _with_attempt(found, record, last)


def _with_attempt(found: JobStatus, record: Record, last: Attempt) -> JobStatus:
    """The same with what the last attempt says."""
    found = replace(found, attempt=last.number, where=str(last.process or ""))
    if found.state in ("queued", "running"):
        return replace(found, stopping=record.stop.exists())
    if found.has_ended:
        found = replace(found, seconds=max(0.0, last.last_word - found.submitted))
    return replace(found, error=last.error)


def _state(record: Record, last: Attempt | None, launch: Launch, now: float) -> tuple[State, str]:
    """The state, and why if that needs saying."""
    if last is None or (last.is_past and not last.is_alive(now)):
        return _before_attempt(record, launch, now)
    why = last.why
    for end in ENDED:
        if why == end:
            return end, ""
    if why in _INTERRUPTED:
        return "interrupted", _INTERRUPTED[why]
    silent = last.silent_seconds(now)
    if last.is_alive(now) or (why is not None and silent < LEASE_SECONDS):
        return "running", ""
    if last.process is not None and last.process.has_ended:
        return "interrupted", f"its driver ({last.process}) has ended{_hope(launch)}"
    return "interrupted", f"its driver ({last.process}) has been silent for {silent:.0f} s{_hope(launch)}"


def _hope(launch: Launch) -> str:
    """That somebody may start another driver; see `launch.supervise`."""
    return ", and the cluster starts another if it can" if launch.scheduler else ""


def _before_attempt(record: Record, launch: Launch, now: float) -> tuple[State, str]:
    """Of a job whose driver was started and has not taken its number yet."""
    if launch.scheduler:
        return "queued", f"waits for a worker of {launch.scheduler}"
    since = now - (date_of(record.launched) or date_of(record.job) or now)
    if since < _START_SECONDS:
        return "queued", "its driver is starting"
    return "interrupted", f"its driver has not begun within {since:.0f} s, see its log"
