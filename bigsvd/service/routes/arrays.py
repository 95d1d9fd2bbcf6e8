"""Results as Zarr groups by URL: for whoever has a token, and for whoever has a link.

A reader of Zarr takes the status 404 for a chunk of nothing but fill values. So nothing that lies in the grid
of an array is ever answered by it: not where the result is gone, the link was revoked or the job is unknown.

A reader asks for thousands of chunks, one like the other but for the key. Who it is and which result it means
is found out once a second: a token or a link that is revoked reads that much longer. Whether the result is
the same is looked at for each chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Path, Request, Response
from starlette.exceptions import HTTPException

from bigsvd.errors import FactorStoreError, JobError, LinkError
from bigsvd.results.factors import check_rank
from bigsvd.service.arrays.open_results import OpenResult
from bigsvd.service.http.auth import permitted, user_of
from bigsvd.service.http.conditional import Value, answered
from bigsvd.service.http.problems import told
from bigsvd.service.results.lookup import ResultId, found_result
from bigsvd.service.service import Service

router = APIRouter(prefix="/v1", tags=["arrays"])

# What is sent may be kept by whoever asked and must be asked for again, which an ETag makes cheap: a token
# and a link can be revoked. No proxy may compress it, or chunks would lose their length and ranges.
_HEADERS = {"Cache-Control": "private, no-cache, no-transform"}
_ANSWERS = told(404, 409, 410, 416) | {
    200: {
        "description": "The bytes of a chunk, or a document.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {},
        },
    },
    206: {"description": "The part of them that the Range header asks for."},
    304: {"description": "They are what If-None-Match names."},
}

Key = Annotated[str, Path(max_length=200, description="Of Zarr format 3, such as reconstruction/c/0/0.")]
Rank = Annotated[int, Path(ge=1, description="How many of the leading triplets.")]
Secret = Annotated[str, Path(min_length=1, max_length=200, description="Of a link.")]
Found: TypeAlias = tuple[OpenResult, int]


async def of_result(result: ResultId, key: Key, http: Request) -> Response:
    """A document or a chunk of a result's group: `reconstruction`, `levels`, `U`, `s`, `Vt`."""
    return await _sent(http, key, partial(_by_token, http, result, None))


async def of_leading(result: ResultId, k: Rank, key: Key, http: Request) -> Response:
    """The same of its k leading triplets."""
    return await _sent(http, key, partial(_by_token, http, result, k))


async def of_link(secret: Secret, key: Key, http: Request) -> Response:
    """The same of the result that a link shows."""
    return await _sent(http, key, partial(_by_link, http, secret, None))


async def of_leading_by_link(secret: Secret, k: Rank, key: Key, http: Request) -> Response:
    """The same of its k leading triplets."""
    return await _sent(http, key, partial(_by_link, http, secret, k))


for path, endpoint in (
    ("/results/{result}/zarr/{key:path}", of_result),
    ("/results/{result}/zarr@{k:int}/{key:path}", of_leading),
    ("/links/{secret}/zarr/{key:path}", of_link),
    ("/links/{secret}/zarr@{k:int}/{key:path}", of_leading_by_link),
):
    options: dict[str, Any] = {"responses": _ANSWERS, "response_class": Response}
    router.get(path, **options)(endpoint)
    router.head(path, **options)(endpoint)


async def _sent(http: Request, key: str, find: Callable[[], Found]) -> Response:
    """All of it in one thread, of which only so many compute at a time, and none of those of other routes."""
    service: Service = http.app.state.service
    work = partial(_answer, http, key, find)
    return await service.arrays.background.run(work)


def _answer(http: Request, key: str, find: Callable[[], Found]) -> Response:
    service: Service = http.app.state.service
    try:
        result, k = service.arrays.recent.get(_asker(http, key), _is_there, find)
    except (JobError, LinkError) as error:
        if _may_be_chunk(key):
            raise FactorStoreError(error.message, error.remedy) from error
        raise
    group = result.group(k)
    size = group.size(key)
    if size is None:
        raise HTTPException(404)
    media_type = "application/json" if key.endswith(".json") else "application/octet-stream"
    value = Value(size, result.tag(k, key), media_type, partial(result.value, k, key))
    return answered(value, http.headers, _HEADERS, body=http.method == "GET")


def _by_token(http: Request, result: str, k: int | None) -> Found:
    """The result of an id, for a user who may read."""
    permitted(user_of(http), "read")
    service: Service = http.app.state.service
    path, asked = found_result(service, result)
    opened = service.arrays.opened(path, asked)
    return opened, k or opened.factors.k


def _by_link(http: Request, secret: str, k: int | None) -> Found:
    """The result that a link shows, of as many triplets as it shows at most."""
    service: Service = http.app.state.service
    link = service.links.find(secret)
    if link is None:
        raise LinkError("this link does not hold: it was revoked or has run out", "ask for another")
    path, asked = found_result(service, link.job)
    opened = service.arrays.opened(path, asked)
    most = link.k or opened.factors.k
    check_rank(k or most, most)
    return opened, k or most


def _asker(http: Request, key: str) -> Hashable:
    """All of a request but for the key: whatever decides who asks, and which result is meant."""
    scope = http.scope
    return (
        scope["path"].removesuffix(key),
        scope["query_string"],
        scope["client"] and scope["client"][0],
        tuple(scope["headers"]),
    )


def _is_there(found: Found) -> bool:
    return found[0].is_there()


def _may_be_chunk(key: str) -> bool:
    return "/c/" in key
