"""Every refusal as `application/problem+json` (RFC 9457): its code, what is wrong, what to do.

One table says which status a kind of error has. An exception that nobody foresaw says nothing of itself to
whoever asked: it is in the server's log.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from bigsvd.errors import (
    AuthError,
    BadInputError,
    BigsvdError,
    ClusterBusyError,
    CrowdedError,
    DiskFullError,
    FactorStoreError,
    HostError,
    JobError,
    KeyReusedError,
    LinkError,
    NoWorkersError,
    OriginError,
    OutputBusyError,
    OutputExistsError,
    OutsideRootsError,
    QuotaError,
    RequestError,
    ScopeError,
    SlowError,
    SourceChangedError,
    StateError,
    StorageError,
    SupersededError,
    TooLargeError,
)

MEDIA_TYPE = "application/problem+json"
# Of an error the status of the first of its classes, from its own upwards, that is here.
STATUS: dict[type[BaseException], int] = {
    AuthError: 401,
    OriginError: 403,
    OutsideRootsError: 403,
    ScopeError: 403,
    JobError: 404,
    LinkError: 404,
    SlowError: 408,
    OutputBusyError: 409,
    OutputExistsError: 409,
    SourceChangedError: 409,
    StateError: 409,
    SupersededError: 409,
    FactorStoreError: 410,  # never 404, which a reader of Zarr takes for a chunk of nothing but fill values
    TooLargeError: 413,
    HostError: 421,
    KeyReusedError: 422,
    BadInputError: 422,
    QuotaError: 429,
    BigsvdError: 500,
    ClusterBusyError: 503,
    CrowdedError: 503,
    NoWorkersError: 503,
    StorageError: 503,
    DiskFullError: 507,
}
_NO_ROOM = 507
_FULL = (errno.ENOSPC, errno.EDQUOT)
_RETRY_SECONDS = {429: 10, 503: 10}
_MOST_FINDINGS = 5  # of what is wrong with a body
_MOST_SHOWN = 80  # characters of a value that is refused


class Problem(BaseModel):
    """What is wrong, and what to do."""

    type: str = Field(description="A URN of the code.", examples=["urn:bigsvd:E_K"])
    title: str = Field(description="What the status means.")
    status: int = Field(description="The status of the answer, too.")
    code: str = Field(pattern="^E_[A-Z_]+$", description="What programs tell errors by.")
    detail: str = Field(description="What is wrong, with both numbers.")
    remedy: str = Field(description="What to do.")


def status_of(error: BigsvdError) -> int:
    """The status of an error."""
    if isinstance(error, StorageError) and _disk_is_full(error):
        return _NO_ROOM
    return _status_by_kind(type(error))


def _status_by_kind(kind: type) -> int:
    """That of the first of its classes which the table has."""
    return next(STATUS[one] for one in kind.__mro__ if one in STATUS)


def _disk_is_full(error: BaseException) -> bool:
    causes = _chain(error)
    return any(isinstance(cause, OSError) and cause.errno in _FULL for cause in causes)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def problem(status: int, code: str, detail: str, remedy: str) -> Problem:
    """The value of an answer."""
    title = HTTPStatus(status).phrase
    return Problem(
        type=f"urn:bigsvd:{code}", title=title, status=status, code=code, detail=detail, remedy=remedy
    )


def answer(error: BigsvdError) -> Response:
    """What is answered instead of what was asked for; middleware uses it, too."""
    return _answered(problem(status_of(error), error.code, error.message, error.remedy))


def _answered(said: Problem, headers: Mapping[str, str] | None = None) -> Response:
    own = {name: value for name, value in (headers or {}).items() if name.lower() != "content-length"}
    if said.status == 401:
        own.setdefault("WWW-Authenticate", "Bearer")
    if said.status in _RETRY_SECONDS:
        own.setdefault("Retry-After", str(_RETRY_SECONDS[said.status]))
    return Response(said.model_dump_json(), said.status, own, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have an application answer all its errors so."""
    app.add_exception_handler(BigsvdError, _of_ours)
    app.add_exception_handler(OSError, _of_the_system)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_anything)


async def _of_ours(_: Request, error: Exception) -> Response:
    if not isinstance(error, BigsvdError):  # never: it is installed for these
        raise error
    return answer(error)


async def _of_the_system(_: Request, error: Exception) -> Response:
    """A disk that is full; all else is nobody's deliberate word."""
    if not _disk_is_full(error):
        raise error
    return _answered(_full_disk())


def _full_disk() -> Problem:
    remedy = "delete results, or ask the operator for room"
    return problem(_NO_ROOM, StorageError.code, "the disk of the server is full", remedy)


async def _of_validation(_: Request, error: Exception) -> Response:
    findings = error.errors() if isinstance(error, RequestValidationError) else ()
    told = [_told(finding) for finding in findings]
    detail = "; ".join(told[:_MOST_FINDINGS]) or "the request has another form"
    if len(told) > _MOST_FINDINGS:
        detail += f"; and {len(told) - _MOST_FINDINGS} more"
    return _answered(problem(422, RequestError.code, detail, "look it up in /v1/openapi.json"))


def _told(finding: Mapping[str, Any]) -> str:
    """Where something is wrong, what, and what was given."""
    where = ".".join(str(part) for part in finding.get("loc", ()))
    said = str(finding.get("ctx", {}).get("error", finding.get("msg", "")))
    given = finding.get("input")
    if not isinstance(given, (str, int, float)):
        return f"{where}: {said}"
    return f"{where}={str(given)[:_MOST_SHOWN]!r}: {said}"


_OF_HTTP = {
    404: ("E_NOT_FOUND", "there is nothing of this name", "look it up in /v1/openapi.json"),
    405: ("E_METHOD", "this name knows no such method", "use one that the Allow header names"),
}


async def _of_http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):  # never: it is installed for these
        raise error
    code, detail, remedy = _OF_HTTP.get(
        error.status_code, ("E_HTTP", str(error.detail), "look it up in /v1/openapi.json")
    )
    return _answered(problem(error.status_code, code, detail, remedy), error.headers)


async def _of_anything(_: Request, error: Exception) -> Response:
    """Starlette raises the error again once this is sent, so that the server logs it."""
    del error
    return _answered(
        problem(500, BigsvdError.code, "the server failed unexpectedly", "its operator finds why in its log")
    )


def told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer instead, for the OpenAPI document; those that every route may among them."""
    everywhere = (401, 403, 408, 413, 421, 422, 429, 500, 503, 507)
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*everywhere, *statuses})
    }
