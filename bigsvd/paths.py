"""Where a path leads: whether two names are one folder or one lies in another, mounted disks, clocks."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable
from functools import cache
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
    return Folders((outer,)).hold(resolved(inner))


class Folders:
    """Folders as they lie at one moment, for several paths that may lead into them."""

    def __init__(self, folders: Iterable[str | Path]) -> None:
        self.resolved = tuple(map(resolved, folders))
        self._identity = cache(_identity)

    def hold(self, path: Path) -> bool:
        """Whether a path, which is resolved, leads into one of them; see `lies_in`."""
        around = [str(path), *map(str, path.parents)]
        return any(str(folder) in around or self._is_among(folder, around) for folder in self.resolved)

    def _is_among(self, folder: Path, around: list[str]) -> bool:
        identity = self._identity(str(folder))
        return identity is not None and any(self._identity(each) == identity for each in around)


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


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode; None if the path does not exist or may not be looked at."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked of every folder around a path
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


def beside(path: Path, suffix: re.Pattern[str]) -> list[Path]:
    """What lies in the same folder under the name of a path, a dot, and a suffix that matches.

    By no glob: `fnmatch` keeps what it makes of each pattern, and a server has one for each job.
    """
    start = f"{path.name}."
    there = path.parent.iterdir() if path.parent.is_dir() else ()
    return [
        each for each in there if each.name.startswith(start) and suffix.fullmatch(each.name[len(start) :])
    ]
