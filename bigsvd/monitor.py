"""The peak resident memory of this process while a run is under way, sampled."""

from __future__ import annotations

import threading

import psutil

_SECONDS = 0.02


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
