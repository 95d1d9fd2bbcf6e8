"""Who is next: owners take turns, and whoever has fewer jobs at work comes first.

The first in line is the oldest waiting job of the owner who has the fewest at work; of two such owners that
one whose last job was claimed longer ago.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select

from bigsvd.service.store.tables import Stage, jobs
from bigsvd.service.store.writer import Turn

AT_WORK: tuple[Stage, ...] = ("claimed", "begun")
# Made once: to put a statement together takes longer than to execute it.
_COUNTS = (
    select(jobs.c.stage, jobs.c.owner, func.count().label("number"))
    .where(or_(*(jobs.c.stage == stage for stage in ("line", *AT_WORK))))
    .group_by(jobs.c.stage, jobs.c.owner)
)
_SERVED = select(func.max(jobs.c.claimed)).where(jobs.c.owner == bindparam("owner"))
_BUSY = select(jobs.c.name, jobs.c.id).where(jobs.c.stage.in_(AT_WORK)).order_by(jobs.c.seq)


@dataclass(frozen=True)
class Line:
    """The jobs that wait, at one moment.

    Attributes:
        places: of each, by its id, from 1. at_work: the names of those that do not wait any more. moment:
            when, by the database's clock.

    """

    places: dict[str, int] = field(default_factory=dict)
    at_work: tuple[str, ...] = ()
    moment: float = 0.0

    @classmethod
    def now(cls, turn: Turn) -> Line:
        """As it stands."""
        places = {job: place for place, job in enumerate(turn.values(in_turn()), 1)}
        return cls(places, _names_at_work(turn), turn.now)

    def reason(self, job: str) -> str:
        """Why that job waits."""
        if job not in self.places:  # it has just been claimed
            return "is about to begin"
        place = f"number {self.places[job]} in line"
        if not self.at_work:
            return f"is about to begin, {place}"
        if len(self.at_work) == 1:
            return f"waits for {self.at_work[0]} to end, {place}"
        return f"waits for one of {len(self.at_work)} jobs to end, {place}"


class Crowd:
    """How many jobs of each owner have not ended, during one transaction that takes in more."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._waiting: dict[str, int] = {}
        self._busy: dict[str, int] = {}
        self._served: dict[str, float] = {}
        self._at_work = _names_at_work(turn)
        for row in turn.all(_COUNTS):
            numbers = self._waiting if row["stage"] == "line" else self._busy
            numbers[row["owner"]] = numbers.get(row["owner"], 0) + row["number"]

    def number_of(self, owner: str) -> int:
        """How many of an owner have not ended."""
        return self._waiting.get(owner, 0) + self._busy.get(owner, 0)

    def join(self, row: Mapping[str, Any]) -> Line:
        """The line, as far as it is that of the job of this row, the youngest of all."""
        owner = row["owner"]
        self._waiting[owner] = self._waiting.get(owner, 0) + 1
        return Line({row["id"]: self._last_place(owner)}, self._at_work, self._turn.now)

    def _last_place(self, owner: str) -> int:
        """Of the youngest job of an owner: behind all their own, and those of others that come before."""
        number = self._waiting[owner] + self._busy.get(owner, 0)
        return self._waiting[owner] + sum(
            self._before(number, owner, other) for other in self._waiting if other != owner
        )

    def _before(self, number: int, owner: str, other: str) -> int:
        """How many of another owner's jobs in line are first; see `in_turn`."""
        waiting, turns = self._waiting[other], number - self._busy.get(other, 0)
        ties = 1 <= turns <= waiting and self._served_last(other) <= self._served_last(owner)
        return min(waiting, max(0, turns - 1)) + ties

    def _served_last(self, owner: str) -> float:
        """When the last job of an owner was claimed; 0 where none was."""
        if owner not in self._served:
            self._served[owner] = self._turn.values(_SERVED, owner=owner)[0] or 0.0
        return self._served[owner]


def _names_at_work(turn: Turn) -> tuple[str, ...]:
    return tuple(row["name"] or row["id"] for row in turn.all(_BUSY))


def in_turn(*which: ColumnElement[bool]) -> Select[tuple[str]]:
    """The ids of those in line, the first first; of those that meet these conditions."""
    waiting = jobs.c.stage == "line"
    owners = select(jobs.c.owner).where(waiting).distinct().subquery()
    theirs = jobs.c.owner == owners.c.owner
    served = select(func.max(jobs.c.claimed)).where(theirs).scalar_subquery()
    busy = select(func.count()).where(theirs, jobs.c.stage.in_(AT_WORK)).scalar_subquery()
    shares = select(owners.c.owner, func.coalesce(served, 0.0).label("served"), busy.label("busy")).subquery()
    own_place = func.row_number().over(partition_by=jobs.c.owner, order_by=jobs.c.seq)
    return (
        select(jobs.c.id)
        .join(shares, jobs.c.owner == shares.c.owner)
        .where(waiting, *which)
        .order_by(own_place + shares.c.busy, shares.c.served, jobs.c.seq)
    )
