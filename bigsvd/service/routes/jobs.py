"""Jobs: taken in, listed, looked at, stopped, cancelled, gone on with, deleted; and their logs."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from bigsvd.errors import RequestError
from bigsvd.jobs.files import read_text
from bigsvd.jobs.record import Terms, labels_of
from bigsvd.jobs.status import State
from bigsvd.jobs.submit import check_words
from bigsvd.results.store import mark_of
from bigsvd.service.http.answers import JobAnswer, JobsAnswer
from bigsvd.service.http.bodies import STRICT, JobBody, StrictRoute
from bigsvd.service.http.dependencies import READ, Reader, Service, ServiceHere, Submitter, User
from bigsvd.service.http.problems import told
from bigsvd.service.queue.index import Verb
from bigsvd.service.queue.rows import JobQuery, JobRow, NewJob
from bigsvd.service.results.lookup import JobId, own_job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

_PRINTABLE = r"^[\x20-\x7e]{1,200}$"  # of a key
_NO_NUL = r"^[^\x00]*$"  # which no database takes
_MOST_LOG_BYTES = 2**20

Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", pattern=_PRINTABLE, description="By which a second sending is known."),
]
Text = Annotated[str, Query(max_length=200, pattern=_NO_NUL)]


class CancelBody(BaseModel):
    """How a job is cancelled."""

    model_config = STRICT
    drop: bool = Field(False, description="Delete what it has finished, too.")


@router.post(
    "",
    status_code=202,
    response_model=JobAnswer,
    responses=told(409, 413, 507) | {200: {"model": JobAnswer, "description": "It was there already."}},
)
async def submit(
    body: JobBody, user: Submitter, service: ServiceHere, response: Response, key: Key = None
) -> JobAnswer:
    """Take a job in; when this is answered, it is on the server's disk.

    The same key with the same body is the same job, and so is the same request to the same output.
    """
    taken_in = await run_in_threadpool(_taken_in, body, user, service, key)
    row, made = await asyncio.wrap_future(taken_in)
    response.status_code = 202 if made else 200
    response.headers["Location"] = f"/v1/jobs/{row.id}"
    return JobAnswer.of(row)


def _taken_in(body: JobBody, user: User, service: Service, key: str | None) -> Future[tuple[JobRow, bool]]:
    """The job, once it is on the disk; its paths lie below the roots."""
    check_words(body.name, body.labels)
    request = service.roots.request(body.request())
    service.roots.check_overwrite(request, user)
    service.runner.check_memory(request)
    terms = _terms(body, service.settings.limits.runtime_seconds)
    if request.overwrite and request.out is not None:  # what others may put there meanwhile is not meant
        terms = replace(terms, replaces=mark_of(Path(request.out)))
    new = NewJob(user.name, body.name, body.labels, key, request, asdict(terms), request.out or "")
    return service.index.add(new)


def _terms(body: JobBody, longest_seconds: float) -> Terms:
    """How it is to be carried out, within the limit of the operator."""
    asked = body.max_runtime_seconds or longest_seconds
    if asked > longest_seconds:
        raise RequestError(
            f"max_runtime_seconds={asked:g} is over limits.runtime_seconds={longest_seconds:g}", "give fewer"
        )
    return replace(body.terms(), max_runtime_seconds=asked)


@router.get("", responses=told())
def listed(
    user: Reader,
    service: ServiceHere,
    state: Annotated[list[State], Query()] = [],  # noqa: B006 - FastAPI copies it
    label: Annotated[list[Text], Query(description="KEY=VALUE; all are to hold.")] = [],  # noqa: B006
    q: Annotated[Text, Query(description="A text in id, owner, name, labels, source or output.")] = "",
    owner: Annotated[Text, Query(description='"me" for one\'s own.')] = "",
    limit: Annotated[int, Query(ge=1)] = 25,
    cursor: Annotated[str, Query(pattern="^[0-9]{0,18}$")] = "",
) -> JobsAnswer:
    """The jobs that this server knows, the newest first."""
    whose = {"me": user.name, "": None}.get(owner, owner)
    query = JobQuery(whose, tuple(state), labels_of(label, "give such as label=lab=blue"), q, limit, cursor)
    page = service.index.jobs(query)
    return JobsAnswer(jobs=list(map(JobAnswer.of, page.rows)), next=page.next_cursor, total=page.total)


@router.get("/{job}", responses=told(404), dependencies=READ)
def looked_at(job: JobId, service: ServiceHere) -> JobAnswer:
    """A job, and why it waits where it does."""
    return JobAnswer.of(service.index.job(job))


@router.post("/{job}/stop", status_code=202, responses=told(404, 409))
def stopped(job: JobId, user: Submitter, service: ServiceHere) -> JobAnswer:
    """Have it publish what it has after the present pass."""
    return _wished(service, user, job, "stop")


@router.post("/{job}/cancel", status_code=202, responses=told(404, 409))
def cancelled(job: JobId, user: Submitter, service: ServiceHere, body: CancelBody | None = None) -> JobAnswer:
    """End it without a result: it is "cancelled" when its last lane has stopped."""
    return _wished(service, user, job, "cancel", drop=body is not None and body.drop)


@router.post("/{job}/resume", status_code=202, responses=told(404, 409))
def resumed(job: JobId, user: Submitter, service: ServiceHere) -> JobAnswer:
    """Go on with one that failed or was cancelled, from what it has finished."""
    row = own_job(service, user, job)
    service.roots.check_free(row.out, user)  # others may have had it meanwhile
    return _wished(service, user, job, "resume")


def _wished(service: Service, user: User, job: str, verb: Verb, *, drop: bool = False) -> JobAnswer:
    own_job(service, user, job)
    return JobAnswer.of(service.index.wish(job, verb, drop=drop))


@router.delete("/{job}", status_code=204, responses=told(404, 409))
def deleted(job: JobId, user: Submitter, service: ServiceHere) -> None:
    """Forget a job that has ended; its result stays."""
    own_job(service, user, job)
    service.index.forget(job)


@router.get("/{job}/log", response_class=PlainTextResponse, responses=told(404), dependencies=READ)
def log(
    job: JobId,
    service: ServiceHere,
    tail_bytes: Annotated[int, Query(ge=1, le=_MOST_LOG_BYTES)] = _MOST_LOG_BYTES,
) -> str:
    """What its drivers have printed, the last of it."""
    record = service.index.job(job).record
    return "" if record is None else read_text(record.log, tail_bytes)
