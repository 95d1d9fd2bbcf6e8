"""Which jobs a server has: claimed from the line, or taken over from a server that has gone silent.

A lease is renewed at every turn. Of several servers on one database each job has one at a time: rows that
another is just taking are passed over.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import Any

from sqlalchemy import ColumnElement, or_, select

from bigsvd.service.queue.line import AT_WORK, in_turn
from bigsvd.service.queue.transitions import MOST_PAUSE_SECONDS
from bigsvd.service.store.database import Database
from bigsvd.service.store.tables import changed, jobs, of_job
from bigsvd.service.store.writer import Turn

LEASE_SECONDS = 15.0
_RENEW_SECONDS = 3.0  # after which a lease is renewed
_SPARE = 8  # of those first in line, that other servers may be taking meanwhile
_MOST_AT_ONCE = 100


class Leases:
    """Those of one server, which no other has had before under that name."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.server = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._mine = jobs.c.server == self.server

    def renew(self, places: int) -> list[dict[str, Any]]:
        """The jobs of this server, of which it may have so many at work.

        Those that nobody has any more are taken over before, and the first in line are claimed. Nothing is
        written where there is nothing of that to do.
        """
        with self._database.reading() as turn:
            if not self._is_due(turn, places):
                return self._own(turn)

        def write(turn: Turn) -> list[dict[str, Any]]:
            self._write(turn, {})
            self._take_over(turn)
            self._claim(turn, places)
            return self._own(turn)

        return self._database.writer.write(write)

    def _own(self, turn: Turn) -> list[dict[str, Any]]:
        return turn.all(select(jobs).where(self._mine).order_by(jobs.c.seq))

    def _is_due(self, turn: Turn, places: int) -> bool:
        """Whether a lease is to be renewed, or there is anything to take."""
        soon = turn.now + LEASE_SECONDS - _RENEW_SECONDS
        ages = self._database.is_shared and turn.count(self._mine, jobs.c.lease < soon) > 0
        left = jobs.c.stage.in_(AT_WORK) | (jobs.c.wish > "")
        return ages or turn.count(self._nobodys(turn), left) > 0 or self._room(turn, places) > 0

    def _room(self, turn: Turn, places: int) -> int:
        """For how many of those in line this server has room."""
        free = places - turn.count(self._mine, jobs.c.stage.in_(AT_WORK))
        return min(free, turn.count(jobs.c.stage == "line", _may_begin(turn.now))) if free > 0 else 0

    def _take_over(self, turn: Turn) -> None:
        """Jobs whose server is gone; and those of which something is wished that nobody has."""
        nobodys = self._nobodys(turn)
        self._take(turn, _locked(turn, nobodys, jobs.c.stage.in_(AT_WORK)))
        wished = (nobodys, jobs.c.wish > "")
        self._take(turn, _locked(turn, *wished, jobs.c.stage == "ended"))
        self._take(turn, _locked(turn, *wished, jobs.c.stage == "line"), stage="begun")

    def _nobodys(self, turn: Turn) -> ColumnElement[bool]:
        gone = jobs.c.lease < turn.now
        if not self._database.is_shared:  # whoever had the state folder before is gone
            gone = jobs.c.server != self.server
        return or_(jobs.c.server.is_(None), gone)

    def _claim(self, turn: Turn, places: int) -> None:
        """The first in line, while there is room."""
        room = self._room(turn, places)
        if room <= 0:
            return
        first = turn.values(in_turn(_may_begin(turn.now)).limit(room + _SPARE))
        free = _locked(turn, jobs.c.id.in_(first), jobs.c.stage == "line")
        taken = [job for job in first if job in free][:room]
        self._take(turn, taken, stage="claimed", claimed=turn.now, reason="its driver is being started")

    def _take(self, turn: Turn, taken: list[str], **values: Any) -> None:
        if taken:
            leased = {"server": self.server, "lease": turn.now + LEASE_SECONDS, **values}
            turn.change(changed(leased, jobs.c.id.in_(taken)))

    def holds(self, job: str) -> bool:
        """Whether the job is this server's still, with its lease renewed."""
        return self._database.writer.write(lambda turn: self._write(turn, {}, of_job(job))) == 1

    def save(self, job: str, values: dict[str, Any]) -> bool:
        """Write down how a job stands, and whether it is this server's still; else nothing is written."""

        def write(turn: Turn) -> int:
            return self._write(turn, _dated(values, turn.now), of_job(job))

        return self._database.writer.write(write) == 1

    def _write(self, turn: Turn, values: dict[str, Any], *which: ColumnElement[bool]) -> int:
        """Into how many rows of this server, with their leases renewed."""
        renewed = {"lease": turn.now + LEASE_SECONDS, **values}
        return turn.change(changed(renewed, self._mine, *which))

    def let_go(self) -> None:
        """Let another server have the jobs at once."""
        self._database.writer.write(lambda turn: self._write(turn, {"lease": 0.0}))


def _may_begin(now: float) -> ColumnElement[bool]:
    """What a row meets whose pause is over, or would be longer than any is: the clock was set back since."""
    return or_(jobs.c.not_before <= now, jobs.c.not_before > now + MOST_PAUSE_SECONDS)


def _dated(values: dict[str, Any], now: float) -> dict[str, Any]:
    """With the times of what is written now."""
    dated = {"updated": now, **values}
    if values.get("stage") == "ended":
        dated["ended"] = now
    if "pause_seconds" in dated:
        dated["not_before"] = now + dated.pop("pause_seconds")
    return dated


def _locked(turn: Turn, *which: ColumnElement[bool]) -> list[str]:
    """Ids of rows that meet this, and that no other server changes before the end of the turn."""
    found = select(jobs.c.id).where(*which).order_by(jobs.c.seq).limit(_MOST_AT_ONCE)
    return turn.values(found.with_for_update(skip_locked=True))
