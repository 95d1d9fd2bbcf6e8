"""Jobs as the index has them: what comes in, what is asked for, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bigsvd.errors import JobError
from bigsvd.jobs.record import Record
from bigsvd.jobs.status import State
from bigsvd.request import Request
from bigsvd.service.queue.line import Line


@dataclass(frozen=True)
class NewJob:
    """What somebody submits.

    Attributes:
        key: by which a second sending is known; None where there is none. terms: the fields of
            `jobs.record.Terms`. out: the resolved path of the result.

    """

    owner: str
    name: str
    labels: dict[str, str]
    key: str | None
    request: Request
    terms: dict[str, Any]
    out: str


@dataclass(frozen=True)
class JobRow:
    """A job, as its record said when it was looked at last, a second or two ago.

    Attributes:
        state: as `jobs.status.State`. reason: why it waits or is interrupted; empty otherwise. phase: as
            `jobs.phase.Phase.to_dict`. place: in line, from 1; None where it is not in line. attempt: the
            number of the last; 0 before the first. created, updated: seconds since the epoch. seconds: from
            its creation until it ended, or now. stopping: whether it is to publish after this pass.
        error: code, message and remedy of what it ended by; None otherwise. mark: of its result, when it is
            done, see `results.store.mark_of`; None where it is not known.

    """

    id: str
    owner: str
    name: str
    labels: dict[str, str]
    request: dict[str, Any]
    terms: dict[str, Any]
    out: str
    state: State
    phase: dict[str, Any]
    reason: str
    place: int | None
    attempt: int
    created: float
    updated: float
    seconds: float
    stopping: bool
    error: dict[str, Any] | None
    mark: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], line: Line, now: float) -> JobRow:
        """That of a row of the table."""
        same = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        place = line.places.get(row["id"])
        seconds = (row["ended"] or now) - row["created"]
        if row["stage"] == "line":
            same["reason"] = "; ".join(filter(None, (row["reason"], line.reason(row["id"]))))
        return cls(**same, place=place, seconds=max(0.0, round(seconds, 3)))

    @property
    def record(self) -> Record | None:
        """Its record; None before it has one, and where that is damaged or of another job by now."""
        record = Record(self.out)
        try:
            return record if record.is_of(self.id) else None
        except JobError:
            return None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to happen."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True)
class JobQuery:
    """Which jobs are asked for, the newest first.

    Attributes:
        owner: None for everybody's. states: none for any. labels: that all have. text: in the id, owner,
            name, labels, source or output. limit: of one page. cursor: of the page before; "" for the first.

    """

    owner: str | None = None
    states: tuple[State, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    text: str = ""
    limit: int = 25
    cursor: str = ""


@dataclass(frozen=True)
class JobPage:
    """Some of the jobs that were asked for.

    Attributes:
        next_cursor: of the page behind this; None where there is none. total: of all pages.

    """

    rows: tuple[JobRow, ...]
    next_cursor: str | None
    total: int
