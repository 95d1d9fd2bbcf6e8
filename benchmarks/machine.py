"""What a result was measured with: the machine, the versions and the commit; no paths."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

FORMAT_VERSION = 1
_CGROUPS = Path("/sys/fs/cgroup")
_PACKAGES = ("bigsvd", "numpy", "scipy", "zarr", "numcodecs", "dask", "distributed", "scikit-learn")


@contextmanager
def limited_to(cpus: int) -> Iterator[None]:
    """Keep this process and those it starts to the first `cpus` processors, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cpus])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def scarce_memory(size_bytes: int | None, root: Path = _CGROUPS) -> Iterator[list[str]]:
    """What to put before a command for it to run where so many bytes may be held in all.

    Counted with the pages of files that are read, by a Linux control group. Nothing where there is no limit.
    It takes root's rights; `OSError` where they or memory groups lack.
    """
    if size_bytes is None:
        yield []
        return
    first = (root / "memory").is_dir()  # cgroup v1, where each resource has a tree of its own
    group = (root / "memory" if first else root) / f"bigsvd-benchmark-{os.getpid()}"
    group.mkdir()
    try:
        limit = group / ("memory.limit_in_bytes" if first else "memory.max")
        limit.write_text(str(size_bytes))
        yield ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
    finally:
        group.rmdir()


def forget_files(folder: Path) -> None:
    """Let Linux drop what its page cache holds of the files in a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)  # what is not on the disk yet is not dropped
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)


def usable_cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def provenance() -> dict[str, Any]:
    """What every results value begins with; taken before the first measurement, for the load average."""
    return {
        "format_version": FORMAT_VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": versions(),
        "git": commit(),
    }


def describe_machine() -> dict[str, Any]:
    """CPU model, cores, memory, system."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(),
        "memory_bytes": int(psutil.virtual_memory().total),
        "load_average_at_start": round(psutil.getloadavg()[0], 2),
        "system": platform.system(),
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """What was installed."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def commit() -> dict[str, Any]:
    """The git commit and the modules that differ from it; empty outside a repository."""
    head = _git("rev-parse", "HEAD")
    changed = _git("--no-optional-locks", "status", "--porcelain", "--", "bigsvd", "benchmarks/*.py")
    return {"commit": head.strip(), "changed": [line[3:] for line in changed.splitlines()]}


def _git(*arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    folder = Path(__file__).resolve().parent.parent
    return subprocess.run([git, *arguments], cwd=folder, capture_output=True, text=True, check=False).stdout
