"""The resident memory of this process: its peak while a run is under way, and giving it back."""

from __future__ import annotations

import ctypes
import threading

import psutil

_SECONDS = 0.02
_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD_BYTES = (2**18, 2**22)
_BUDGET_SHARE = 128


class MemoryMonitor:
    """Context manager; `baseline_bytes` is the resident memory at entry, `peak_bytes` the most seen since."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bigsvd-memory", daemon=True)
        self.baseline_bytes = 0
        self.peak_bytes = 0

    def __enter__(self) -> MemoryMonitor:
        self.baseline_bytes = self.peak_bytes = int(self._process.memory_info().rss)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SECONDS):
            self.peak_bytes = max(self.peak_bytes, int(self._process.memory_info().rss))


def return_large_buffers(budget_bytes: int) -> None:
    """Make glibc give buffers that are large for a budget (a 128th) back to the system when they are freed.

    By default it raises that threshold to 32 MB as soon as one such buffer was freed, and then keeps them in
    an arena for each thread: 0.4 GB more for the same run, measured on panels of 64 MB read by four threads.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        least, most = _MMAP_THRESHOLD_BYTES
        libc.mallopt(_M_MMAP_THRESHOLD, min(most, max(least, budget_bytes // _BUDGET_SHARE)))
