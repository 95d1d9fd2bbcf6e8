"""`Recent`: what was found out a moment ago and need not be found out again for each of many requests."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Found = TypeVar("Found")


class Recent(Generic[Found]):
    """Answers by what was asked, for so many seconds; errors are not kept."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._known: OrderedDict[Hashable, tuple[Found, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, asked: Hashable, holds: Callable[[Found], bool], find: Callable[[], Found]) -> Found:
        """What was found, if that is recent and `holds` still; else what is found now."""
        now = time.monotonic()
        with self._lock:
            found, until = self._known.get(asked, (None, 0.0))
        if found is not None and now < until and holds(found):
            return found
        fresh = find()
        with self._lock:
            self._known[asked] = fresh, now + self._seconds
            self._known.move_to_end(asked)
            self._drop_old(now)
        return fresh

    def _drop_old(self, now: float) -> None:
        """Keep no more than may be, and nothing that is not recent: it may hold much."""
        while self._known:
            asked, (_, until) = next(iter(self._known.items()))
            if len(self._known) <= self._most and now < until:
                return
            del self._known[asked]
