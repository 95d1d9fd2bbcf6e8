"""Who is next: owners take turns, and whoever has fewer jobs at work comes first.

The first in line is the oldest waiting job of the owner who has the fewest at work; of two such owners that
one whose last job was claimed longer ago.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Select, func, select

from bigsvd.service.store.tables import Stage, jobs
from bigsvd.service.store.writer import Turn

AT_WORK: tuple[Stage, ...] = ("claimed", "begun")


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
        busy = select(jobs.c.name, jobs.c.id).where(jobs.c.stage.in_(AT_WORK)).order_by(jobs.c.seq)
        return cls(places, tuple(row["name"] or row["id"] for row in turn.all(busy)), turn.now)

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
