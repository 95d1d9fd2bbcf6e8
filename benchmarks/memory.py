"""Peak memory of `bigsvd svd` against the bound of its plan, by shape of the data and budget.

Each run is `python -m benchmarks.memory FIGURES ARGUMENTS…`: a fresh process that imports what the command
imports, runs the command, and leaves what the system says was resident at the most.
"""

from __future__ import annotations

import json
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

from benchmarks.data import THREADS, written_beside
from benchmarks.machine import limited_to, provenance
from benchmarks.measure import peak_rss_bytes
from benchmarks.peers import SEED

MAX_PASSES = 2
_REFUSED = 2
_IMPORTS = ("bigsvd.cli", "bigsvd.solve")
_WRITE_BYTES = 2**26
TERMS = 40  # of the spectra that are not flat


@dataclass(frozen=True)
class Store:
    """A stored matrix of random entries, m×n of `dtype`, in `chunks`, several to one of `shards` or none.

    `spectrum`: "random" is independent entries, of integers on a mean: a flat tail; "steep" 10^(−i/4).
    """

    name: str
    label: str
    shape: tuple[int, int]
    chunks: tuple[int, int]
    dtype: str = "float32"
    shards: tuple[int, int] | None = None
    spectrum: str = "random"

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
class Demand:
    """A run that holds much beside panels: `words` of the command line and `--memory`, on its own store."""

    store: Store
    budget_bytes: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class Size:
    """Length of the long and the short side of the float32 stores, rows of a chunk, and k."""

    long: int
    short: int
    chunk: int
    k: int


SIZES = {
    "tiny": Size(16_000, 200, 200, 3),
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


def demands(size: Size) -> tuple[Demand, ...]:
    """Runs whose memory grows with k, with passes, with the basis, or not with the data at all.

    All but the last are of a tenth of the data.
    """
    rows, cols = size.long // 10, 3 * size.short // 2
    few, many, much = 2 * size.k, 5 * size.k, 10 * size.k
    room = 30_000_000 + 150 * rows * cols // 25

    def of(name: str, label: str, dtype: str, *words: str, **more: Any) -> Demand:
        store = Store(name, label, (rows, cols), (max(1, rows // 10), cols), dtype, **more)
        return Demand(store, room, words)

    return (
        of("flat", f"flat tail, int8, k = {few}", "int8", "-k", str(few)),
        of("flat-many", f"flat tail, int8, k = {many}", "int8", "-k", str(many)),
        of("large-k", f"float32, k = {much}", "float32", "-k", str(much), "--max-passes", "4"),
        of("steep", "steep, float64", "float64", "-k", "20", "--tol", "1e-7", spectrum="steep"),
        of("auto", "k by energy", "float32", "-k", "auto", "--energy", "0.5", "--max-passes", "4"),
        Demand(Store("little", "little data", (2_000, 100), (200, 100), "float64"), 40_000_000, ("-k", "5")),
    )


NAMES = (
    *(store.name for store in stores(SIZES["tiny"])),
    *(demand.store.name for demand in demands(SIZES["tiny"])),
)


def ensure_store(store: Store, folder: Path) -> Path:
    """The stored matrix; if it is not there, written beside its place, then renamed."""
    path = folder / f"memory-{store.name}-{store.shape[0]}x{store.shape[1]}.zarr"
    if path.exists():
        return path
    with written_beside(path) as partial:
        array = zarr.create_array(
            partial,
            shape=store.shape,
            chunks=store.chunks,
            shards=store.shards,
            dtype=store.dtype,
            zarr_format=3,
        )
        unit = (store.shards or store.chunks)[0]
        rows = unit * max(1, _WRITE_BYTES // (unit * store.shape[1] * 8))
        rng = np.random.default_rng(SEED)
        for start in range(0, store.shape[0], rows):
            size = (min(rows, store.shape[0] - start), store.shape[1])
            array[start : start + rows] = _entries(rng, size, store)
    return path


def _entries(rng: np.random.Generator, size: tuple[int, int], store: Store) -> np.ndarray:
    if store.spectrum != "random":
        across = np.random.default_rng(SEED).standard_normal((TERMS, size[1]))
        return entries(rng, store.spectrum, size[0], across, np.dtype(store.dtype))
    if np.dtype(store.dtype).kind == "f":
        return rng.standard_normal(size, dtype=np.float32)
    return rng.integers(0, 3, size, dtype=np.int8)


def entries(
    rng: np.random.Generator, spectrum: str, rows: int, across: np.ndarray, dtype: np.dtype[Any]
) -> np.ndarray:
    """Rows of a matrix (rows, n) whose row space is `across` (r, n) beside noise.

    "flat" is noise alone on a mean, "mean" noise far below a mean, "decay" 0.8^i in noise, "steep" 10^(−i/4)
    with next to none, "low" a few equal values in noise.
    """
    r, n = across.shape
    strength = {
        "flat": np.zeros(r),
        "mean": np.zeros(r),
        "decay": 3 * 0.8 ** np.arange(r),
        "steep": 10.0 ** (-np.arange(r) / 4),
        "low": np.where(np.arange(r) < 5, 2.0, 0.0),
    }[spectrum]
    noise, mean = {"flat": (1.0, 1.0), "mean": (1.0, 50.0), "steep": (1e-9, 0.0)}.get(spectrum, (0.5, 0.0))
    values = (rng.standard_normal((rows, r)) * strength) @ across
    values += noise * rng.standard_normal((rows, n)) + mean
    if dtype.kind == "b":
        return np.asarray(values > 1.0)
    if dtype.kind == "f":
        return np.asarray(values.astype(dtype))
    limits = np.iinfo(dtype)
    whole = np.clip(np.rint(4 * values), max(limits.min, -120), min(limits.max, 250))
    return np.asarray(whole.astype(dtype))


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
                words = ("-k", str(size.k), "--max-passes", str(MAX_PASSES))
                given = int(budget.share * store.data_bytes)
                figures = run_one(path, given, words, timeout_seconds)
                rows.append(_row(store, budget.label, given, figures))
                tell(f"{store.label}, {budget.label}: {_said(rows[-1])}")
        for demand in (demand for demand in demands(size) if not names or demand.store.name in names):
            path = ensure_store(demand.store, data)
            figures = run_one(path, demand.budget_bytes, demand.words, timeout_seconds)
            rows.append(_row(demand.store, "of its own", demand.budget_bytes, figures))
            tell(f"{demand.store.label}: {_said(rows[-1])}")
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


def run_one(path: Path, budget_bytes: int, words: tuple[str, ...], timeout_seconds: float) -> dict[str, Any]:
    """One run in a fresh process: its figures, or what it `said` instead."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="memory-run-") as name:
        folder = Path(name)
        command = ["svd", str(path), str(folder / "factors"), *words, "--memory", str(budget_bytes)]
        command += ["--seed", str(SEED), "--device", "cpu", "--json", "--quiet"]
        figures = run_command(command, folder, timeout_seconds)
    if "said" in figures:
        figures["said"] = figures["said"].replace(str(folder), "FOLDER").replace(str(path), "STORE")
    return figures


def run_command(words: list[str], folder: Path, timeout_seconds: float) -> dict[str, Any]:
    """`bigsvd` with these words, which ask for JSON, in a fresh process: its figures, or what it `said`."""
    path = folder / "figures.json"
    command = [sys.executable, "-m", "benchmarks.memory", str(path), *words]
    try:
        ended = subprocess.run(command, timeout=timeout_seconds, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        return {"status": "stopped", "said": f"not done after {timeout_seconds:g} s"}
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"])[-1]
        return {"status": "refused" if ended.returncode == _REFUSED else "failed", "said": said}
    figures: dict[str, Any] = json.loads(path.read_text())
    return {"status": "done", **figures}


def _row(store: Store, budget: str, budget_bytes: int, figures: dict[str, Any]) -> dict[str, Any]:
    """A run with what it was given."""
    given = {"budget": budget, "data_bytes": store.data_bytes, "budget_bytes": budget_bytes}
    return asdict(store) | given | judged(figures)


def judged(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of a run; `ratio` is peak memory beyond the idle cluster over the plan's bound."""
    if figures["status"] != "done":
        return figures
    peak = figures["peak_rss_bytes"] - figures["idle_bytes"]
    ratio = peak / figures["planned_bytes"]
    return figures | {"peak_memory_bytes": peak, "ratio": ratio, "half_used": ratio >= 0.5}


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
        "exceeded_bytes": info["memory_exceeded_bytes"],
        "method": info["method"],
        "passes": info["passes"],
        "seconds": info["seconds"],
    }
    figures.write_text(json.dumps(values))


if __name__ == "__main__":
    run_child(Path(sys.argv[1]), sys.argv[2:])
