"""Peak memory of `bigsvd svd` against the bound of its plan, by shape of the data and budget.

Each run is `python -m benchmarks.memory FIGURES ARGUMENTS…`: a fresh process that imports what the command
imports, runs the command, and leaves what the system says was resident at the most.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.data import THREADS
from benchmarks.machine import limited_to, provenance
from benchmarks.measure import peak_rss_bytes
from benchmarks.peers import SEED

MAX_PASSES = 2
_REFUSED = 2
_IMPORTS = ("bigsvd.cli", "bigsvd.solve")
_WRITE_BYTES = 2**26


@dataclass(frozen=True)
class Store:
    """A stored matrix of random entries, m×n of `dtype`, in `chunks`, several to one of `shards` or none."""

    name: str
    label: str
    shape: tuple[int, int]
    chunks: tuple[int, int]
    dtype: str = "float32"
    shards: tuple[int, int] | None = None

    @property
    def data_bytes(self) -> int:
        """Decoded bytes."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Budget:
    """`--memory` as a multiple of the data."""

    label: str
    share: float


@dataclass(frozen=True)
class Size:
    """Length of the long and the short side of the float32 stores, rows of a chunk, and k."""

    long: int
    short: int
    chunk: int
    k: int


SIZES = {
    "tiny": Size(12_000, 200, 200, 3),
    "small": Size(200_000, 1_000, 500, 10),
    "full": Size(300_000, 2_000, 1_000, 50),
}
BUDGETS = (Budget("a quarter", 0.25), Budget("a tenth", 0.1), Budget("data fit", 4.0))


def stores(size: Size) -> tuple[Store, ...]:
    """The shapes that are measured, all of about the same number of bytes."""
    long, short, chunk = size.long, size.short, size.chunk
    side, part = 5 * short, chunk // 2
    return (
        Store("tall", "tall", (long, short), (chunk, short)),
        Store("wide", "wide", (short, long), (short, chunk)),
        Store("both-axes", "chunked on both axes", (long // 5, side), (part, side // 5)),
        Store("int8", "tall, int8", (4 * long, short), (4 * chunk, short), "int8"),
        Store("sharded", "tall, sharded", (long, short), (part, short // 2), shards=(4 * part, short)),
    )


NAMES = tuple(store.name for store in stores(SIZES["tiny"]))


def ensure_store(store: Store, folder: Path) -> Path:
    """The stored matrix; if it is not there, written beside its place, then renamed."""
    path = folder / f"memory-{store.name}-{store.shape[0]}x{store.shape[1]}.zarr"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    array = zarr.create_array(
        partial, shape=store.shape, chunks=store.chunks, shards=store.shards, dtype=store.dtype
    )
    unit = (store.shards or store.chunks)[0]
    rows = unit * max(1, _WRITE_BYTES // (unit * store.shape[1] * 8))
    rng = np.random.default_rng(SEED)
    for start in range(0, store.shape[0], rows):
        size = (min(rows, store.shape[0] - start), store.shape[1])
        array[start : start + rows] = _entries(rng, size, np.dtype(store.dtype))
    partial.rename(path)
    return path


def _entries(rng: np.random.Generator, size: tuple[int, int], dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind == "f":
        return rng.standard_normal(size, dtype=np.float32)
    return rng.integers(0, 3, size, dtype=np.int8)


def run_memory(
    size: Size, data: Path, names: tuple[str, ...], timeout_seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Every named store (all if none is named) with every budget."""
    measured_with = provenance()
    rows = []
    with limited_to(THREADS):
        for store in (store for store in stores(size) if not names or store.name in names):
            path = ensure_store(store, data)
            for budget in BUDGETS:
                rows.append(_row(store, budget, run_one(store, path, budget, size.k, timeout_seconds)))
                tell(f"{store.label}, {budget.label}: {_said(rows[-1])}")
    return {
        **measured_with,
        "parameters": {
            "k": size.k,
            "max_passes": MAX_PASSES,
            "cpus": THREADS,
            "timeout_seconds": timeout_seconds,
        },
        "runs": rows,
    }


def run_one(store: Store, path: Path, budget: Budget, k: int, timeout_seconds: float) -> dict[str, Any]:
    """One run in a fresh process: its figures, or what it `said` instead."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="memory-run-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "benchmarks.memory", str(folder / "figures.json")]
        command += ["svd", str(path), str(folder / "factors"), "-k", str(k)]
        command += ["--memory", str(_budget_bytes(store, budget)), "--max-passes", str(MAX_PASSES)]
        command += ["--seed", str(SEED), "--device", "cpu", "--json", "--quiet"]
        try:
            ended = subprocess.run(
                command, timeout=timeout_seconds, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired:
            return {"status": "stopped", "said": f"not done after {timeout_seconds:g} s"}
        if ended.returncode:
            said = (ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"])[-1]
            said = said.replace(str(folder), "FOLDER").replace(str(path), "STORE")
            return {"status": "refused" if ended.returncode == _REFUSED else "failed", "said": said}
        figures: dict[str, Any] = json.loads((folder / "figures.json").read_text())
    return {"status": "done", **figures}


def _budget_bytes(store: Store, budget: Budget) -> int:
    return int(budget.share * store.data_bytes)


def _row(store: Store, budget: Budget, figures: dict[str, Any]) -> dict[str, Any]:
    """A run with what it was given; `ratio` is peak memory beyond the idle cluster over the plan's bound."""
    row = {
        **asdict(store),
        "budget": budget.label,
        "data_bytes": store.data_bytes,
        "budget_bytes": _budget_bytes(store, budget),
        **figures,
    }
    if figures["status"] != "done":
        return row
    peak = figures["peak_rss_bytes"] - figures["idle_bytes"]
    ratio = peak / figures["planned_bytes"]
    return row | {"peak_memory_bytes": peak, "ratio": ratio, "half_used": ratio >= 0.5}


def _said(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.2f} of the bound" if row["status"] == "done" else str(row["status"])


def run_child(figures: Path, arguments: list[str]) -> None:
    """In the fresh process: run the command, leave its figures."""
    for module in _IMPORTS:
        import_module(module)
    said = StringIO()
    try:
        with redirect_stdout(said):
            import_module("bigsvd.cli").main(arguments)
    except SystemExit as ended:
        if ended.code:
            raise
    peak = peak_rss_bytes()
    info = json.loads(said.getvalue())
    values = {
        "idle_bytes": info["baseline_memory_bytes"],
        "peak_rss_bytes": peak,
        "own_peak_bytes": info["peak_memory_bytes"] - info["baseline_memory_bytes"],
        "planned_bytes": info["planned_memory_bytes"],
        "method": info["method"],
        "passes": info["passes"],
        "seconds": info["seconds"],
    }
    figures.write_text(json.dumps(values))


if __name__ == "__main__":
    run_child(Path(sys.argv[1]), sys.argv[2:])
