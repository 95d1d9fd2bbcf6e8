"""What an id stands for: a job of this server, its record and its result, or a result at a path."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated, Any

from fastapi import Path as InPath

from bigsvd.errors import FactorStoreError, JobError, StateError
from bigsvd.jobs.record import Record
from bigsvd.nodes import METADATA
from bigsvd.results.factors import Factors
from bigsvd.results.store import mark_of
from bigsvd.service.http.dependencies import Service, User
from bigsvd.service.queue.rows import JobRow

_BY_PATH = "path-"
_MARK = 12  # digits of a manifest's digest

JobId = Annotated[str, InPath(pattern=r"^[0-9a-f]{1,32}$", description="The id of a job.")]
ResultId = Annotated[
    str,
    InPath(
        pattern=rf"^([0-9a-f]{{1,32}}|{_BY_PATH}[A-Za-z0-9_-]{{1,6000}}(\.[0-9a-f]{{{_MARK}}})?)$",
        description="The id of a job, or what `GET /v1/results?path=` says.",
    ),
]


def id_of_path(path: str) -> str:
    """The id of the result that is at a path now, whoever made it: the same on every server.

    One that overwrites it has another, so that nobody who reads by the first gets some of the second.
    """
    spelled = _BY_PATH + base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")
    return ".".join(filter(None, (spelled, mark_of(Path(path))[:_MARK])))


def job_of(service: Service, result: str) -> JobRow | None:
    """The job that a result's id names; None where it names a path.

    Raises:
        JobError: there is no such job.

    """
    return None if result.startswith(_BY_PATH) else service.index.job(result)


def found_result(service: Service, result: str) -> tuple[Path, dict[str, Any] | None]:
    """Where the result of that id is, and of which request it is to be; None where any is meant.

    It lies below a root, and something is there.

    Raises:
        JobError: there is no such job. StateError: it has no result yet. FactorStoreError: that is gone, or
            was overwritten. PathError: it does not lie where this server reads.

    """
    row = job_of(service, result)
    if row is None:
        spelled, _, mark = result.partition(".")
        path = _there(service, _path_of(spelled))
        if mark not in ("", mark_of(path)[:_MARK]):
            raise FactorStoreError(f"the result {path} was overwritten", "ask GET /v1/results?path= for it")
        return path, None
    if row.state != "done":
        raise StateError(f"job {row.id} is {row.state} and has no result", "wait until it is done")
    path = _there(service, row.out)
    if row.mark not in (None, mark_of(path)):
        raise FactorStoreError(
            f"the result of job {row.id} was overwritten by that of another run of the same request",
            "ask for that by the id of its job",
        )
    return path, row.request


def _there(service: Service, text: str) -> Path:
    """A path at which a result may be, where something is."""
    path = Path(service.roots.output(text))
    if not (path / METADATA).exists():
        service.arrays.forget(path)
        raise FactorStoreError(f"the result {path} is gone", "submit its job again")
    return path


def _path_of(result: str) -> str:
    """The path that an id spells."""
    letters = result.removeprefix(_BY_PATH)
    try:
        return base64.urlsafe_b64decode(letters + "=" * (-len(letters) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise JobError(f"{result} is the id of no result", "ask GET /v1/results?path= for one") from error


def opened(service: Service, result: str) -> Factors:
    """The factors of that id; errors are also those of `found_result`."""
    path, asked = found_result(service, result)
    return service.arrays.factors(path, asked)


def own_job(service: Service, user: User, job: str) -> JobRow:
    """A job that this user may change.

    Raises:
        JobError: there is none, or it is another's, which the others do not tell from none.

    """
    row = service.index.job(job)
    if row.owner != user.name and not user.may("admin"):
        raise JobError(f"no job {job} of {user.name} is known to this service", "`GET /v1/jobs` lists them")
    return row


def check_is_own(row: JobRow) -> None:
    """`FactorStoreError` where another job has taken the output over, whose result is not to be deleted."""
    record = row.record
    others = Record(row.out).exists if record is None else record.asked().owner != row.owner
    if others:
        raise FactorStoreError(f"{row.out} is another job's by now", "ask for that by its own id")
