"""`Observer`: measures and logs every request, whatever becomes of it."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bigsvd.service.logs import tell
from bigsvd.service.operations.metrics import Measures

_QUIET = ("/healthz", "/readyz", "/metrics")  # asked every few seconds, for ever
_OTHER = "other"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Observer:
    """An ASGI application around that of the service."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and tell of it when it has been answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), [500]  # of one that fails before it has an answer

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            self._tell(scope, status[0], time.perf_counter() - begun)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        method, path = scope["method"], scope["path"]
        self._measures.request(method_of(scope), route_of(scope), status, seconds)
        if path in _QUIET:
            return
        given = scope.get("path_params", {})
        tell(
            "request", method=method, path=path, status=status, seconds=round(seconds, 4),
            job=given.get("job") or given.get("result"), user=scope.get("state", {}).get("user"),
        )  # fmt: skip


def method_of(scope: Scope) -> str:
    """The method, if it is one that is known: a client may write any word, each to be counted for ever."""
    return scope["method"] if scope["method"] in _METHODS else _OTHER


def route_of(scope: Scope) -> str:
    """The pattern of the address that was asked for: a label that has few values, and no secrets."""
    return str(getattr(scope.get("route"), "path", _OTHER))
