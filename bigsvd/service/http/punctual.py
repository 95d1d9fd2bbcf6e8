"""A protocol of HTTP for clients that may take long, but not for ever, to speak and to listen."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class _Deadline:
    """For something that a client has to do; whoever has not done it by then is hung up on."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begin to wait, unless that is so already."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._transport.abort)

    def met(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def punctual(arrival_seconds: float, departure_seconds: float) -> type[H11Protocol]:
    """A protocol that hangs up on whoever has not said in time what they want, or takes no answer.

    Uvicorn has a limit between two requests only, and none for one that has begun.

    Args:
        arrival_seconds: until the headers of a request are here.
        departure_seconds: until so much of an answer has gone that more of it can follow.

    """

    class Punctual(H11Protocol):
        """A connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as there
            super().connection_made(transport)
            self._arrival = _Deadline(transport, arrival_seconds)
            self._departure = _Deadline(transport, departure_seconds)
            self._arrival.begin()

        def data_received(self, data: bytes) -> None:
            known = self.cycle
            if known is None or known.response_complete:
                self._arrival.begin()
            super().data_received(data)
            if self.cycle is not known:
                self._arrival.met()

        def connection_lost(self, exc: Exception | None) -> None:
            self._arrival.met()
            self._departure.met()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._departure.begin()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._departure.met()

    return Punctual
