"""How many streams of events are open, which all end when the server is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bigsvd.errors import QuotaError


class Streams:
    """Those of one server, `most` at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def open(self) -> int:
        """How many there are."""
        return self._open

    @property
    def closing(self) -> bool:
        """Whether they are to end: each looks at this several times a second."""
        return self._closing.is_set()

    def close(self) -> None:
        """Have all of them end, from whatever thread."""
        self._closing.set()

    def check(self) -> None:
        """`QuotaError` where there are as many as there may be."""
        if self._open >= self._most:
            raise QuotaError(
                f"{self._open} streams of events are open, at most limits.streams={self._most} may be",
                "close one, or ask for events by after=N instead",
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """A stream, for as long as it is open; asked by `check` before its answer has begun."""
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
