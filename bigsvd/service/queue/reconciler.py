"""Looks at the record of a job that was begun, which is the truth, and passes on what is wished of it."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from bigsvd.errors import BigsvdError, FactorStoreError, JobError, JobLostError, OutputBusyError, StorageError
from bigsvd.jobs.attempt import LEASE_SECONDS, Attempt
from bigsvd.jobs.job import Job
from bigsvd.jobs.record import Record, answers
from bigsvd.jobs.status import JobStatus, State, status_of
from bigsvd.request import Request
from bigsvd.results.factors import open_factors
from bigsvd.results.store import mark_of
from bigsvd.service.queue.admission import FOLDER
from bigsvd.service.queue.transitions import FREE, Changes, Row, again, ended, failed

_CLUSTER_SECONDS = 60.0  # for a cluster to start a driver, or a lost one again, before the server sees to it
_DROP_SECONDS = 60.0  # for a driver that has ended to let go of the output


class Patience:
    """Since when something has been so that may pass, for each job."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def is_over(self, job: str, seconds: float) -> bool:
        """Whether it has been so for that long; it begins where it was not so before."""
        now = time.monotonic()
        return now - self._since.setdefault(job, now) >= seconds

    def forget(self, job: str) -> None:
        """It is not so any more."""
        self._since.pop(job, None)


class Reconciler:
    """Looks at jobs again and again, and remembers what may pass."""

    def __init__(self) -> None:
        self._patience = Patience()

    def look(self, row: Row) -> Changes:
        """How the job stands, as far as that is to be written."""
        record = Record(row["out"])
        try:
            _check_own(record, row)
        except JobError as error:
            return self._without_record(row, record, error)
        if row["stage"] == "ended":
            return self._dropped(row) if _is_to_drop(row) else FREE  # wished while it ended: nothing is left
        found = self._found(row, record)
        if found.get("state") in ("queued", "running"):
            self._patience.forget(row["id"])
        return found

    def _found(self, row: Row, record: Record) -> Changes:
        """By its own record."""
        _pass_on(row, record)
        status = status_of(record)
        seen = {"phase": status.phase.to_dict(), "attempt": status.attempt}
        if status.has_ended:
            return seen | self._ended(row, status)
        if status.state == "interrupted":
            return seen | self._interrupted(row, record, status)
        if self._is_lost_on_cluster(row):
            return {"stage": "claimed"}
        reason = row["wish"] and "is being cancelled"
        return seen | {"state": status.state, "reason": reason or status.reason}

    def _ended(self, row: Row, status: JobStatus) -> Changes:
        """When that is so, and its scratch is gone if that was wished."""
        dropped: Changes = {}
        if _is_to_drop(row | {"state": status.state}):
            dropped = self._dropped(row)
        if dropped.get("wish"):
            return dropped
        return ended(status.state, status.error) | dropped | _marked(row, status.state)

    def _dropped(self, row: Row) -> Changes:
        """Its scratch is deleted, or the wish stays until that can be done."""
        try:
            Job(row["out"]).cancel(drop=True)
        except (OutputBusyError, StorageError) as error:
            over = self._patience.is_over(row["id"], _DROP_SECONDS)
            kept = {"reason": f"its scratch is kept: {error.message}"}
            return {**(FREE if over else {"wish": row["wish"]}), **kept}
        return {**FREE, "reason": ""}

    def _is_lost_on_cluster(self, row: Row) -> bool:
        """Whether a scheduler has long had the job without a driver: one that was started anew knows of none.

        Handed over again the job is the same task, if that is there still.
        """
        waiting = f"{row['id']} on its cluster"
        if not row["wish"] and Job(row["out"]).awaits_cluster:
            return self._patience.is_over(waiting, _CLUSTER_SECONDS)
        self._patience.forget(waiting)
        return False

    def _interrupted(self, row: Row, record: Record, status: JobStatus) -> Changes:
        """To be begun again by this server, unless the cluster does that."""
        waits = {"state": status.state, "reason": status.reason}
        if record.launch().scheduler and not self._patience.is_over(row["id"], _CLUSTER_SECONDS):
            return waits
        error = JobLostError(f"the driver of job {row['id']} was lost: {status.reason}", "resume the job")
        changes = again(row, "interrupted", error, status.phase.passes_done)
        if changes["stage"] == "ended":
            _close(record, error)
        return changes

    def _without_record(self, row: Row, record: Record, error: JobError) -> Changes:
        """By its result, if there is one; while an attempt lives there is nothing to decide."""
        if row["stage"] == "ended":
            return FREE
        if row["wish"] and row["attempt"] == 0:
            return ended("cancelled")
        last = Attempt.last_of(record)
        if last is not None and last.is_alive(record.now()):
            return {"reason": error.message}
        if _has_result(row):
            return ended("done") | _marked(row, "done")
        if not self._patience.is_over(row["id"], LEASE_SECONDS):
            return {"reason": error.message}
        return failed(error)


def _marked(row: Row, state: State) -> Changes:
    """By what the result of a job that is done is known from that of a later run of the same request."""
    return {"mark": mark_of(Path(row["out"])) or None} if state == "done" else {}


def _is_to_drop(row: Row) -> bool:
    """Whether the scratch of a job that has ended is to be deleted, and not only the job to be cancelled."""
    return bool(row["wish"] == "drop" and row["state"] != "done")


def _check_own(record: Record, row: Row) -> None:
    """`JobError` where the record is not that of the job, or no good."""
    if not record.out.parent.is_dir():
        raise JobError(
            f"the folder {record.out.parent}, where job {row['id']} was to put its result, is gone",
            "put it back, and resume the job",
        )
    if not record.exists:
        raise JobError(f"the record {record.folder} of job {row['id']} is gone", "submit it again")
    if not record.is_of(row["id"]):
        raise JobError(f"{record.folder} is another job's now", "submit it again, to another output")


def _pass_on(row: Row, record: Record) -> None:
    """Let its driver know what is wished of the job; one that nobody drives is cancelled here."""
    if row["wish"]:
        with suppress(JobError):  # it has ended meanwhile
            Job(record.out).cancel()
    elif row["stopping"] and not record.stop.exists():
        record.ask(record.stop)


def _close(record: Record, error: BigsvdError) -> None:
    """Let the record say too that the job has failed."""
    attempt = Attempt.begin(record)
    if attempt is not None:
        attempt.close("failed", error)


def _has_result(row: Row) -> bool:
    """Whether what is published at the output is what was asked for."""
    try:
        provenance = open_factors(row["out"]).provenance
    except FactorStoreError:
        return False
    return answers(provenance, Request.from_dict(row["request"]), FOLDER)
