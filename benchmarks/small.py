"""`small`: later calls on matrices that fit many times over, beside NumPy; and what many of them leave.

All in this process, as estimators call it. A call and NumPy's are timed in turn, so that both meet the same
moments of a shared machine; processor time counts the threads of BLAS too.
"""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import zarr

import bigsvd
from benchmarks.machine import limited_to, provenance

CPUS, K = 2, 10


@dataclass(frozen=True)
class Case:
    """A matrix of noise, which no method finds easy; `stored`: it lies on a disk, in chunks of 200 rows.

    Attributes:
        options: of the call.

    """

    shape: tuple[int, int]
    stored: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Shape, place and options, in words."""
        rows, cols = self.shape
        told = [f"{rows:,} × {cols:,}", *(["stored"] if self.stored else [])]
        return ", ".join([*told, *(f"{name}={value}" for name, value in self.options)])


STANDARDISED = (("center", True), ("scale", True))
CASES = (
    Case((2_000, 300)),
    Case((2_000, 300), options=STANDARDISED),
    Case((2_000, 300), stored=True),
    Case((200, 50)),
    Case((10_000, 100)),
    Case((500, 5_000)),
)


def run_small(repeat: int, calls: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Each case so many times after a first call, and so many calls in a row."""
    measured_with = provenance()
    rows = []
    with limited_to(CPUS):
        for case in CASES:
            rows.append(timed(case, repeat))
            tell(f"{case.name}: {rows[-1]['seconds']:.3f} s")
        left = left_behind(calls)
    parameters = {"k": K, "cpus": CPUS, "repeat": repeat, "calls": calls}
    return {**measured_with, "parameters": parameters, "cases": rows, "left": left}


def timed(case: Case, repeat: int) -> dict[str, Any]:
    """Medians over the calls after the first, and how far the values are from NumPy's."""
    A = np.random.default_rng(0).standard_normal(case.shape)
    with tempfile.TemporaryDirectory(prefix="bigsvd-benchmark-") as folder:
        source: Any = A
        if case.stored:
            source = Path(folder) / "a.zarr"
            zarr.create_array(source, data=A, chunks=(200, case.shape[1]))
        options = dict(case.options)
        taken: list[tuple[float, float]] = []
        by_numpy: list[tuple[float, float]] = []
        for number in range(repeat + 1):
            out = Path(folder) / f"u{number}" if case.stored else None
            factors, used = clocked(partial(bigsvd.svd, source, K, out, **options))
            exact, used_by_numpy = clocked(lambda: np.linalg.svd(A, full_matrices=False)[1])
            taken.append(used)
            by_numpy.append(used_by_numpy)
        standardised = (A - A.mean(axis=0)) / A.std(axis=0) if options else A
        exact = np.linalg.svd(standardised, compute_uv=False) if options else exact
        costs = factors.provenance["costs"]
        return {
            "case": case.name,
            "method": costs["method"],
            "passes": costs["passes"],
            "seconds": median(wall for wall, _ in taken[1:]),
            "least_seconds": min(wall for wall, _ in taken[1:]),
            "cpu_seconds": median(cpu for _, cpu in taken[1:]),
            "first_seconds": taken[0][0],
            "predicted_seconds": sum(costs["predicted_seconds"].values()),
            "numpy_seconds": median(wall for wall, _ in by_numpy[1:]),
            "numpy_cpu_seconds": median(cpu for _, cpu in by_numpy[1:]),
            "sigma_error": float(np.max(np.abs(factors.s - exact[:K]) / exact[:K])),
        }


def clocked(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """What it gives, and the wall and processor seconds it takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, (time.perf_counter() - wall, time.process_time() - cpu)


@contextmanager
def temporary_folders_apart() -> Iterator[None]:
    """Let this process make its temporary folders where no other does, so that they can be counted."""
    usual = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="bigsvd-benchmark-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = usual


def left_behind(calls: int) -> dict[str, Any]:
    """What so many calls leave in this process: threads, open files, memory, temporary folders."""
    A, process = np.random.default_rng(0).standard_normal((300, 70)), psutil.Process()

    def held() -> tuple[int, int, int, int]:
        gc.collect()
        folders = len(list(Path(tempfile.gettempdir()).iterdir()))
        return threading.active_count(), process.num_fds(), process.memory_info().rss, folders

    with temporary_folders_apart():
        for _ in range(5):
            bigsvd.svd(A, K // 2)
        before = held()
        _, (seconds, _) = clocked(lambda: [bigsvd.svd(A, K // 2).k for _ in range(calls)])
        after = held()
    names = ("threads", "open_files", "memory_bytes", "folders")
    return {name: b - a for name, a, b in zip(names, before, after, strict=True)} | {"seconds": seconds}
