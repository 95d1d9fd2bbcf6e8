"""Who is taken in: one job for one key, one output, and no more of one owner than the limit says."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import and_, bindparam, case, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from bigsvd.errors import KeyReusedError, OutputBusyError, QuotaError
from bigsvd.jobs.phase import Phase
from bigsvd.jobs.record import Terms, digest_of
from bigsvd.service.queue.line import Crowd, Line
from bigsvd.service.queue.rows import NewJob
from bigsvd.service.store.tables import add_labels, jobs, words_of
from bigsvd.service.store.writer import Turn

FOLDER = "/"  # relative to which paths of requests are written: they are absolute
# Made once: to put a statement together takes longer than to execute it.
_INSERTS = {
    "sqlite": sqlite.insert(jobs).on_conflict_do_nothing().returning(jobs.c.seq),
    "postgresql": postgresql.insert(jobs).on_conflict_do_nothing().returning(jobs.c.seq),
}
_OF_KEY = and_(jobs.c.owner == bindparam("owner"), jobs.c.key == bindparam("key"))
_GOES_ON = jobs.c.stage != "ended"
# That of the key, else that which writes the output, else the last that has written it.
_SAME = (
    select(jobs)
    .where(or_(_OF_KEY, jobs.c.out == bindparam("out")))
    .order_by(case((_OF_KEY, 0), (_GOES_ON, 1), else_=2), jobs.c.seq.desc())
    .limit(1)
)

# The row of a job; and its line, if it was made now.
Admitted: TypeAlias = tuple[dict[str, Any], Line | None]


@dataclass(frozen=True)
class Admission:
    """A job that asks to be taken in.

    Attributes:
        request: as JSON values. digest: of what is computed. body: of all that was sent.
        answered: whether there is a result at the output that is not to be computed anew.

    """

    id: str
    new: NewJob
    quota: int
    request: dict[str, Any]
    digest: str
    body: str
    answered: bool

    @classmethod
    def of(cls, job: str, new: NewJob, quota: int) -> Admission:
        """Of what was sent.

        Raises:
            JobError: the terms are none.

        """
        terms = asdict(Terms(**new.terms))
        request = new.request.to_dict()
        del terms["replaces"]  # what lay there, and was not sent
        sent = vars(new) | {"key": None, "request": request, "terms": terms}
        body = sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()
        answered = not new.request.overwrite and (Path(new.out) / "zarr.json").exists()
        return cls(job, new, quota, request, digest_of(new.request, FOLDER), body, answered)

    def write(self, turn: Turn) -> Admitted:
        """The row of the job; and its line, if it was made now.

        Raises:
            KeyReusedError, OutputBusyError, QuotaError: see `Index.add`.

        """
        new = self.new
        found = turn.first(_SAME, owner=new.owner, key=new.key, out=new.out)
        same = None if found is None else self._same(found)
        if same is not None:
            return same, None
        crowd = turn.once(Crowd)
        self._check_quota(crowd.number_of(new.owner))
        row = self._row(turn.now)
        if not turn.values(_INSERTS[turn.connection.dialect.name], **row):  # another server was quicker
            return self.write(turn)
        add_labels(turn.connection, self.id, new.labels)
        return {**row, "ended": None}, crowd.join(row)

    def _same(self, found: dict[str, Any]) -> dict[str, Any] | None:
        """The job that this is, of what was found; None where it is none."""
        if self.new.key is not None and (found["owner"], found["key"]) == (self.new.owner, self.new.key):
            return self._of_key(found)
        if found["stage"] != "ended":
            return self._going(found)
        same = (found["state"], found["digest"]) == ("done", self.digest)
        return found if self.answered and same else None

    def _of_key(self, found: dict[str, Any]) -> dict[str, Any]:
        """The job of the same key."""
        if found["body"] != self.body:
            raise KeyReusedError(
                f"the key {self.new.key!r} was sent with another body, as job {found['id']}",
                "send that body again, or take another key",
            )
        return found

    def _going(self, found: dict[str, Any]) -> dict[str, Any]:
        """The job that is writing the same to the same output."""
        if found["digest"] != self.digest:
            raise OutputBusyError(
                f"job {found['id']} ({found['state']}) of another request writes {self.new.out}",
                "wait for it, cancel it, or choose another output",
            )
        return found

    def _row(self, now: float) -> dict[str, Any]:
        new = self.new
        row = {
            "id": self.id, "owner": new.owner, "name": new.name, "labels": new.labels, "key": new.key,
            "body": self.body, "digest": self.digest, "request": self.request, "terms": new.terms,
            "out": new.out, "state": "queued", "reason": "", "phase": Phase().to_dict(), "attempt": 0,
            "error": None, "created": now, "updated": now, "stage": "line", "stopping": False,
        }  # fmt: skip
        return {**row, "words": words_of(row)}

    def _check_quota(self, number: int) -> None:
        """`QuotaError` where the owner has as many that have not ended as may be."""
        if number >= self.quota:
            raise QuotaError(
                f"{self.new.owner} has {number} jobs that have not ended, and may have {self.quota} "
                "(queued_jobs)",
                "wait until one has ended, or cancel one",
            )
