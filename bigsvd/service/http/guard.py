"""`Guard`: what every request passes first, whatever it asks for, and what every answer says to browsers.

A request must call the server by a name of its own, since a page may point another name at this machine. What
would change something must come from the service's own page, or bring a token that no browser sends by
itself. A body is read here, within limits of bytes, time and nesting, before anything else sees it.
"""

from __future__ import annotations

from collections.abc import Sized

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bigsvd.errors import BigsvdError, CrowdedError
from bigsvd.service.http.arrival import Arrival, too_large
from bigsvd.service.http.auth import user_of
from bigsvd.service.http.host import Names
from bigsvd.service.http.nesting import check_nesting
from bigsvd.service.http.origin import check_origin
from bigsvd.service.http.problems import answer
from bigsvd.service.operations.disk import Room
from bigsvd.service.settings import Limits, Settings

_SLOWEST = 2**16  # bytes in a second that a large body must bring, behind the first seconds that any may take
_LINGER_SECONDS = 2.0  # for a client that sends on although it is refused, to read why
_MOST_DIGITS = 15  # of a length
_GROWING = ("jobs", "links", "resume", "truncate", "verify")  # last names of what a POST makes more of
_UNKNOWN_BYTES = 2**16  # that somebody may send of whom it is not yet known who they are
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",  # the name of a shared link is a secret
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_OWN = _ALWAYS | {"Cross-Origin-Resource-Policy": "same-origin"}
_VARY = {"Vary": "Origin"}
_ARRAYS = _ALWAYS | _VARY | {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Authorization, If-None-Match, Range",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
    "Access-Control-Max-Age": "600",
    "Cross-Origin-Resource-Policy": "cross-origin",
}  # fmt: skip


class Guard:
    """An ASGI application around that of the service; `connections` are those that are open to its server."""

    def __init__(self, app: ASGIApp, settings: Settings, connections: Sized = ()) -> None:
        self._app = app
        self._settings = settings
        self._connections = connections
        self._names = Names(settings)
        self._room = Room(settings)
        self._origins = frozenset(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, arrival = Headers(scope=scope), Arrival(receive)
        dressed = _dressed(send, self._headers(scope["path"], headers.get("origin", "")))
        try:
            self._names.check(headers.get("host", ""))
            self._check_crowd(scope["path"])
            check_origin(scope["method"], headers)
            await self._take_in(scope, headers, arrival)
            if _takes_room(scope):
                await self._room.check()
        except BigsvdError as error:
            await _refuse(error, arrival, dressed)
        else:
            await self._answering(scope, headers)(scope, arrival.receive, dressed)

    def _check_crowd(self, path: str) -> None:
        """`CrowdedError` where there are too many connections to answer on; that the server lives is said."""
        most, there = self._settings.limits.connections, len(self._connections)
        if there > most and path != "/healthz":
            raise CrowdedError(
                f"{there:,} connections are open, over the {most:,} that may be (connections)",
                "close those that are not used, and try again",
            )

    def _answering(self, scope: Scope, headers: Headers) -> ASGIApp:
        """Who answers: this, to a browser that asks whether a page may ask."""
        asks = "access-control-request-method" in headers
        if scope["method"] == "OPTIONS" and asks and _is_array(scope["path"]):
            return Response(status_code=204)
        return self._app

    def _headers(self, path: str, origin: str) -> dict[str, str]:
        """Those of one answer: only arrays are for pages of other servers, and only of those named."""
        if not _is_array(path):
            return _OWN | ({"Cache-Control": "no-store"} if path.startswith("/v1/") else {})
        if origin and {origin, "*"} & self._origins:
            return _ARRAYS | {"Access-Control-Allow-Origin": origin}
        return _OWN | _VARY

    async def _take_in(self, scope: Scope, headers: Headers, arrival: Arrival) -> None:
        """Read the body, if there is one."""
        if "content-length" not in headers and "transfer-encoding" not in headers:
            return
        limits = self._settings.limits
        most = most_bytes(scope["path"], limits)
        if _announced(headers) > most:
            raise too_large(f"{_announced(headers):,}", most)
        if _announced(headers) > _UNKNOWN_BYTES:
            await run_in_threadpool(user_of, Request(scope))
        size = _announced(headers) if "content-length" in headers else most
        await arrival.complete(most, limits.arrival_seconds + size / _SLOWEST)
        if "json" in headers.get("content-type", "json"):
            if len(arrival.body) <= _UNKNOWN_BYTES:
                check_nesting(arrival.body, limits.body_levels)
            else:  # others are not to wait meanwhile
                await run_in_threadpool(check_nesting, arrival.body, limits.body_levels)


def _dressed(send: Send, own: dict[str, str]) -> Send:
    """As `send`, with what every answer says to browsers."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in own.items():
                headers.setdefault(name, value)
        await send(message)

    return sent


def _is_array(path: str) -> bool:
    """Whether an address is that of a part of an array: such may be read from pages of other servers."""
    parts = path.split("/", 5)
    return len(parts) > 4 and parts[1] == "v1" and parts[2] in ("results", "links") and parts[4][:4] == "zarr"


def _takes_room(scope: Scope) -> bool:
    """Whether a request has something new written; what stops or deletes comes through on a full disk."""
    return scope["method"] == "POST" and scope["path"].rpartition("/")[2] in _GROWING


def most_bytes(path: str, limits: Limits) -> int:
    """How many bytes a body may have: samples that are to be projected may be large."""
    return limits.region_bytes if path.endswith("/project") else limits.body_bytes


def _announced(headers: Headers) -> int:
    """How many bytes a body is to have; where that is not said, more than anybody may send unknown."""
    text = headers.get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < _MOST_DIGITS else _UNKNOWN_BYTES + 1


async def _refuse(error: BigsvdError, arrival: Arrival, send: Send) -> None:
    """Say why, and close the connection; not before all has come, or it is reset with the answer unread."""
    said = answer(error)
    said.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": said.status_code, "headers": said.raw_headers})
    await send({"type": "http.response.body", "body": said.body, "more_body": True})
    await arrival.discard(_LINGER_SECONDS)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
