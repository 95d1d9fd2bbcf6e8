"""How long something takes that is done several times."""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_SECONDS = 0.02


def seconds_of(once: Callable[[], None]) -> float:
    """Of one of several calls, the first not counted; at least one is, though the clock may have run out."""
    once()
    start, count, spent = time.perf_counter(), 0, 0.0
    while count == 0 or spent < _LEAST_SECONDS:
        once()
        count += 1
        spent = time.perf_counter() - start
    return spent / count
