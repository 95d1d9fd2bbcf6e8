"""What `cpu-gpu` compares, one row each, and the measurement of one of them in a process of its own.

A row's function is run once on a little matrix, which starts the device, compiles its kernels and imports
what is imported late; then it is timed on the matrix, from opening the source to factors in host memory.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.cpu_gpu_ceilings import load
from benchmarks.data import open_store
from benchmarks.machine import usable_cpus
from benchmarks.measure import peak_rss_bytes
from benchmarks.peers import OVERSAMPLING, SEED
from bigsvd.events import Event, PassStarted, PlanMade

POWER_ITERATIONS = 4
LEAST_MEMORY = 320_000_000
_LITTLE = (3_000, 100, 3)
_SAMPLE_SECONDS = 0.005


@dataclass(frozen=True)
class Kind:
    """Where the matrix is when the clock starts, and bigsvd's budget as a multiple of its bytes."""

    name: str
    label: str
    share: float
    stored: bool


KINDS = {
    kind.name: kind
    for kind in (
        Kind("larger", "Zarr, scarce memory", 0.25, stored=True),
        Kind("fits", "Zarr, ample memory", 2.0, stored=True),
        Kind("host", "NumPy array", 2.0, stored=False),
    )
}


@dataclass(frozen=True)
class Task:
    """A path or an array, the rank asked for, bigsvd's budget, and a folder to write into."""

    source: Path | np.ndarray
    k: int
    memory: int
    folder: Path

    def in_memory(self) -> np.ndarray:
        """The matrix, loaded if it is stored; integers as float32, as the peers need them."""
        values = load(self.source) if isinstance(self.source, Path) else self.source
        return values if values.dtype.kind == "f" else values.astype(np.float32)


@dataclass(frozen=True)
class Answer:
    """sigma (k,) and Vt (k, n) in host memory, and what else the row says of itself (JSON values)."""

    sigma: np.ndarray
    Vt: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """One row.

    Attributes:
        family: which library, for the plot. device: "cpu" or "gpu".
        modules: what it imports; where one is not installed it is not run.
        kinds: names of the `KINDS` it is run on.
        dense: whether it computes all singular values, and is left out where that takes too long.

    """

    name: str
    label: str
    family: str
    device: str
    run: Callable[[Task], Answer]
    modules: tuple[str, ...]
    kinds: tuple[str, ...] = ("fits", "host")
    dense: bool = False


class PassTrace:
    """The run's `progress`: notes each full pass, and what scratch records of it before it is swept.

    `passes` has for each pass its name, the columns of its block (of the Gram matrix: all), the bytes that
    came from the source and from the cache of decoded panels, on the device itself among these, and
    multiplications and additions.
    """

    def __init__(self, out: Path) -> None:
        self._scratch = import_module("bigsvd.scratch").Scratch(
            import_module("bigsvd.results.folders").scratch_path(out)
        )
        self._shape = (0, 0)
        self._names: list[str] = []
        self._found: dict[str, dict[str, Any]] = {}

    def __call__(self, event: Event) -> None:
        """Called from several threads; only what the driver says is listened to."""
        if isinstance(event, PlanMade):
            self._shape = event.plan.rows, event.plan.cols
        if event.kind in ("pass", "certificate", "formed"):
            for name in self._names:
                if name not in self._found:
                    self._look(name)
        if isinstance(event, PassStarted) and not event.sample:
            self._names.append(event.name)

    def _look(self, name: str) -> None:
        done = self._scratch.recorded(f"{name}/done")
        if done is None:
            return
        rows, cols = self._shape
        gram = not self._scratch.has(f"{name}/block")
        columns = cols if gram else int(self._scratch.open(f"{name}/block").shape[1])
        counters = done["counters"]
        self._found[name] = {
            "name": name,
            "columns": columns,
            "bytes_read": counters["bytes_read"],
            "cached_bytes": counters["cached_bytes"],
            "device_cached_bytes": counters["device_cached_bytes"],
            "flops": (2.0 if gram else 4.0) * rows * cols * columns,
        }

    def passes(self, seconds: list[float], dtype: str) -> list[dict[str, Any]]:
        """One entry for each of `pass_seconds`; with nothing but these where the run was not followed."""
        if len(self._names) != len(seconds):
            return [{"seconds": value} for value in seconds]
        return [
            {"seconds": value, "dtype": "float64" if "float64" in name else dtype}
            | self._found.get(name, {"name": name})
            for name, value in zip(self._names, seconds, strict=True)
        ]


def bigsvd_svd(task: Task, *, device: str, method: str) -> Answer:
    """`bigsvd.svd`: cluster start, passes, writing, checking and publishing U, s and Vt, certificate."""
    out = task.folder / "factors"
    trace = PassTrace(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a run did not reach its tolerance
        factors = import_module("bigsvd.solve").svd(
            task.source, task.k, out, device=device, method=method, memory=task.memory, seed=SEED,
            progress=trace,
        )  # fmt: skip
    costs, plan, certificate = factors.provenance["costs"], factors.provenance["plan"], factors.certificate
    facts = {
        "passes": costs["passes"],
        "pass_seconds": costs["pass_seconds"],
        "seconds_by_part": costs["seconds_by_part"],
        "predicted_seconds": costs["predicted_seconds"],
        "cache_hit_rate": costs["cache_hit_rate"],
        "planned_memory_bytes": costs["planned_memory_bytes"],
        "lanes_at_a_time": plan["threads"],
        "plan_device": plan["device"],
        "max_residual": certificate.max_residual,
        "converged": certificate.converged,
        "traced": trace.passes(costs["pass_seconds"], plan["compute_dtype"]),
    }
    return Answer(np.asarray(factors.s), np.asarray(factors.Vt[:]), facts)


def sklearn_randomized(task: Task) -> Answer:
    """`sklearn.utils.extmath.randomized_svd` on the matrix in memory."""
    _, sigma, Vt = import_module("sklearn.utils.extmath").randomized_svd(
        task.in_memory(), task.k, n_oversamples=OVERSAMPLING, n_iter=POWER_ITERATIONS, random_state=SEED
    )
    return Answer(sigma, Vt)


def torch_lowrank(task: Task) -> Answer:
    """`torch.svd_lowrank` on the GPU; U, s and V copied back."""
    torch = import_module("torch")
    torch.manual_seed(SEED)
    matrix = torch.from_numpy(task.in_memory()).to("cuda")
    q = min(task.k + OVERSAMPLING, *matrix.shape)
    U, s, V = torch.svd_lowrank(matrix, q=q, niter=POWER_ITERATIONS)
    _, sigma, vectors = (value.cpu().numpy() for value in (U[:, : task.k], s[: task.k], V[:, : task.k]))
    return Answer(sigma, vectors.T)


def cupy_dense(task: Task) -> Answer:
    """`cupy.linalg.svd`, all singular values; the k leading triplets copied back."""
    cupy = import_module("cupy")
    U, s, Vt = cupy.linalg.svd(cupy.asarray(task.in_memory()), full_matrices=False)
    _, sigma, vectors = (cupy.asnumpy(value) for value in (U[:, : task.k], s[: task.k], Vt[: task.k]))
    return Answer(sigma, vectors)


def dask_cupy(task: Task, *, power_iterations: int) -> Answer:
    """`dask.array.linalg.svd_compressed`, iterator QR, compute=True, on chunks copied to the GPU."""
    cupy, da, dask = (import_module(name) for name in ("cupy", "dask.array", "dask"))
    stored = da.from_zarr(str(task.source)) if isinstance(task.source, Path) else da.from_array(task.source)
    wide = stored.dtype if stored.dtype.kind == "f" else np.dtype(np.float32)
    chunks = stored.rechunk({1: -1})
    matrix = chunks.map_blocks(_to_cupy, dtype=wide, meta=cupy.empty((0, 0), dtype=wide), to=wide.name)
    with dask.config.set(scheduler="threads", num_workers=usable_cpus()):
        factors = da.linalg.svd_compressed(
            matrix,
            task.k,
            iterator="QR",
            n_power_iter=power_iterations,
            n_oversamples=OVERSAMPLING,
            seed=da.random.RandomState(SEED, RandomState=cupy.random.RandomState),
            compute=True,
        )
        _, sigma, Vt = (cupy.asnumpy(value) for value in dask.compute(*factors))
    return Answer(sigma, Vt)


def _to_cupy(block: np.ndarray, to: str) -> Any:
    return import_module("cupy").asarray(block).astype(to, copy=False)


CONTENDERS = (
    *(
        Contender(
            f"bigsvd-{method}-{device}",
            f"bigsvd {method}",
            "bigsvd",
            device,
            partial(bigsvd_svd, device=device, method=method),
            ("bigsvd.solve",),
            tuple(KINDS),
        )
        for method in ("krylov", "gram")
        for device in ("gpu", "cpu")
    ),
    Contender(
        "torch-lowrank", f"torch.svd_lowrank niter={POWER_ITERATIONS}", "PyTorch", "gpu",
        torch_lowrank, ("torch",),
    ),
    Contender(
        "sklearn", f"scikit-learn randomized_svd n_iter={POWER_ITERATIONS}", "scikit-learn", "cpu",
        sklearn_randomized, ("sklearn.utils.extmath",),
    ),
    Contender(
        "dask-cupy-q2", "Dask svd_compressed on CuPy, QR q=2", "Dask", "gpu",
        partial(dask_cupy, power_iterations=2), ("dask.array", "cupy"), ("larger",),
    ),
    Contender(
        "cupy-dense", "cupy.linalg.svd", "CuPy", "gpu", cupy_dense, ("cupy",), ("host",), dense=True
    ),
)  # fmt: skip
BY_NAME = {contender.name: contender for contender in CONTENDERS}


def measure_here(
    folder: str, name: str, store: str, kind: str, k: int, data_bytes: int, repeat: int, slow: float
) -> dict[str, Any]:
    """In a fresh process: imports, a first use on a little matrix, timed runs; factors stay in the folder.

    Memory is counted from after the first use, with the matrix already there where it is an array.
    """
    contender, chosen, place = BY_NAME[name], KINDS[kind], Path(folder)
    for module in contender.modules:
        import_module(module)
    source: Path | np.ndarray = Path(store) if chosen.stored else load(Path(store))
    first_seconds = _first_use(contender, place, _dtype_of(source))
    _forget_peak()
    resident = int(psutil.Process().memory_info().rss)
    memory = max(LEAST_MEMORY, int(chosen.share * data_bytes))
    runs: list[dict[str, Any]] = []
    device_bytes = _DeviceMonitor()
    while len(runs) < repeat and not (runs and runs[-1]["seconds"] > slow):
        task = Task(source, k, memory, place / f"run-{len(runs)}")
        task.folder.mkdir()
        with device_bytes:
            start = time.perf_counter()
            answer = contender.run(task)
            seconds = time.perf_counter() - start
        np.savez(place / f"triplets-{len(runs)}.npz", sigma=answer.sigma, Vt=answer.Vt)
        runs.append({"seconds": seconds, "facts": answer.facts})
    return {
        "first_use_seconds": first_seconds,
        "peak_memory_bytes": max(0, peak_rss_bytes() - resident),
        "device_memory_bytes": device_bytes.peak if contender.device == "gpu" else None,
        "memory_budget_bytes": memory if contender.family == "bigsvd" else None,
        "runs": runs,
    }


def _dtype_of(source: Path | np.ndarray) -> np.dtype[Any]:
    found: np.dtype[Any] = open_store(source).dtype if isinstance(source, Path) else source.dtype
    return found


def _first_use(contender: Contender, place: Path, dtype: np.dtype[Any]) -> float:
    m, n, k = _LITTLE
    little = (10 * np.random.default_rng(SEED).standard_normal((m, n))).astype(dtype)
    folder = place / "first"
    folder.mkdir()
    start = time.perf_counter()
    contender.run(Task(little, k, LEAST_MEMORY, folder))
    return time.perf_counter() - start


def _forget_peak() -> None:
    """Let the high-water mark of resident memory start anew, where Linux allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class _DeviceMonitor:
    """Samples, while it is entered, what CuPy's pool holds; `peak` is the most, or PyTorch's own figure."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._most: int | None = None

    def __enter__(self) -> None:
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, name="device-memory", daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            if "cupy" in sys.modules:
                held = int(sys.modules["cupy"].get_default_memory_pool().total_bytes())
                self._most = max(self._most or 0, held)

    @property
    def peak(self) -> int | None:
        """None where neither library was used."""
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
            return int(sys.modules["torch"].cuda.max_memory_allocated())
        return self._most
