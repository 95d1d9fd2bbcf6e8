"""`cells`: principal components of single cells, bigsvd beside scanpy, each in a process of its own.

Made counts in an AnnData store, and any other that is given, which is copied first: bigsvd writes into it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells_data import Cells, ensure_cells
from benchmarks.cpu_gpu_child import in_process_of
from benchmarks.data import THREADS
from benchmarks.machine import limited_to, provenance
from benchmarks.measure import blas_limited_to

MASK = "highly_variable"
_SCANPY = Path(__file__).with_name("cells_scanpy.py")
_BIGSVD = "bigsvd"


@dataclass(frozen=True)
class Beside:
    """What is named on the command line.

    Attributes:
        scanpy: a Python that has scanpy. store: another AnnData store, of which all genes are taken.
        memory: bigsvd's budget, as its option. timeout_seconds: a run that takes longer is stopped.

    """

    scanpy: Path | None
    store: Path | None
    memory: str
    timeout_seconds: float


@dataclass(frozen=True)
class Task:
    """What is asked of a store; `solvers` are scanpy's, the first of which has the values to compare with."""

    name: str
    store: Path
    k: int
    mask: str | None
    solvers: tuple[str, ...]


def run_cells(made: Cells, data: Path, beside: Beside, tell: Callable[[str], None]) -> dict[str, Any]:
    """bigsvd, then scanpy if there is one, on each task."""
    measured_with = provenance()
    data.mkdir(parents=True, exist_ok=True)
    rows = []
    with limited_to(THREADS), tempfile.TemporaryDirectory(dir=data, prefix="cells-") as name:
        for task in tasks(made, data, beside.store, Path(name)):
            row = _row(task, beside, tell)
            rows.append(row)
    return {
        **measured_with,
        "parameters": asdict(made) | {
            "cpus": THREADS, "memory": beside.memory, "timeout_seconds": beside.timeout_seconds,
        },
        "tasks": rows,
    }  # fmt: skip


def tasks(made: Cells, data: Path, store: Path | None, folder: Path) -> Iterator[Task]:
    """The variable genes of the made cells, all of them, and all of another store."""
    path = ensure_cells(made, data)
    size = f"{made.cells:,} × {made.genes:,} at {made.density:.0%}"
    yield Task(f"{size}, {made.variable:,} genes", path, made.k, MASK, ("arpack", "covariance_eigh"))
    yield Task(f"{size}, all genes", path, made.k, None, ("arpack",))
    if store is not None:
        copy = folder / "given.zarr"
        shutil.copytree(store, copy)
        yield Task("the store that was given", copy, made.k, None, ("arpack", "covariance_eigh"))


def _row(task: Task, beside: Beside, tell: Callable[[str], None]) -> dict[str, Any]:
    """All runs of a task, those of scanpy last, and how far variances are from those of its first."""
    job = {"store": str(task.store.absolute()), "k": task.k, "mask": task.mask}
    runs = {}
    for name in (_BIGSVD, *(task.solvers if beside.scanpy is not None else ())):
        with tempfile.TemporaryDirectory(prefix="cells-") as folder:
            runs[name] = _run(name, Path(folder), job, beside)
        tell(f"{task.name}, {name}: {runs[name]['status']}, {runs[name].get('seconds', 0):.1f} s")
    first = runs.get(task.solvers[0], {}).get("variance")
    for run in runs.values():
        if first is not None and "variance" in run:
            run["difference"] = difference(run["variance"], first)
    return {"name": task.name, "k": task.k, "masked": task.mask is not None, "runs": runs}


def _run(name: str, folder: Path, job: dict[str, Any], beside: Beside) -> dict[str, Any]:
    """One run: its status, and its figures if it is done."""
    variables = blas_limited_to(THREADS)
    if name == _BIGSVD:
        job = job | {"memory": beside.memory}
        found = in_process_of("benchmarks.cells_child", "pca", folder, beside.timeout_seconds, variables, job)
        return {"status": found[0], **found[1]}
    (folder / "job.json").write_text(json.dumps(job | {"solver": name}))
    command = [str(beside.scanpy), str(_SCANPY), str(folder)]
    return _ended(command, folder, beside.timeout_seconds, variables)


def _ended(
    command: Sequence[str], folder: Path, timeout_seconds: float, variables: dict[str, str]
) -> dict[str, Any]:
    """Of a Python that is not this one."""
    try:
        ended = subprocess.run(
            command, env=os.environ | variables | {"PYTHONPATH": ""}, timeout=timeout_seconds,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"status": f"stopped after {timeout_seconds:.0f} s"}
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"])[-1]
        return {"status": f"failed: {last.partition(':')[0]}"}
    return {"status": "done", **json.loads((folder / "measured.json").read_text())}


def difference(variance: Sequence[float], other: Sequence[float]) -> float:
    """The worst relative difference of one."""
    a, b = np.asarray(variance), np.asarray(other)
    return float(np.max(np.abs(a - b) / b))
