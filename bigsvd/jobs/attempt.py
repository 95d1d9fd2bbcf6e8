"""One try to carry out a job: it takes a number that no other has, says that it lives, and says why it ended.

Of two drivers that want the next number one gets it, and the other leaves. A driver that was frozen while
another took the next number finds that out at its next word, and ends: it is superseded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bigsvd.errors import BigsvdError, SupersededError
from bigsvd.jobs.files import create_json, date_of, read_json, touch, write_json
from bigsvd.jobs.record import Record
from bigsvd.machine.software import machine_here, versions_asked
from bigsvd.process import Process

BEAT_SECONDS = 5.0
LEASE_SECONDS = 3 * BEAT_SECONDS  # without a heartbeat, after which an attempt is taken for dead

# Why an attempt ended: the job's end, or a reason to make another.
Why = Literal["done", "failed", "cancelled", "infrastructure", "interrupted", "superseded", "unstarted"]
SETTLED: tuple[Why, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Told:
    """An error as code, message and remedy."""

    code: str
    message: str
    remedy: str
    exit_status: int

    @classmethod
    def of(cls, error: BaseException) -> Told:
        """Of any exception; of one that is nobody's deliberate word, its type and where to look."""
        if isinstance(error, BigsvdError):
            return cls(error.code, error.message, error.remedy, error.exit_status)
        text = f"the driver failed with {type(error).__name__} ({error})"
        return cls("E_BIGSVD", text, "its log says where", 3)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Told | None:
        """The inverse of `dataclasses.asdict`; None where these are not the values."""
        try:
            return cls(**{each.name: values[each.name] for each in fields(cls)})
        except (KeyError, TypeError):
            return None

    def __str__(self) -> str:
        return f"error[{self.code}]: {self.message}; {self.remedy}"


class Attempt:
    """The try of that number; made by `begin`, looked at by `last_of`."""

    def __init__(self, record: Record, number: int) -> None:
        self.record = record
        self.number = number
        self.file = _file(record, number)
        self.heartbeat = self.file.with_suffix(".alive")
        self.ended = self.file.with_suffix(".end.json")

    @classmethod
    def begin(cls, record: Record) -> Attempt | None:
        """The next try, by this process; None where another has taken that number first."""
        attempt = cls(record, max(record.attempt_numbers(), default=0) + 1)
        process, machine = asdict(Process.here()), machine_here()
        said = {
            "process": process,
            "versions": versions_asked()(),
            "cpu": machine["cpu"],
            "blas": machine["blas"],
        }
        with record.writing():
            touch(attempt.heartbeat)  # before it can be looked at
            return attempt if create_json(attempt.file, said) else None

    @classmethod
    def last_of(cls, record: Record) -> Attempt | None:
        """The newest try; None before there is one."""
        numbers = record.attempt_numbers()
        return cls(record, max(numbers)) if numbers else None

    @property
    def superseded(self) -> bool:
        """Whether a newer try has begun, or the record is another job's now."""
        return _file(self.record, self.number + 1).exists() or not self.file.exists()

    def check(self) -> None:
        """`SupersededError` where the job is no longer this attempt's."""
        if self.superseded:
            raise SupersededError(
                f"attempt {self.number} at {self.record.out} was taken for dead, and another goes on",
                "nothing is to be done: it has all that this one had finished",
            )

    def beat(self) -> None:
        """Say that it lives."""
        touch(self.heartbeat)

    def close(self, why: Why, error: BaseException | None = None) -> None:
        """Say that it has ended."""
        told = None if error is None else asdict(Told.of(error))
        with self.record.writing():
            write_json(self.ended, {"why": why, "error": told})

    @property
    def why(self) -> Why | None:
        """Why it ended; None while it has not said so."""
        why: Why | None = read_json(self.ended).get("why")
        return why

    @property
    def error(self) -> Told | None:
        """What ended it, if an error did."""
        return Told.from_dict(read_json(self.ended).get("error") or {})

    @property
    def facts(self) -> dict[str, Any]:
        """Who makes it, with which versions."""
        return read_json(self.file)

    @property
    def process(self) -> Process | None:
        """The process that makes it; None where its file is torn."""
        return Process.from_dict(self.facts.get("process") or {})

    def is_alive(self, now: float) -> bool:
        """Whether its driver is at work, by its last word, its process and its heartbeat.

        Args:
            now: by the clock of the record's file system, see `Record.now`.

        """
        if self.ended.exists():
            return False
        process = self.process
        if process is not None and process.has_ended:
            return False
        return self.silent_seconds(now) < LEASE_SECONDS

    @property
    def is_past(self) -> bool:
        """Whether the job was handed over after its last word, which then is of no more interest.

        By their dates where it went on after that: those of one moment are often the same.
        """
        launched = date_of(self.record.launched)
        after = self.number <= self.record.launched_after
        return after and launched is not None and launched >= self.last_word

    @property
    def has_settled(self) -> bool:
        """Whether the job has ended by it, and was not handed over again."""
        return self.why in SETTLED and not self.is_past

    @property
    def last_word(self) -> float:
        """When it last gave a sign of life, by the clock of the record's file system."""
        return max(date_of(file) or 0.0 for file in (self.file, self.heartbeat, self.ended))

    def silent_seconds(self, now: float) -> float:
        """For how long it has given none."""
        return max(0.0, now - self.last_word)


def _file(record: Record, number: int) -> Path:
    return record.attempts / f"{number:04d}.json"
