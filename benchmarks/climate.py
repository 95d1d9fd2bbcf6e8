"""`climate`: modes of a field with land left out, bigsvd beside xeofs and eofs, each in a fresh process.

Contenders take turns, round by round, so that whatever else the machine does meets all of them. Singular
values are held against those of the Gram matrix in float64.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.climate_data import NAME, Field, ensure_field, exact_sigma
from benchmarks.climate_xeofs import WAYS
from benchmarks.cpu_gpu_child import in_process_of
from benchmarks.data import THREADS
from benchmarks.machine import limited_to, provenance
from benchmarks.measure import blas_limited_to
from benchmarks.other_python import in_process_of_other

BIGSVD = "bigsvd"
_SCRIPT = Path(__file__).with_name("climate_xeofs.py")


@dataclass(frozen=True)
class Beside:
    """What is named on the command line.

    Attributes:
        python: one that has xeofs and eofs. memory: bigsvd's budget, as its option. repeat: rounds.
        slow_seconds: a run that takes longer is not repeated. timeout_seconds: it is stopped.

    """

    python: Path | None
    memory: str
    repeat: int
    slow_seconds: float
    timeout_seconds: float


def run_climate(field: Field, data: Path, beside: Beside, tell: Callable[[str], None]) -> dict[str, Any]:
    """All ways there are, in turns."""
    measured_with = provenance()
    store = ensure_field(field, data).absolute()
    names = (BIGSVD, *(WAYS if beside.python is not None else ()))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with limited_to(THREADS):
        exact = exact_sigma(field, store)
        for number in range(beside.repeat):
            for name in _repeated(runs, beside.slow_seconds):
                runs[name].append(_run(name, store, field.k, beside))
                tell(f"round {number + 1}, {name}: {runs[name][-1].get('seconds', 0):.1f} s")
    return {
        **measured_with,
        "parameters": {
            **asdict(field),
            "data_bytes": field.nbytes,
            "ocean": float(field.ocean.mean()),
            "cpus": THREADS,
            "memory": beside.memory,
            "repeat": beside.repeat,
            "slow_seconds": beside.slow_seconds,
            "timeout_seconds": beside.timeout_seconds,
        },
        "sigma": exact.tolist(),
        "ways": [_row(name, found, exact) for name, found in runs.items()],
    }


def _repeated(runs: dict[str, list[dict[str, Any]]], slow_seconds: float) -> list[str]:
    """Those of the next round: none that was slow, or that did not end well."""
    return [
        name
        for name, found in runs.items()
        if not found or found[-1].get("seconds", slow_seconds) < slow_seconds
    ]


def _run(name: str, store: Path, k: int, beside: Beside) -> dict[str, Any]:
    """One run: its status, and its figures if it is done."""
    job = {"store": str(store), "k": k}
    variables, seconds = blas_limited_to(THREADS), beside.timeout_seconds
    with tempfile.TemporaryDirectory(prefix="climate-") as work:
        if beside.python is None or name == BIGSVD:
            job |= {"memory": beside.memory}
            status, found = in_process_of(
                "benchmarks.climate_child", "eof", Path(work), seconds, variables, job
            )
        else:
            job |= {"name": NAME, "way": name}
            status, found = in_process_of_other(beside.python, _SCRIPT, Path(work), seconds, variables, job)
    return {"status": status, **found}


def _row(name: str, runs: Sequence[dict[str, Any]], exact: np.ndarray) -> dict[str, Any]:
    """Medians of the runs that are done, their worst memory and error, and the status of the last."""
    done = [run for run in runs if run["status"] == "done"]
    if not done:
        return {"name": name, "status": runs[-1]["status"]}
    return {
        "name": name,
        "status": "done",
        "version": done[0]["version"],
        "seconds": median(run["seconds"] for run in done),
        "all_seconds": [run["seconds"] for run in done],
        "peak_rss_bytes": max(run["peak_rss_bytes"] for run in done),
        "peak_memory_bytes": max(run["peak_rss_bytes"] - run["imported_bytes"] for run in done),
        "error": max(_error(run["sigma"], exact) for run in done),
    }


def _error(sigma: Sequence[float], exact: np.ndarray) -> float:
    """The worst relative error of a singular value."""
    return float(np.max(np.abs(np.asarray(sigma) - exact) / exact))
