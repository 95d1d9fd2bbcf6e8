"""`Arrival`: the body of a request on its way in, within limits of bytes and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.types import Message, Receive

from bigsvd.errors import SlowError, TooLargeError


class Arrival:
    """The body of a request on its way in: read here first, to be received by the application afterwards."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._told = True
        self._gone = False
        self.body = b""
        self.comes = True  # more of it, or the word that there is none

    async def complete(self, most: int, seconds: float) -> None:
        """Read all of it.

        Raises:
            TooLargeError: it has more than `most` bytes, which are all that is ever held.
            SlowError: it has not come within that time.

        """
        try:
            async with asyncio.timeout(seconds):
                self.body = b"".join([part async for part in self._parts(most)])
        except TimeoutError as error:
            raise SlowError(
                f"the body has not come within {seconds:.0f} s (arrival_seconds)", "send it faster"
            ) from error
        self._told = self._gone  # half a body is none

    async def _parts(self, most: int) -> AsyncIterator[bytes]:
        size = 0
        while self.comes:
            part = await self._next()
            size += len(part)
            if size > most:
                raise too_large(f"{size:,} or more", most)
            yield part

    async def _next(self) -> bytes:
        message = await self._receive()
        self._gone = message["type"] == "http.disconnect"
        self.comes = message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def discard(self, seconds: float) -> None:
        """Throw away what still comes, for that long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.comes:
                    await self._next()

    async def receive(self) -> Message:
        """The whole body, and then what comes behind it."""
        if self._told:
            return await self._receive()
        self._told = True
        return {"type": "http.request", "body": self.body, "more_body": False}


def too_large(size: str, most: int) -> TooLargeError:
    """That a body has so many bytes, and may have so many."""
    return TooLargeError(
        f"the body has {size} bytes, over the {most:,} that one may have (body_bytes)", "send less"
    )
