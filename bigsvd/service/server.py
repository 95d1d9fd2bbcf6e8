"""Runs a server: from the settings of its operator until a signal says that it is to end.

SIGTERM and Ctrl-C: no job is begun any more, streams end, answers are finished; jobs go on without the
server, which finds them when it is started again. SIGHUP means nothing: a server outlives its terminal.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import uvicorn

from bigsvd.errors import RequestError
from bigsvd.service.app import create_app
from bigsvd.service.http.auth import local_name
from bigsvd.service.http.host import is_loopback
from bigsvd.service.http.punctual import punctual
from bigsvd.service.logs import tell
from bigsvd.service.results.retention import Sweeper
from bigsvd.service.service import Service
from bigsvd.service.settings import Settings

_LEAVE_SECONDS = 1.0  # for threads that have been told to end
_GRACE_SECONDS = 5  # for answers that are on their way
_BACKLOG = 2048  # connections that wait to be taken
_IDLE_SECONDS = 60  # that a connection is kept between two requests: more than proxies keep theirs unused
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - what to call a server that listens there

Say = Callable[[str], None]


def serve(settings: Settings, say: Say, explain: Say) -> None:
    """Answer requests until a signal ends it.

    Args:
        settings: how.
        say: hears the URL, once requests are answered there.
        explain: hears what a person should know of it.

    Raises:
        RequestError: the settings would let in anybody, or the address is taken.
        DatabaseError, StateBusyError: see `Service`.

    """
    check_door(settings)
    with ExitStack() as held:
        listening = held.enter_context(_listening(settings))
        service = held.enter_context(Service(settings))
        held.enter_context(Sweeper(service))
        url = _url(settings, listening)
        say(url + _fragment(service, explain))
        if settings.trusted:
            explain(
                f"no token is asked for: whoever can connect to {url} may do everything, as {local_name()}"
            )
        Server(service).answer(listening)


def leave() -> None:
    """End the process, also where a thread still waits for a disk that hangs, or writes a large result.

    Python would wait for it. All that such a thread has begun survives that, as it does a loss of power.
    """
    until = time.monotonic() + _LEAVE_SECONDS
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    for thread in others:
        if not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
    left = sorted(thread.name for thread in others if thread.is_alive() and not thread.daemon)
    if left:
        tell("threads left behind", threads=left)
        logging.shutdown()
        os._exit(0)


def check_door(settings: Settings) -> None:
    """`RequestError` where people of other machines would be let in without a token."""
    if settings.trusted and not is_loopback(settings.host):
        raise RequestError(
            f"no token is asked for, and {settings.host} may be reached from other machines",
            "listen at 127.0.0.1, or leave out --no-token",
        )
    if bool(settings.user_header) != bool(settings.trusted_proxy):
        raise RequestError(
            f"of user_header={settings.user_header!r} and trusted_proxy={settings.trusted_proxy!r} one lacks",
            "say in which header which proxy says who asks",
        )


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """The socket of the address; `RequestError` where it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise RequestError(
            f"{settings.host}:{settings.port} cannot be listened at ({error.strerror or error})",
            "stop what has it, or choose another host or port",
        ) from error
    # Head and body of an answer are sent one after the other. Unless this is set, the body waits until the
    # client's system has confirmed the head, 40 ms later. Connections have it from the socket that they came
    # to; asyncio sets it only where a socket was made with the name of its protocol.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening:
        yield listening


def _url(settings: Settings, listening: socket.socket) -> str:
    host = _ANYWHERE.get(settings.host, settings.host)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{listening.getsockname()[1]}/"


def _fragment(service: Service, explain: Say) -> str:
    """The first token of a server, to stand behind its URL where no server and no log sees it; or nothing."""
    if service.settings.trusted or service.tokens.all():
        return ""
    secret, _ = service.tokens.make("made at the first start", local_name(), ("admin",))
    explain("this address has the token of an administrator in it, which is shown only now: keep it")
    return f"#token={secret}"


class Server:
    """One that answers at a socket; it ends by SIGTERM or Ctrl-C."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._app = create_app(service)
        limits = service.settings.limits
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                self._app,
                http=punctual(limits.arrival_seconds, limits.departure_seconds),
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # who has connected is known, and not who somebody says it was
                server_header=False,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            ),
            self._leave,
        )
        self._uvicorn.server_state.connections = self._app.state.connections

    def answer(self, listening: socket.socket) -> None:
        """Answer there until a signal comes."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self._uvicorn.run(sockets=[listening])
        finally:
            signal.signal(signal.SIGHUP, before)

    def _leave(self) -> None:
        """Begin nothing new, and let streams end."""
        self._app.state.streams.close()
        self._service.runner.pause()


class _Uvicorn(uvicorn.Server):
    """As it is, but that a signal ends it, and not then also the process: somebody has yet to clear up."""

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; by a second Ctrl-C at once."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()
        self._leave()
