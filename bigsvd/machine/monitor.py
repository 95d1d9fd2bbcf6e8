"""Memory of this process: its peak while a run is under way, and giving it back."""

from __future__ import annotations

import ctypes
import os
import threading
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import psutil

# Seconds between two looks at the memory of the process.
_SECONDS = 0.02
_TOKEN = uuid.uuid4().hex
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# The least and the most that glibc is told to give back by itself, in bytes of a buffer, and by what the
# budget is divided for it. What a lane works on at a time is smaller than the most: where it was given back
# each time, and new pages taken for it, a first pass over float32 took 1.5 times as long.
_MMAP_THRESHOLD_BYTES = (2**18, 2**22)
_BUDGET_SHARE = 32
_TRIM_SHARE = 4  # of these thresholds that may be free at the end of an arena


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
    """Make glibc give buffers that are large for a budget (a 32nd) back to the system when they are freed.

    By default it raises that threshold to 32 MB as soon as one such buffer was freed, and then keeps them in
    an arena for each thread: 0.4 GB more for the same run, measured on panels of 64 MB read by four threads.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        least, most = _MMAP_THRESHOLD_BYTES
        threshold = min(most, max(least, budget_bytes // _BUDGET_SHARE))
        libc.mallopt(_M_MMAP_THRESHOLD, threshold)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_SHARE * threshold)


def return_free_memory() -> None:
    """Make glibc give back what has been freed in its arenas: else each thread's keeps its own."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
