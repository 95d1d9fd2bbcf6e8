"""The monitor sees the memory that a process takes, and only while it watches."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import psutil
import pytest

from bigsvd.monitor import MemoryMonitor, return_large_buffers

MEGABYTES = 2**20


def wait_for_peak(monitor: MemoryMonitor, least_bytes: int) -> bool:
    """Whether the monitor has seen so much within half a minute; it looks often."""
    looked = threading.Event()
    for _ in range(3000):
        if monitor.peak_bytes >= least_bytes:
            return True
        looked.wait(0.01)
    return False


def test_the_peak_is_what_was_taken() -> None:
    with MemoryMonitor() as monitor:
        baseline = monitor.baseline_bytes
        block = np.ones(64 * MEGABYTES // 8)
        assert wait_for_peak(monitor, baseline + 50 * MEGABYTES)
        assert block.nbytes == 64 * MEGABYTES
    assert baseline + 50 * MEGABYTES <= monitor.peak_bytes <= psutil.virtual_memory().total


def test_a_peak_is_remembered_after_the_memory_was_given_back() -> None:
    return_large_buffers(0)
    with MemoryMonitor() as monitor:
        block = np.ones(64 * MEGABYTES // 8)
        seen = wait_for_peak(monitor, monitor.baseline_bytes + 50 * MEGABYTES)
        peak = monitor.peak_bytes
        del block
        left = psutil.Process().memory_info().rss
    assert seen
    assert monitor.peak_bytes >= peak
    assert left < peak - 30 * MEGABYTES


def test_it_never_shows_less_than_it_began_with() -> None:
    with MemoryMonitor() as monitor:
        pass
    assert monitor.peak_bytes >= monitor.baseline_bytes > 0


def test_its_thread_ends_with_it_also_after_a_failure() -> None:
    def watchers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "bigsvd-memory"]

    before = len(watchers())
    failing = MemoryMonitor()
    with failing:
        assert len(watchers()) == before + 1
    assert len(watchers()) == before
    with pytest.raises(ZeroDivisionError), MemoryMonitor():
        raise ZeroDivisionError
    assert len(watchers()) == before


def test_a_system_without_that_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def other_libc(name: object) -> object:
        asked.append(name)
        return object()

    monkeypatch.setattr(ctypes, "CDLL", other_libc)
    return_large_buffers(0)
    assert asked == [None]
