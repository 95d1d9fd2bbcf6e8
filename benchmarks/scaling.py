"""Overheads, planning, weak scaling, and from them a simulation of a petabyte.

Overheads are differences of pass times of one matrix in memory, so small that reading and multiplying it cost
next to nothing, on one thread, under the same plan cut into more panels or more lanes. Scratch is on disk as
always.
"""

from __future__ import annotations

import logging
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.pickle import dumps
from threadpoolctl import threadpool_limits
from zarr.storage import MemoryStore

from benchmarks.data import Dataset, ensure_data, open_store, row_blocks
from benchmarks.machine import provenance, usable_cpus
from benchmarks.peers import SEED
from benchmarks.simulation import Case, Cluster, Constants, plan_bytes, run_simulation
from bigsvd.events import Event

_NARROW_COLS = 16
_PLANNED_COLS = 1_000
_PLANNED_CHUNK_ROWS = 16_000
_SLAB_ROWS = 1_024
_SLAB_COLS = 1_024


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        panels: the most panels of a pass. traced_panels: where their memory is traced. lanes: few and many.
        wide: columns where partial sums count. wide_lanes: the many lanes there.
        planned_panels: of the matrix that is only planned.
        workers: processes, from few to many. rows_per_worker, cols: of the data of one.
        tasks: empty ones, for the scheduler. k: rank asked for. doublings: of the simulated matrix.

    """

    panels: int
    traced_panels: int
    lanes: tuple[int, int]
    wide: int
    wide_lanes: int
    planned_panels: int
    workers: tuple[int, ...]
    rows_per_worker: int
    cols: int
    tasks: int
    k: int
    doublings: range


SIZES = {
    "tiny": Size(
        panels=200,
        traced_panels=200,
        lanes=(2, 20),
        wide=300,
        wide_lanes=10,
        planned_panels=10_000,
        workers=(1, 2),
        rows_per_worker=1_000,
        cols=120,
        tasks=100,
        k=3,
        doublings=range(-6, 1, 2),
    ),
    "small": Size(
        panels=10_000,
        traced_panels=5_000,
        lanes=(4, 200),
        wide=6_000,
        wide_lanes=64,
        planned_panels=1_000_000,
        workers=(1, 2, 4),
        rows_per_worker=50_000,
        cols=1_000,
        tasks=2_000,
        k=20,
        doublings=range(-10, 4),
    ),
    "full": Size(
        panels=100_000,
        traced_panels=10_000,
        lanes=(4, 1_000),
        wide=8_000,
        wide_lanes=128,
        planned_panels=1_000_000,
        workers=(1, 2, 4),
        rows_per_worker=100_000,
        cols=2_000,
        tasks=5_000,
        k=50,
        doublings=range(-10, 4),
    ),
}


class TaskSizes(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Notes the size of every task that the scheduler sends, pickled as it is sent, by its key."""

    name = "bigsvd-benchmark-task-sizes"

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.bytes: dict[Any, int] = {}

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Called by the scheduler for every change of a task."""
        del start
        if finish == "processing" and key not in self.bytes:
            self.bytes[key] = len(dumps(self._scheduler.tasks[key].run_spec))


@contextmanager
def local_cluster(workers: int, threads: int, *, processes: bool) -> Iterator[tuple[Client, LocalCluster]]:
    """A Dask cluster on this machine, without a dashboard and without limits of its own."""
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        processes=processes,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        memory_limit=0,
        silence_logs=logging.CRITICAL,  # else workers that are closed say that they lost their scheduler
    )
    try:
        with Client(cluster) as client:
            client.wait_for_workers(workers)
            yield client, cluster
    finally:
        cluster.close()


def cut(plan: Any, panels: int, lanes: int) -> Any:
    """The same `bigsvd.Plan` in about so many panels of equal height and so many lanes, without a sample."""
    height = -(-plan.rows // panels)
    count = -(-plan.rows // height)
    edges = [count * i // lanes for i in range(lanes + 1)]
    values = plan.to_dict() | {"panel_rows": height, "lanes": list(pairwise(edges)), "sample": []}
    return import_module("bigsvd").Plan.from_dict(values)


class Timeline:
    """Notes when each kind of event of a run came first, and Python's peak memory by then if it is traced."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._peak_bytes: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        """The run's `progress`."""
        if event.kind not in self._seconds:
            self._seconds[event.kind] = time.perf_counter()
            self._peak_bytes[event.kind] = tracemalloc.get_traced_memory()[1]

    @property
    def streaming_seconds(self) -> float:
        """From the beginning of the pass to the end of its last lane."""
        return self._seconds["pass-end"] - self._seconds["pass"]

    @property
    def combining_seconds(self) -> float:
        """From there to the answer: the driver combines the lanes' sums, and does the small dense work."""
        return self._seconds["certificate"] - self._seconds["pass-end"]

    @property
    def peak_bytes(self) -> int:
        """Up to the answer, before the factors are formed."""
        return self._peak_bytes["certificate"]


def one_pass(
    matrix: np.ndarray, panels: int, lanes: int, client: Client, folder: Path
) -> tuple[Any, Timeline]:
    """The factors after one pass over a matrix in memory under a plan cut like this, and its timeline."""
    bigsvd, solve = import_module("bigsvd"), import_module("bigsvd.solve")
    source = import_module("bigsvd.sources.open").open_source(matrix)
    plan = cut(
        bigsvd.plan(matrix, 1, method="krylov", max_passes=1, memory="4GB", client=client), panels, lanes
    )
    timeline = Timeline()
    with tempfile.TemporaryDirectory(dir=folder, prefix="scaling-") as name:
        request = replace(plan.request, out=str(Path(name) / "factors"))
        return solve.run(request, source, plan=plan, client=client, progress=timeline), timeline


def run_scaling(
    size: Size, data: Path, repeat: int, cluster: Cluster, tell: Callable[[str], None]
) -> dict[str, Any]:
    """All four parts; the simulation uses what the others measured."""
    measured_with = provenance()
    data.mkdir(parents=True, exist_ok=True)
    with local_cluster(1, 1, processes=False) as (client, embedded):
        overheads = measure_overheads(size, client, data, repeat, tell)
        overheads["panel_bytes"] = measure_panel_bytes(size, client, data)
        tasks = measure_tasks(size, client, embedded.scheduler, data)
    tell(f"a task: {tasks['task_seconds'] * 1e6:.0f} µs")
    planning = measure_planning(size)
    tell(f"planning {planning['panels']:,} panels: {planning['seconds']:.2f} s")
    scaling = measure_weak_scaling(size, data, tell)
    rates = measure_rates(size, data)
    measured = {name: value for name, value in overheads.items() if name != "runs"}
    constants = Constants(**measured | tasks | rates)
    return {
        **measured_with,
        "parameters": {
            **asdict(size),
            "doublings": list(size.doublings),
            "cpus": usable_cpus(),
            "repeat": repeat,
            "seed": SEED,
        },
        "overheads": overheads,
        "planning": planning,
        "weak_scaling": scaling,
        "simulation": run_simulation(Case(doublings=tuple(size.doublings)), constants, cluster),
    }


def measure_overheads(
    size: Size, client: Client, folder: Path, repeat: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds of a pass by rows, columns, panels and lanes, and what follows for one panel, lane and byte."""
    few, many = size.lanes
    rng = np.random.default_rng(SEED)
    narrow = rng.standard_normal((size.panels, _NARROW_COLS), dtype=np.float32)
    square = rng.standard_normal((size.wide, size.wide), dtype=np.float32)
    cuts = {
        "plain": (narrow, many, few),
        "panels": (narrow, size.panels, few),
        "lanes": (narrow, many, many),
        "wide": (square, size.wide_lanes, few),
        "wide lanes": (square, size.wide_lanes, size.wide_lanes),
    }
    runs = {}
    for name, (matrix, panels, lanes) in cuts.items():
        runs[name] = _timed(matrix, panels, lanes, client, folder, repeat)
        tell(f"{panels:,} panels in {lanes:,} lanes, {matrix.shape[1]:,} columns: {_shown(runs[name])}")
    partial_bytes = runs["wide"]["partial_bytes"]
    found = {"panel_seconds": _slope(runs["plain"], runs["panels"], "panels", "streaming_seconds")}
    for part, of_lane, of_byte in (
        ("streaming_seconds", "lane_seconds", "partial_seconds_per_byte"),
        ("combining_seconds", "combined_lane_seconds", "combined_seconds_per_byte"),
    ):
        found[of_lane] = _slope(runs["plain"], runs["lanes"], "lanes", part)
        with_bytes = _slope(runs["wide"], runs["wide lanes"], "lanes", part)
        found[of_byte] = max(0.0, with_bytes - found[of_lane]) / partial_bytes
    return {**found, "runs": list(runs.values())}


def _timed(
    matrix: np.ndarray, panels: int, lanes: int, client: Client, folder: Path, repeat: int
) -> dict[str, Any]:
    """The fastest of several passes under a plan cut like this."""
    made = [one_pass(matrix, panels, lanes, client, folder) for _ in range(repeat)]
    factors = made[0][0]
    columns = factors.provenance["plan"]["width"] + factors.certificate.audit.probes
    return {
        "shape": list(matrix.shape),
        "panels": panels,
        "lanes": lanes,
        "partial_bytes": matrix.shape[1] * columns * 8,
        "streaming_seconds": min(timeline.streaming_seconds for _, timeline in made),
        "combining_seconds": min(timeline.combining_seconds for _, timeline in made),
    }


def _shown(run: dict[str, Any]) -> str:
    return f"{run['streaming_seconds']:.2f} s, combined in {run['combining_seconds']:.2f} s"


def _slope(before: dict[str, Any], after: dict[str, Any], name: str, part: str) -> float:
    """Seconds for one more of `name`; not below 0, whatever the noise."""
    return float(max(0.0, (after[part] - before[part]) / (after[name] - before[name])))


def measure_panel_bytes(size: Size, client: Client, folder: Path) -> float:
    """Python's peak memory in a pass, by the number of panels: what each adds until the pass ends."""
    few, many = size.lanes
    matrix = np.random.default_rng(SEED).standard_normal((size.traced_panels, _NARROW_COLS), dtype=np.float32)
    peaks = []
    for panels in (many, size.traced_panels):
        tracemalloc.start()
        _, timeline = one_pass(matrix, panels, few, client, folder)
        peaks.append(timeline.peak_bytes)
        tracemalloc.stop()
    return max(0.0, (peaks[1] - peaks[0]) / (size.traced_panels - many))


def measure_tasks(size: Size, client: Client, scheduler: Any, folder: Path) -> dict[str, Any]:
    """The scheduler's seconds for an empty task; the bytes of a lane's task, linear in the plan's."""
    client.gather(client.map(_nothing, range(8), pure=False))
    start = time.perf_counter()
    client.gather(client.map(_nothing, range(size.tasks), pure=False))
    seconds = (time.perf_counter() - start) / size.tasks
    matrix = np.random.default_rng(SEED).standard_normal((size.lanes[1], _NARROW_COLS), dtype=np.float32)
    found = []
    for lanes in size.lanes:  # plans of two sizes
        sizes = TaskSizes(scheduler)
        scheduler.add_plugin(sizes)
        factors, _ = one_pass(matrix, size.lanes[1], lanes, client, folder)
        scheduler.remove_plugin(sizes.name)
        plan = import_module("bigsvd").Plan.from_dict(factors.provenance["plan"])
        found.append((float(plan_bytes(plan)), float(max(sizes.bytes.values()))))  # lanes' tasks are largest
    (less, smaller), (more, larger) = found
    copies = max(0.0, (larger - smaller) / (more - less))
    return {
        "task_seconds": seconds,
        "task_bytes": smaller - copies * less,
        "plans_in_a_task": copies,
        "probe_columns": factors.certificate.audit.probes,
    }


def _nothing(_: int) -> None:
    """A task."""


def measure_planning(size: Size) -> dict[str, Any]:
    """Seconds and peak bytes of making a plan, of a matrix that is metadata only, and of its JSON."""
    bigsvd = import_module("bigsvd")
    shape = (size.planned_panels * _PLANNED_CHUNK_ROWS, _PLANNED_COLS)
    chunks = (_PLANNED_CHUNK_ROWS, _PLANNED_COLS)
    array = zarr.create_array(MemoryStore(), shape=shape, chunks=chunks, dtype="float32", zarr_format=3)
    start = time.perf_counter()
    plan = bigsvd.plan(array, size.k, memory="4GB", method="krylov")
    seconds = time.perf_counter() - start
    tracemalloc.start()
    bigsvd.plan(array, size.k, memory="4GB", method="krylov")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    start = time.perf_counter()
    text = plan.to_json()
    bigsvd.Plan.from_json(text)
    return {
        "shape": list(shape),
        "data_bytes": shape[0] * shape[1] * 4,
        "panels": plan.panels,
        "lanes": len(plan.lanes),
        "seconds": seconds,
        "peak_bytes": peak,
        "json_bytes": len(text),
        "json_seconds": time.perf_counter() - start,
    }


def measure_weak_scaling(size: Size, data: Path, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Two passes on 1, 2, … processes of one thread, the data growing with them."""
    rows: list[dict[str, Any]] = []
    for workers in size.workers:
        dataset = _dataset(size, workers)
        store = ensure_data(dataset, data)
        _bare_read_seconds(store)  # into the page cache
        with local_cluster(workers, 1, processes=True) as (client, _):
            passes = _two_passes(store, size.k, client)
        first = rows[0] if rows else {"first_seconds": passes[0], "last_seconds": passes[-1]}
        rows.append(
            {
                "workers": workers,
                "data_bytes": dataset.data_bytes,
                "first_seconds": passes[0],
                "last_seconds": passes[-1],
                "first_efficiency": first["first_seconds"] / passes[0],
                "last_efficiency": first["last_seconds"] / passes[-1],
            }
        )
        tell(f"{workers} workers: passes of {passes[0]:.2f} s and {passes[-1]:.2f} s")
    return rows


def _two_passes(store: Path, k: int, client: Client) -> list[float]:
    """Seconds of each of two passes."""
    with tempfile.TemporaryDirectory(dir=store.parent, prefix="scaling-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which repeat the certificate: two passes are too few
        factors = import_module("bigsvd").svd(
            store, k, Path(name) / "factors", client=client, memory="1GB", method="krylov", max_passes=2,
            tol=1e-4, seed=SEED, device="cpu",
        )  # fmt: skip
    return [float(seconds) for seconds in factors.provenance["costs"]["pass_seconds"]]


def _dataset(size: Size, workers: int) -> Dataset:
    return Dataset("slow_decay", workers * size.rows_per_worker, size.cols, size.k, SEED)


def _bare_read_seconds(store: Path) -> float:
    """Seconds to read and decode the store on one thread."""
    start = time.perf_counter()
    for _ in row_blocks(open_store(store)):
        pass
    return time.perf_counter() - start


def measure_rates(size: Size, data: Path) -> dict[str, float]:
    """Decoded bytes a second of one thread; flops a second of both products of a slab, one BLAS thread."""
    dataset = _dataset(size, 1)
    reading = min(_bare_read_seconds(ensure_data(dataset, data)) for _ in range(3))
    rng = np.random.default_rng(SEED)
    slab = rng.standard_normal((_SLAB_ROWS, _SLAB_COLS), dtype=np.float32)
    block = rng.standard_normal((_SLAB_COLS, 3 * size.k), dtype=np.float32)
    with threadpool_limits(limits=1):
        multiplying = min(_product_seconds(slab, block) for _ in range(10))
    return {
        "read_bytes_per_second": dataset.data_bytes / reading,
        "product_flops_per_second": 4.0 * slab.size * block.shape[1] / multiplying,
    }


def _product_seconds(slab: np.ndarray, block: np.ndarray) -> float:
    start = time.perf_counter()
    slab.T @ (slab @ block)
    return time.perf_counter() - start
