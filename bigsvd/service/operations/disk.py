"""Whether the disks of a server have room for anything new."""

from __future__ import annotations

import shutil
from pathlib import Path

from bigsvd.errors import DiskFullError
from bigsvd.service.settings import Settings
from bigsvd.units import human_bytes


def check_room(settings: Settings) -> None:
    """`DiskFullError` where a disk has less left than its operator keeps free."""
    for folder in (settings.state, *settings.roots):
        _check(folder, settings.limits.free_bytes)


def _check(folder: Path, kept_bytes: int) -> None:
    free = free_bytes(folder)
    if free < kept_bytes:
        raise DiskFullError(
            f"a disk has {human_bytes(free)} left, under the {human_bytes(kept_bytes)} of free_bytes",
            "delete results, or ask the operator for room",
        )


def free_bytes(folder: Path) -> int:
    """What this user may still write where a folder is, or would be."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free
