"""The streams of events that are open: how many, of which jobs, and that all end when the server is to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from bigsvd.errors import QuotaError
from bigsvd.service.arrays.recent import Recent
from bigsvd.service.queue.rows import JobRow

_FRESH_SECONDS = 0.4  # for which what was found of a job is good enough


class Streams:
    """Those of one server, `most` at a time.

    `look` is how the index is asked for a job: of many streams that follow one, one asks at a time.
    """

    def __init__(self, most: int, look: Callable[[str], JobRow]) -> None:
        self._most = most
        self._look = look
        self._seen: Recent[JobRow] = Recent(_FRESH_SECONDS, most)
        self._open = 0
        self._lock, self._looking = threading.Lock(), threading.Lock()
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

    def job(self, job: str) -> JobRow:
        """A job as it was a moment ago; `JobError` where there is none."""
        with self._looking:
            return self._seen.get(job, _holds, partial(self._look, job))

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


def _holds(_: JobRow) -> bool:
    """What was found a moment ago is good enough."""
    return True
