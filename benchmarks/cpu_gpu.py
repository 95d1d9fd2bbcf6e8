"""The same request on the CPU and on the GPU, peers on either, and how near each pass comes to its ceilings.

Without a usable CUDA device the rows of the GPU say so in their status, and the rest is measured.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.cpu_gpu_child import in_fresh_process
from benchmarks.cpu_gpu_data import Matrix, ensure_matrix
from benchmarks.cpu_gpu_runs import CONTENDERS, KINDS, LEAST_MEMORY, POWER_ITERATIONS, Contender, Kind
from benchmarks.machine import provenance, usable_cpus
from benchmarks.measure import accuracy
from benchmarks.peers import OVERSAMPLING, SEED
from benchmarks.reference import Triplets
from bigsvd.devices.choose import choose_device

_NO_TIME = "not run: the time was used up"
_COMMIT = "BIGSVD_COMMIT"  # names the commit of a copy that has no repository
_PACKAGES = ("torch", "cupy-cuda13x", "cupy-cuda12x", "cupy")


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
        side: of the square matrices whose product is timed; twice that on a GPU. copy_bytes: copied to it.
        dense_bytes: a dense SVD is made of matrices of at most so many bytes.

    """

    matrices: tuple[Matrix, ...]
    side: int
    copy_bytes: int
    dense_bytes: int


SIZES = {
    "tiny": Size(
        tuple(Matrix(2_000, 100, 5, dtype) for dtype in ("float32", "float64", "int8")),
        256, 2**22, 2**30,
    ),
    "small": Size(
        (
            Matrix(120_000, 1_000, 20, "float32"),
            Matrix(60_000, 1_000, 20, "float64"),
            Matrix(480_000, 1_000, 20, "int8"),
        ),
        2048, 2**27, 2**30,
    ),
    "full": Size(
        (
            Matrix(125_000, 2_000, 50, "float32"),
            Matrix(250_000, 4_000, 50, "float32"),
            Matrix(125_000, 2_000, 50, "float64"),
            Matrix(500_000, 2_000, 50, "int8"),
        ),
        4096, 2**28, 2**30,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """How often and how long.

    Attributes:
        repeat: timed runs of each row. slow_seconds: after a run that takes longer there is no other.
        timeout_seconds: a row's process that takes longer is stopped.
        budget_seconds: for everything; a row that it does not suffice for says so. None: no such limit.

    """

    repeat: int
    slow_seconds: float
    timeout_seconds: float
    budget_seconds: float | None = None


class Clock:
    """What is left of the time."""

    def __init__(self, limits: Machine) -> None:
        self._limits = limits
        self._start = time.monotonic()

    @property
    def timeout_seconds(self) -> float:
        """How long the next process may take; 0 where it may not begin."""
        budget = self._limits.budget_seconds
        if budget is None:
            return self._limits.timeout_seconds
        left = budget - (time.monotonic() - self._start)
        return max(0.0, min(self._limits.timeout_seconds, left))


def run_cpu_gpu(
    size: Size, data: Path, names: Sequence[str], limits: Machine, tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """The results so far, after each matrix; of the named rows, or all if none is named."""
    clock = Clock(limits)
    device, reason = choose_device("auto")
    usable = device.name != "cpu"
    missing = "" if usable else f"no CUDA device ({reason})"
    tell(f"GPU: {device.name if usable else missing}")
    data.mkdir(parents=True, exist_ok=True)
    results = provenance()
    results["versions"] |= _installed()
    results["git"]["commit"] = results["git"]["commit"] or os.environ.get(_COMMIT, "")
    with tempfile.TemporaryDirectory(dir=data, prefix="cpu-gpu-") as folder:
        status, machine = in_fresh_process(
            "machine", Path(folder), limits.timeout_seconds,
            side=size.side, copy_bytes=size.copy_bytes, gpu=usable,
        )  # fmt: skip
    results |= {
        "device": {"name": device.name if usable else None, "reason": missing or reason},
        "parameters": {
            "cpus": usable_cpus(),
            "seed": SEED,
            "oversampling_of_peers": OVERSAMPLING,
            "power_iterations_of_peers": POWER_ITERATIONS,
            "memory_shares": {kind.label: kind.share for kind in KINDS.values()},
            "least_memory_bytes": LEAST_MEMORY,
            "side": size.side,
            "copy_bytes": size.copy_bytes,
            **asdict(limits),
        },
        "ceilings": {"status": status, **machine},
        "matrices": [],
    }
    chosen = [row for row in CONTENDERS if not names or row.name in names]
    for matrix in size.matrices:
        stored = ensure_matrix(matrix, data) if clock.timeout_seconds else None
        read_status, read = _read(stored, clock, gpu=usable)
        found = {
            **matrix.describe(),
            "data_bytes": matrix.data_bytes,
            "read": {"status": read_status, **read},
            "rows": [],
        }
        results["matrices"].append(found)
        for kind in KINDS.values():
            for contender in (row for row in chosen if kind.name in row.kinds):
                status = _why_not(contender, matrix, size, missing)
                measured: dict[str, Any] = {}
                if not status:
                    status, measured = _measure(contender, kind, matrix, stored, limits, clock)
                row = {**_named(contender, kind), "status": status, **measured}
                row["passes"] = _against_ceilings(row, results["ceilings"], read)
                found["rows"].append(row)
                tell(f"{matrix.stem}, {kind.label}, {contender.device}, {contender.label}: {_said(row)}")
        yield results


def _installed() -> dict[str, str]:
    """Versions of what may or may not be there."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _why_not(contender: Contender, matrix: Matrix, size: Size, missing: str) -> str:
    """Why the row is not run on this matrix; empty if it is."""
    if contender.device == "gpu" and missing:
        return missing
    for module in contender.modules:
        if find_spec(module.split(".")[0]) is None:
            return f"not installed: {module.split('.')[0]}"
    if contender.dense and matrix.data_bytes > size.dense_bytes:
        return f"not run: a dense SVD only up to {size.dense_bytes / 1e9:.2g} GB"
    return ""


def _named(contender: Contender, kind: Kind) -> dict[str, Any]:
    return {
        "name": contender.name,
        "label": contender.label,
        "family": contender.family,
        "device": contender.device,
        "source": kind.name,
        "source_label": kind.label,
    }


def _read(stored: tuple[Path, Triplets] | None, clock: Clock, *, gpu: bool) -> tuple[str, dict[str, Any]]:
    """The bare read, if there is time for it."""
    if stored is None or not clock.timeout_seconds:
        return _NO_TIME, {}
    store, _ = stored
    with tempfile.TemporaryDirectory(dir=store.parent, prefix="cpu-gpu-") as folder:
        return in_fresh_process(
            "read", Path(folder), clock.timeout_seconds, store=str(store.absolute()), gpu=gpu
        )


def _measure(
    contender: Contender,
    kind: Kind,
    matrix: Matrix,
    stored: tuple[Path, Triplets] | None,
    limits: Machine,
    clock: Clock,
) -> tuple[str, dict[str, Any]]:
    """The status of a row, its median time, its worst errors and all its runs."""
    if stored is None or not clock.timeout_seconds:
        return _NO_TIME, {}
    store, exact = stored
    with tempfile.TemporaryDirectory(dir=store.parent, prefix="cpu-gpu-") as name:
        folder = Path(name).absolute()
        status, measured = in_fresh_process(
            "measure", folder, clock.timeout_seconds, folder=str(folder), name=contender.name,
            store=str(store.absolute()), kind=kind.name, k=matrix.k, data_bytes=matrix.data_bytes,
            repeat=limits.repeat, slow=limits.slow_seconds,
        )  # fmt: skip
        if status != "done":
            return status, {}
        errors = []
        for number in range(len(measured["runs"])):
            with np.load(folder / f"triplets-{number}.npz", allow_pickle=False) as found:
                sigma, Vt = found["sigma"], found["Vt"]
            if not (np.isfinite(sigma).all() and np.isfinite(Vt).all()):
                return "failed: the factors are not finite", {}
            errors.append(accuracy(sigma, Vt, exact))
    seconds = [run["seconds"] for run in measured["runs"]]
    return status, {
        **measured,
        "seconds": float(median(seconds)),
        "fastest_seconds": min(seconds),
        "slowest_seconds": max(seconds),
        "sigma_error": max(error.sigma_error for error in errors),
        "pve": max(error.pve for error in errors),
        "angle_radians": max(error.angle_radians for error in errors),
    }


def _against_ceilings(
    row: dict[str, Any], ceilings: dict[str, Any], read: dict[str, Any]
) -> list[dict[str, Any]]:
    """The passes of the fastest run, each with the fraction of every ceiling that it reaches.

    `nearest` is the ceiling it is nearest to. A pass of which scratch said nothing has its seconds only.
    """
    if "runs" not in row:
        return []
    fastest = min(row["runs"], key=lambda run: run["seconds"])
    passes = []
    for traced in fastest["facts"].get("traced", []):
        fractions = _fractions(traced, row, ceilings, read)
        nearest = max(fractions, key=lambda name: fractions[name]) if fractions else None
        passes.append({**traced, "fractions": fractions, "nearest": nearest})
    return passes


def _fractions(
    traced: dict[str, Any], row: dict[str, Any], ceilings: dict[str, Any], read: dict[str, Any]
) -> dict[str, float]:
    """Rate of the pass over the rate measured bare, for what applies to this row."""
    if "flops" not in traced or not traced["seconds"]:
        return {}
    seconds = traced["seconds"]
    found = {}
    if row["source"] != "host" and "bytes_per_second" in read:
        found["read"] = traced["bytes_read"] / seconds / read["bytes_per_second"]
    if row["device"] == "gpu" and ceilings.get("copy"):
        streamed = traced["bytes_read"] + traced["cached_bytes"]
        for name, rate in ceilings["copy"].items():
            found[f"copy, {name}"] = (streamed - traced["device_cached_bytes"]) / seconds / rate
        found["device memory"] = streamed / seconds / ceilings["device_memory"]
    products = ceilings.get("products", {}).get(row["device"])
    if products:
        found["products"] = traced["flops"] / seconds / products[traced["dtype"]]
    return found


def _said(row: dict[str, Any]) -> str:
    return f"{row['seconds']:.2f} s, PVE {row['pve']:.1e}" if "seconds" in row else str(row["status"])
