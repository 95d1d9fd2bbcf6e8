"""Where a path leads: whether two names are one folder or one lies in another, mounted disks, clocks."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path

import psutil

_MOUNTS = Path("/proc/self/mountinfo")


def now_at(folder: Path) -> float:
    """What the clock of a folder's file system says; this machine's, where nothing may be written there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


def resolved(path: str | Path) -> Path:
    """The path without links, `.` and `..`, as the system follows them; its last parts need not exist."""
    return Path(os.path.realpath(path))


def lies_in(inner: Path, outer: Path) -> bool:
    """Whether `inner` is `outer` or lies somewhere in it, even if the two are given by unlike names.

    Two folders are the same if their device and inode are. This finds links, bound mounts, and names in other
    letter case on a file system that ignores case. A folder that does not exist yet has only its name.
    """
    inner, outer = resolved(inner), resolved(outer)
    around = (inner, *inner.parents)
    if outer in around:
        return True
    identity = _identity(outer)
    return identity is not None and any(_identity(folder) == identity for folder in around)


def holds_current_folder(folder: Path) -> bool:
    """Whether this process works in the folder, or somewhere below it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it has been deleted
        return False
    return lies_in(here, folder)


def same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same place."""
    return lies_in(one, other) and lies_in(other, one)


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None if the path does not exist or may not be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_mount_point(folder: Path) -> bool:
    """Whether something is mounted at this folder, so that the folder cannot be renamed."""
    if os.path.ismount(folder):
        return True
    if not _MOUNTS.exists():
        return False
    # `ismount` compares devices, so it misses a folder that is bound to another of the same disk. Linux lists
    # all mounts, the folder as the fifth word of a line, with spaces and the like as octal numbers.
    lines = os.fsdecode(_MOUNTS.read_bytes()).splitlines()
    mounted = {
        re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4]) for line in lines
    }
    return str(folder) in mounted


def file_system_of(folder: Path) -> str:
    """The kind of file system that a folder lies on, or would, as the system calls it; "" where unknown."""
    folder = resolved(folder)
    around = {str(each): depth for depth, each in enumerate(reversed((folder, *folder.parents)))}
    mounts = [mount for mount in psutil.disk_partitions(all=True) if mount.mountpoint in around]
    if not mounts:
        return ""
    # Of several at one place the last hides those before it.
    last = max(enumerate(mounts), key=lambda place: (around[place[1].mountpoint], place[0]))[1]
    return str(last.fstype)
