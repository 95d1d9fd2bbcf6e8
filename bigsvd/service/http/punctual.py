"""A protocol of HTTP for clients that may take long, but not for ever, to say what they want."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def punctual(seconds: float) -> type[H11Protocol]:
    """A protocol that hangs up on whoever has not said within so many seconds what they want.

    Uvicorn has a limit between two requests only, and none for one that has begun.
    """

    class Punctual(H11Protocol):
        """A connection."""

        _waits: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as there
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            known = self.cycle
            if known is None or known.response_complete:
                self._wait()
            super().data_received(data)
            if self.cycle is not known:
                self._be_content()

        def connection_lost(self, exc: Exception | None) -> None:
            self._be_content()
            super().connection_lost(exc)

        def _wait(self) -> None:
            if self._waits is None:
                self._waits = self.loop.call_later(seconds, self.transport.abort)

        def _be_content(self) -> None:
            if self._waits is not None:
                self._waits.cancel()
                self._waits = None

    return Punctual
