"""Whether the disks of a server have room for anything new."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from bigsvd.errors import DiskFullError
from bigsvd.service.settings import Settings
from bigsvd.units import human_bytes

_FRESH_SECONDS = 1.0


class Room:
    """How much room the disks of a server have, looked at once a second for all who ask."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._free = math.inf
        self._until = 0.0

    async def check(self) -> None:
        """As `check_room`; whoever asks while somebody looks goes by what was found before."""
        now = time.monotonic()
        if now > self._until:
            self._until = now + _FRESH_SECONDS
            self._free = await run_in_threadpool(_least_free, self._settings)
        _check(self._free, self._settings.limits.free_bytes)


def check_room(settings: Settings) -> None:
    """`DiskFullError` where a disk has less left than its operator keeps free."""
    _check(_least_free(settings), settings.limits.free_bytes)


def _least_free(settings: Settings) -> int:
    return min(map(free_bytes, (settings.state, *settings.roots)))


def _check(free: float, kept_bytes: int) -> None:
    if free < kept_bytes:
        raise DiskFullError(
            f"a disk has {human_bytes(int(free))} left, under the {human_bytes(kept_bytes)} of free_bytes",
            "delete results, or ask the operator for room",
        )


def free_bytes(folder: Path) -> int:
    """What this user may still write where a folder is, or would be."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free
