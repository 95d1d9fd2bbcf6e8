"""Memory of this process: its peak while a run is under way, giving it back, how much more there is."""

from __future__ import annotations

import ctypes
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

_SECONDS = 0.02
_TOKEN = uuid.uuid4().hex
_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD_BYTES = (2**18, 2**22)
_BUDGET_SHARE = 128


@dataclass(frozen=True)
class ProcessMemory:
    """Resident memory of one process.

    Attributes:
        process: what tells it from every other process of a cluster.
        baseline_bytes: when it was first looked at. peak_bytes: the most that was seen since.

    """

    process: str
    baseline_bytes: int
    peak_bytes: int

    @property
    def grown_bytes(self) -> int:
        """How much the process has grown; what others in it have taken meanwhile is in it."""
        return max(0, self.peak_bytes - self.baseline_bytes)

    def exceeded_bytes(self, planned_bytes: int) -> int:
        """By how much more than planned the process has grown, as far as was seen; 0 if it has not."""
        return max(0, self.grown_bytes - planned_bytes)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `ProcessMemory(**values)` is the inverse."""
        return asdict(self)


def this_process() -> str:
    """A name that no other process has: a forked one inherits the token, but not the number."""
    return f"{_TOKEN}-{os.getpid()}"


class MemoryMonitor:
    """Watches the memory of this process from entry to exit."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bigsvd-memory", daemon=True)
        self._baseline_bytes = 0
        self._peak_bytes = 0

    def __enter__(self) -> MemoryMonitor:
        self._baseline_bytes = self._peak_bytes = self._resident_bytes()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def seen(self) -> ProcessMemory:
        """What has been seen so far."""
        self._look()
        return ProcessMemory(this_process(), self._baseline_bytes, self._peak_bytes)

    def _watch(self) -> None:
        while not self._ended.wait(_SECONDS):
            self._look()

    def _look(self) -> None:
        self._peak_bytes = max(self._peak_bytes, self._resident_bytes())

    def _resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)


def return_large_buffers(budget_bytes: int) -> None:
    """Make glibc give buffers that are large for a budget (a 128th) back to the system when they are freed.

    By default it raises that threshold to 32 MB as soon as one such buffer was freed, and then keeps them in
    an arena for each thread: 0.4 GB more for the same run, measured on panels of 64 MB read by four threads.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        least, most = _MMAP_THRESHOLD_BYTES
        libc.mallopt(_M_MMAP_THRESHOLD, min(most, max(least, budget_bytes // _BUDGET_SHARE)))


def return_free_memory() -> None:
    """Make glibc give back what has been freed in its arenas: else each thread's keeps its own."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


# A control group's limits, its use, and the part of that which is files, by version of the interface.
_GROUP_FILES = (
    (("memory.max", "memory.high"), "memory.current", ("active_file", "inactive_file")),
    (("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
)


def available_memory(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still take, on this machine and within its control groups (Linux).

    What holds files that can be read again counts as free. (psutil knows no control groups, and distributed
    the topmost alone, which outside a container is not that of a Slurm job or a systemd service.)
    """
    free = int(psutil.virtual_memory().available)
    for folder in _control_groups(groups, mounted):
        for limits, used, files in _GROUP_FILES:
            known = [limit for name in limits if (limit := _number(folder / name)) is not None]
            taken = _number(folder / used)
            if known and taken is not None:
                free = min(free, min(known) - taken + _of_files(folder / "memory.stat", files))
    return max(0, free)


def _number(file: Path) -> int | None:
    """What a file of one number says; None where it is not there, or says "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _of_files(stat: Path, names: tuple[str, ...]) -> int:
    """The sum of these lines; 0 of a file that cannot be read."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
    except OSError:
        return 0
    return sum(int(words[1]) for words in lines if len(words) == 2 and words[0] in names)


def _control_groups(groups: Path, mounted: Path) -> Iterator[Path]:
    """Folders of the groups that limit this process's memory, and of those that these are in."""
    try:
        lines = groups.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        top = mounted / "memory" if controllers else mounted
        folder = top / path.strip("/")
        yield folder
        yield from (parent for parent in folder.parents if parent.is_relative_to(top))
