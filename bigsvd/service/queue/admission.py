"""Who is taken in: one job for one key, one output, and no more of one owner than the limit says."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, case, func, select
from sqlalchemy.dialects import postgresql, sqlite

from bigsvd.errors import KeyReusedError, OutputBusyError, QuotaError
from bigsvd.jobs.phase import Phase
from bigsvd.jobs.record import Terms, digest_of
from bigsvd.request import Request
from bigsvd.service.queue.rows import NewJob
from bigsvd.service.store.tables import add_labels, jobs, words_of
from bigsvd.service.store.writer import Turn

FOLDER = "/"  # relative to which paths of requests are written: they are absolute
# Made once: to put a statement together takes longer than to execute it.
_INSERTS = {
    "sqlite": sqlite.insert(jobs).on_conflict_do_nothing().returning(jobs.c.seq),
    "postgresql": postgresql.insert(jobs).on_conflict_do_nothing().returning(jobs.c.seq),
}
_BY_KEY = select(jobs).where(jobs.c.owner == bindparam("owner"), jobs.c.key == bindparam("key"))
_GOES_ON = jobs.c.stage.in_(("line", "claimed", "begun"))
_BY_OUTPUT = (
    select(jobs)
    .where(jobs.c.out == bindparam("out"))
    .order_by(case((_GOES_ON, 0), else_=1), jobs.c.seq.desc())
    .limit(1)
)
_GOING = select(func.count()).where(_GOES_ON, jobs.c.owner == bindparam("owner"))


@dataclass(frozen=True)
class Admission:
    """A job that asks to be taken in.

    Attributes:
        digest: of what is computed. body: of all that was sent. replaces: whether a result that is there is
            to be computed anew. published: whether there is one.

    """

    id: str
    new: NewJob
    quota: int
    digest: str
    body: str
    replaces: bool
    published: bool

    @classmethod
    def of(cls, job: str, new: NewJob, quota: int) -> Admission:
        """Of what was sent.

        Raises:
            BadInputError: the request or the terms are none.

        """
        request = Request.from_dict(new.request)
        Terms(**new.terms)
        sent = asdict(new) | {"key": None}
        body = sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()
        published = (Path(new.out) / "zarr.json").exists()
        return cls(job, new, quota, digest_of(request, FOLDER), body, request.overwrite, published)

    def write(self, turn: Turn) -> tuple[dict[str, Any], bool]:
        """The row of the job, and whether it was made now.

        Raises:
            KeyReusedError, OutputBusyError, QuotaError: see `Index.add`.

        """
        found = self._by_key(turn) or self._by_output(turn)
        if found is not None:
            return found, False
        check_quota(turn, self.new.owner, self.quota)
        row = self._row(turn.now)
        if not turn.values(_INSERTS[turn.connection.dialect.name], **row):  # another server was quicker
            return self.write(turn)
        add_labels(turn.connection, self.id, self.new.labels)
        return {**row, "ended": None}, True

    def _by_key(self, turn: Turn) -> dict[str, Any] | None:
        """The job of the same key."""
        if self.new.key is None:
            return None
        found = turn.first(_BY_KEY, owner=self.new.owner, key=self.new.key)
        if found is not None and found["body"] != self.body:
            raise KeyReusedError(
                f"the key {self.new.key!r} was sent with another body, as job {found['id']}",
                "send that body again, or take another key",
            )
        return found

    def _by_output(self, turn: Turn) -> dict[str, Any] | None:
        """The job that writes the same to the same output, or has done so."""
        found = turn.first(_BY_OUTPUT, out=self.new.out)
        if found is None or found["stage"] != "ended":
            return found and self._same(found)
        there = self.published and not self.replaces
        same = (found["state"], found["digest"]) == ("done", self.digest)
        return found if there and same else None

    def _same(self, going: dict[str, Any]) -> dict[str, Any]:
        if going["digest"] != self.digest:
            raise OutputBusyError(
                f"job {going['id']} ({going['state']}) of another request writes {self.new.out}",
                "wait for it, cancel it, or choose another output",
            )
        return going

    def _row(self, now: float) -> dict[str, Any]:
        new = self.new
        row = {
            "id": self.id, "owner": new.owner, "name": new.name, "labels": new.labels, "key": new.key,
            "body": self.body, "digest": self.digest, "request": new.request, "terms": new.terms,
            "out": new.out, "state": "queued", "reason": "", "phase": Phase().to_dict(), "attempt": 0,
            "error": None, "created": now, "updated": now, "stage": "line", "stopping": False,
        }  # fmt: skip
        return {**row, "words": words_of(row)}


def check_quota(turn: Turn, owner: str, quota: int) -> None:
    """`QuotaError` where an owner has as many that have not ended as may be."""
    (has,) = turn.values(_GOING, owner=owner)
    if has >= quota:
        raise QuotaError(
            f"{owner} has {has} jobs that have not ended, and may have {quota} (queued_jobs)",
            "wait until one has ended, or cancel one",
        )
