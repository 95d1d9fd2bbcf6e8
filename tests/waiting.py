"""Waiting for what another process does, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
_LOOK_SECONDS = 0.02


def wait_until(look: Callable[[], Value], limit_seconds: float, meaning: str) -> Value:
    """The first true value that `look` returns; it fails where there is none within the limit."""
    end = time.monotonic() + limit_seconds
    while not (value := look()):
        assert time.monotonic() < end, f"not within {limit_seconds:g} s: {meaning}"
        time.sleep(_LOOK_SECONDS)
    return value
