"""What goes to a service and comes back: with a token, tried again where the way to it fails for a moment.

A proxy that says 502, a server that is being replaced or a network that is gone for seconds end nothing: the
same is asked again, after pauses that grow, for as long as the wire has patience. Whoever asks for something
that must not happen twice says so, see `Wire.ask`.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from bigsvd.errors import BigsvdError, JobError, RequestError, ServiceError, StateError, by_code

PATIENCE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.2
_MOST_PAUSE_SECONDS = 10.0
_UNKNOWN_PATIENCE_SECONDS = 3.0  # with a service that has never answered: its address may be wrong
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_BUSY = frozenset({502, 503, 504})  # what proxies, and a server that ends or is overloaded, say
_LOCAL = ("localhost", "ip6-localhost")
# No proxy of the environment stands between a machine and itself.
_WITHOUT_PROXY: dict[str, httpx.BaseTransport | None] = {"all://": None, "http://": None, "https://": None}
_NO_CODE = {401: "E_AUTH", 403: "E_SCOPE", 413: "E_TOO_LARGE"}  # of a proxy that answers for the service


# What a service says of what it has done already: the job has ended, or is gone.
_DONE = (StateError, JobError)


@dataclass(frozen=True)
class _Tried:
    """How one try ends: `unheard` where the service has not begun with it, `passing` where another may do."""

    how: httpx.Response | BigsvdError
    unheard: bool = False
    passing: bool = False


@dataclass(frozen=True)
class _Ended:
    """How a request ends, and whether an answer to it was lost before."""

    how: httpx.Response | BigsvdError
    lost: bool


class Wire:
    """The requests to one service; a context manager.

    Args:
        url: of the service, such as ``https://svd.lab.example`` or ``http://127.0.0.1:8765``.
        token: whose it is decides what may be asked for; empty where the service asks for none.
        patience_seconds: for how long a request that fails for a moment is tried again.
        transport: how requests travel, where not by the network.
        pause: waits for so many seconds.

    Raises:
        RequestError: the URL is none of a service, or holds a secret, which belongs into `token`.

    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = _checked(url)
        self.headers = {"Authorization": f"Bearer {_printable(token)}"} if token else {}
        self.patience_seconds = patience_seconds
        self.pause = pause
        self._has_answered = False
        self._http = httpx.Client(
            base_url=self.url + "/", headers=self.headers, timeout=_TIMEOUT, transport=transport,
            mounts=_WITHOUT_PROXY if is_local(self.url) else None,
        )  # fmt: skip

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back its connections."""
        self._http.close()

    def ask(self, method: str, path: str, *, once: bool = False, **given: Any) -> httpx.Response:
        """The answer to a request; `given` are arguments of `httpx.Client.request`.

        Args:
            method: of HTTP.
            path: below the service's URL.
            once: it is not sent again after an answer was lost, since it may have been heard.
            given: its body, parameters and headers.

        Raises:
            BigsvdError: what the service says, of its own class.
            ServiceError: it cannot be reached.

        """
        ended = self._ended(method, path, once, given)
        if isinstance(ended.how, BigsvdError):
            raise ended.how
        return ended.how

    def wish(self, method: str, path: str, **given: Any) -> None:
        """Have something done that changes nothing where it is done already.

        Where an answer was lost, and the service then says that the state is no longer one for this, it is
        done.
        """
        ended = self._ended(method, path, False, given)
        if isinstance(ended.how, BigsvdError) and not (ended.lost and isinstance(ended.how, _DONE)):
            raise ended.how

    def _ended(self, method: str, path: str, once: bool, given: dict[str, Any]) -> _Ended:
        """How a request ends that is tried as long as there is hope and patience."""
        begun, lost, pauses = time.monotonic(), False, _pauses()
        while True:
            tried = self._tried(method, path, given)
            hope = tried.unheard or (tried.passing and not once)
            pause = next(pauses)
            if not hope or time.monotonic() - begun + pause > self._patience:
                return _Ended(tried.how, lost)
            lost = lost or not tried.unheard
            self.pause(pause)

    def _tried(self, method: str, path: str, given: dict[str, Any]) -> _Tried:
        """One try."""
        try:
            answer = self._http.request(method, path, **given)
        except httpx.TransportError as error:
            unheard = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            return _Tried(_unreached(self.url, error), unheard, passing=True)
        self._has_answered = True
        if answer.is_success:
            return _Tried(answer)
        busy = answer.status_code in _BUSY
        return _Tried(problem(answer), unheard=answer.status_code == 503, passing=busy)

    @property
    def _patience(self) -> float:
        if self._has_answered:
            return self.patience_seconds
        return min(self.patience_seconds, _UNKNOWN_PATIENCE_SECONDS)

    def told(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        """The JSON object that answers a request."""
        answer = self.ask(method, path, **given)
        try:
            values = answer.json()
        except ValueError as error:
            raise self._no_service(answer) from error
        if not isinstance(values, dict):
            raise self._no_service(answer)
        return values

    def _no_service(self, answer: httpx.Response) -> ServiceError:
        kind = answer.headers.get("content-type", "nothing")
        return ServiceError(
            f"{self.url} answers {kind} instead of JSON: it is no bigsvd service", "look at its URL"
        )

    @contextmanager
    def lines(self, path: str, **given: Any) -> Iterator[Iterator[str] | None]:
        """The lines of an answer that goes on, as they come; None where it is no stream of events.

        What fails on the way raises `httpx.TransportError` out of the iterator, which `broken` names.
        """
        with self._http.stream("GET", path, timeout=httpx.Timeout(60.0, connect=10.0), **given) as answer:
            streams = answer.headers.get("content-type", "").startswith("text/event-stream")
            yield answer.iter_lines() if answer.is_success and streams else None


BROKEN = (httpx.TransportError, httpx.StreamError)  # what ends a stream before its end


def is_local(url: str) -> bool:
    """Whether a URL is of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOCAL or host.endswith(".localhost")


def _pauses() -> Iterator[float]:
    """Seconds before each next try: twice as many as before the last."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, _MOST_PAUSE_SECONDS)


def _checked(url: str) -> str:
    """The URL of a service without the slashes at its end."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = url if "@" not in url and "#" not in url else parts.scheme
        raise RequestError(f"{shown!r} is no URL of a service", "give such as http://127.0.0.1:8765")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise RequestError(
            f"the URL of the service at {parts.hostname} has more than an address",
            "leave out what follows # or ? and stands before @; a token is given by itself",
        )
    return url.rstrip("/")


def _printable(token: str) -> str:
    """A token as a header can hold it; it is not shown."""
    token = token.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise RequestError("the token has characters that no token has", "give it as it was printed")
    return token


def _unreached(url: str, error: httpx.TransportError) -> ServiceError:
    kind = type(error).__name__
    text = f"{kind}: {error}" if str(error) else kind
    return ServiceError(f"{url} cannot be reached ({text})", "see whether the service runs, and try again")


def problem(answer: httpx.Response) -> BigsvdError:
    """The error that an answer tells of, of its own class; of one that a proxy has made, what is known."""
    values = _values(answer)
    if "code" in values:
        remedy = values.get("remedy") or "look at the service's log"
        return by_code(str(values["code"]), str(values.get("detail", values["code"])), str(remedy))
    status = f"{answer.request.url.host} answers {answer.status_code} {answer.reason_phrase}".rstrip()
    code = _NO_CODE.get(answer.status_code, ServiceError.code)
    return by_code(code, f"{status} to {answer.request.method} {answer.request.url.path}", "ask its operator")


def _values(answer: httpx.Response) -> dict[str, Any]:
    try:
        values = json.loads(answer.content)
    except (ValueError, httpx.StreamError):
        return {}
    return values if isinstance(values, dict) else {}
