"""The monitor sees the memory that a process takes, and only while it watches."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from bigsvd.machine.monitor import MemoryMonitor, return_large_buffers
from bigsvd.machine.offers import available_memory

MEGABYTES = 2**20


def wait_for_peak(monitor: MemoryMonitor, least_bytes: int) -> bool:
    """Whether the monitor has seen so much within half a minute; it looks often."""
    looked = threading.Event()
    for _ in range(3000):
        if monitor.seen().peak_bytes >= least_bytes:
            return True
        looked.wait(0.01)
    return False


def test_the_peak_is_what_was_taken() -> None:
    with MemoryMonitor() as monitor:
        baseline = monitor.seen().baseline_bytes
        block = np.ones(64 * MEGABYTES // 8)
        assert wait_for_peak(monitor, baseline + 50 * MEGABYTES)
        assert block.nbytes == 64 * MEGABYTES
    assert baseline + 50 * MEGABYTES <= monitor.seen().peak_bytes <= psutil.virtual_memory().total


def test_a_peak_is_remembered_after_the_memory_was_given_back() -> None:
    return_large_buffers(0)
    with MemoryMonitor() as monitor:
        block = np.ones(64 * MEGABYTES // 8)
        seen = wait_for_peak(monitor, monitor.seen().baseline_bytes + 50 * MEGABYTES)
        peak = monitor.seen().peak_bytes
        del block
        left = psutil.Process().memory_info().rss
    assert seen
    assert monitor.seen().peak_bytes >= peak
    assert left < peak - 30 * MEGABYTES


def test_it_never_shows_less_than_it_began_with() -> None:
    with MemoryMonitor() as monitor:
        pass
    assert monitor.seen().peak_bytes >= monitor.seen().baseline_bytes > 0


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


def control_groups(folder: Path, layout: dict[str, str]) -> tuple[Path, Path]:
    """Files as Linux shows them: this process's groups, and what is mounted of all."""
    for name, text in layout.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder / "cgroup", folder / "mounted"


STAT_2 = "anon 7\nactive_file 20\ninactive_file 30\nslab 5\n"
STAT_1 = "cache 1\ntotal_active_file 2\ntotal_inactive_file 3\n"
UNLIMITED_1 = "9223372036854771712"


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({"cgroup": "0::/\n"}, 2000),
        ({"cgroup": "\n0:\n::\n"}, 2000),
        (
            {
                "cgroup": "0::/a\n",
                "mounted/a/memory.max": "max\n",
                "mounted/a/memory.current": "9\n",
                "mounted/a/memory.stat": STAT_2,
            },
            2000,
        ),
        (
            {
                "cgroup": "0::/job/step\n",
                "mounted/job/step/memory.max": "max\n",
                "mounted/job/step/memory.high": "max\n",
                "mounted/job/step/memory.current": "90\n",
                "mounted/job/step/memory.stat": STAT_2,
                "mounted/job/memory.max": "1000\n",
                "mounted/job/memory.current": "100\n",
                "mounted/job/memory.stat": STAT_2,
            },
            950,
        ),
        (
            {
                "cgroup": "0::/job/step\n",
                "mounted/job/step/memory.max": "800\n",
                "mounted/job/step/memory.high": "700\n",
                "mounted/job/step/memory.current": "90\n",
                "mounted/job/memory.max": "1000\n",
                "mounted/job/memory.current": "100\n",
            },
            610,
        ),
        (
            {
                "cgroup": "5:cpu:/x\n4:pids,memory:/job\n0::/\n",
                "mounted/memory/job/memory.limit_in_bytes": "500\n",
                "mounted/memory/job/memory.usage_in_bytes": "100\n",
                "mounted/memory/job/memory.stat": STAT_1,
                "mounted/memory/memory.limit_in_bytes": UNLIMITED_1,
                "mounted/memory/memory.usage_in_bytes": "100\n",
                "mounted/memory/memory.stat": STAT_1,
            },
            405,
        ),
        (
            {
                "cgroup": "0::/seen/outside/only\n",
                "mounted/memory.max": "60\n",
                "mounted/memory.current": "70\n",
                "mounted/memory.stat": "anon 70\n",
            },
            0,
        ),
    ],
    ids=[
        "no limit",
        "malformed",
        "unlimited",
        "the group above",
        "a step of a job",
        "format 1",
        "in a container",
    ],
)
def test_memory_is_what_control_groups_leave(
    tmp_path: Path, layout: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least of them; where none limits it, what is free on the machine."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2000))
    assert available_memory(*control_groups(tmp_path, layout)) == expected


def test_a_system_without_control_groups_has_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2000))
    assert available_memory(tmp_path / "none", tmp_path) == 2000
