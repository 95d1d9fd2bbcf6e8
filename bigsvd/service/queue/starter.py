"""Begins a job that was claimed: makes its record beside the output, and has it driven."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from bigsvd.errors import BigsvdError, OutsideRootsError
from bigsvd.jobs.job import Job
from bigsvd.jobs.launch import start
from bigsvd.jobs.record import Asked, Launch, Record, Terms
from bigsvd.jobs.status import status_of
from bigsvd.jobs.submit import admit
from bigsvd.request import Request
from bigsvd.service.queue.admission import FOLDER
from bigsvd.service.queue.transitions import Changes, Row, again, failed


@dataclass(frozen=True)
class Starter:
    """How jobs are begun.

    Attributes:
        launch: where drivers run, and where the paths of requests may lead. memory_bytes: of a job whose
            request names none; None for what its machine has. runtime_seconds: of any job, at most.

    """

    launch: Launch
    memory_bytes: int | None
    runtime_seconds: float

    def begin(self, row: Row, holds: Callable[[], bool]) -> Changes:
        """What is to be written of the job, when it is driven, or cannot be.

        `holds` says whether it is this server's still: that is asked right before a driver is started.
        """
        if row["wish"]:
            return {"stage": "begun"}
        try:
            if self._waits(row, self._asked(row)) and holds():
                start(Record(row["out"]), self.launch, {})
        except BigsvdError as error:
            return again(row, "queued", error, 0) if error.infrastructure else failed(error)
        return {"stage": "begun"}

    def _waits(self, row: Row, asked: Asked) -> bool:
        """Whether the job, whose record is there now, waits for a driver.

        Where a server was killed right after it had started one, that is at work or has done it.
        """
        record = Record(row["out"])
        if not record.is_of(row["id"]):
            return admit(asked, {})[1]
        job, state = Job(record.out), status_of(record).state
        if state in ("queued", "running", "done") and record.launched.exists() and not job.awaits_cluster:
            return False
        if row["tries"] == 0 and state != "queued":  # by somebody's wish, and not since its driver was lost
            record.resubmit(asked)
        return True

    def _asked(self, row: Row) -> Asked:
        """The job as its record is to have it."""
        request = Request.from_dict(row["request"])
        if self.launch.bounds is not None:
            request = self.launch.bounds.request(request)
        if request.out != row["out"]:
            raise OutsideRootsError(
                f"the output {row['out']} leads to {request.out} since job {row['id']} was submitted",
                "submit it again",
            )
        terms = self._terms(Terms(**row["terms"]))
        return Asked(row["id"], request, FOLDER, row["owner"], row["name"], row["labels"], terms)

    def _terms(self, given: Terms) -> Terms:
        limit_seconds = min(given.max_runtime_seconds or math.inf, self.runtime_seconds)
        return replace(given, max_runtime_seconds=limit_seconds, memory_bytes=self.memory_bytes)
