"""What a pass over a very large matrix would take on a cluster: arithmetic on a plan and measured constants.

Nothing is run. The plan is the one that `bigsvd.plan` makes for a Zarr array of that shape of which only the
metadata exists; the constants come from the same machine and run; the cluster is assumed.

A pass is modelled as follows.

1. Workers stream the data, all at once: a worker needs the longer of its transfers (object store, network)
   and its computing (decoding, both products, the overhead of its panels and lanes, on its threads).
2. The scheduler hands out the lanes meanwhile, one task each; the pass is no shorter than that takes.
3. Then the partial sums of the lanes are read from scratch and added: by tasks of a few each on
   all threads, level by level, until the driver adds the last of them, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import numpy as np
import zarr
from distributed.protocol.pickle import dumps
from zarr.storage import MemoryStore

from bigsvd.execution.passes import PARTS_A_SUM

_SUM_ITEMSIZE = 8


@dataclass(frozen=True)
class Constants:
    """Measured on this machine.

    Attributes:
        panel_seconds, lane_seconds: overhead of one panel and of one lane, on its thread.
        panel_bytes: what the process of driver and lanes holds for each panel of a pass at the end of it.
        partial_seconds_per_byte: making a lane's partial sums and writing them to scratch.
        combined_lane_seconds, combined_seconds_per_byte: reading and adding those of one lane, in the driver.
        task_seconds: the scheduler's time for one task.
        task_bytes, plans_in_a_task: size of one task as sent to a worker without the plan, and how often it
            has the plan in it.
        read_bytes_per_second: decoded bytes, one thread, data in the page cache.
        product_flops_per_second: both products of a float32 slab with a block, one BLAS thread.
        probe_columns: columns of the audit, which go through the first pass with the block.

    """

    panel_seconds: float
    lane_seconds: float
    panel_bytes: float
    partial_seconds_per_byte: float
    combined_lane_seconds: float
    combined_seconds_per_byte: float
    task_seconds: float
    task_bytes: float
    plans_in_a_task: float
    read_bytes_per_second: float
    product_flops_per_second: float
    probe_columns: int


@dataclass(frozen=True)
class Cluster:
    """Assumed.

    Attributes:
        workers: processes, each on a machine with the threads of the plan.
        network_bytes_per_second, store_bytes_per_second: of one machine, to the others and from the object
            store, which as a whole has no limit. Data is not compressed.
        driver_bytes: memory for the driver and, on the same machine, the scheduler.
        scratch_bytes: capacity of the scratch file system.
        pass_seconds: longest pass that anyone would wait for.

    """

    workers: int = 100
    network_bytes_per_second: float = 25e9 / 8
    store_bytes_per_second: float = 1e9
    driver_bytes: float = 64e9
    scratch_bytes: float = 100e12
    pass_seconds: float = 24 * 3600.0


@dataclass(frozen=True)
class Workload:
    """What a pass has to do, from a plan.

    Attributes:
        data_bytes: read by one pass. rows, cols: of the matrix as streamed. width: of a block.
        panels, lanes, threads: as in the plan. itemsize: of Y in scratch.
        driver_bytes: held by the driver for the basis, its products and small dense work.
        scratch_bytes: of Y of the passes that the plan expects, and of the factors. plan_bytes: of the plan.

    """

    data_bytes: float
    rows: float
    cols: int
    width: int
    panels: float
    lanes: float
    threads: int
    itemsize: int
    driver_bytes: float
    scratch_bytes: float
    plan_bytes: float


@dataclass(frozen=True)
class Estimate:
    """One pass. Seconds that overlap: transfer, computing, scheduling; then, alone, combining.

    Attributes:
        network_bytes: data, Y, partial sums written and read, tasks. partial_bytes: of one lane.
        driver_bytes: basis and small dense work, two partial sums, facts of all panels. scheduler_bytes: of
            all tasks.
        scratch_bytes: Y of all passes, the factors, and the partial sums of one pass.
        lost_seconds: work of one thread that is lost with a worker: a lane.

    """

    transfer_seconds: float
    computing_seconds: float
    scheduling_seconds: float
    combining_seconds: float
    pass_seconds: float
    network_bytes: float
    partial_bytes: float
    driver_bytes: float
    scheduler_bytes: float
    scratch_bytes: float
    lost_seconds: float


@dataclass(frozen=True)
class Limit:
    """One thing that can break: what a pass needs and what there is of it, in s or B."""

    name: str
    unit: str
    value: float
    available: float

    @property
    def share(self) -> float:
        """Needed over available: 1 or more where it breaks."""
        return self.value / self.available


def plan_workload(shape: tuple[int, int], chunks: tuple[int, int], k: int, memory: str) -> Workload:
    """The workload of a float32 matrix that need not exist, planned for this memory and this machine."""
    array = zarr.create_array(MemoryStore(), shape=shape, chunks=chunks, dtype="float32", zarr_format=3)
    return workload_of(import_module("bigsvd").plan(array, k, memory=memory, method="krylov"))


def workload_of(plan: Any) -> Workload:
    """What a `bigsvd.Plan` has to do in one pass."""
    return Workload(
        data_bytes=float(plan.bytes_per_pass),
        rows=float(plan.rows),
        cols=plan.cols,
        width=plan.width,
        panels=float(plan.panels),
        lanes=float(len(plan.lanes)),
        threads=plan.threads,
        itemsize=np.dtype(plan.compute_dtype).itemsize,
        driver_bytes=float(sum(size for term, size in plan.memory.items() if "driver" in term)),
        scratch_bytes=float(plan.scratch_bytes),
        plan_bytes=float(plan_bytes(plan)),
    )


def plan_bytes(plan: Any) -> int:
    """The size of a plan as it travels."""
    return len(dumps(plan))


def simulate(work: Workload, constants: Constants, cluster: Cluster) -> Estimate:
    """One pass of `work` on `cluster`, as the module says."""
    threads = min(cluster.workers * work.threads, work.lanes)
    partial = float(work.cols * (work.width + constants.probe_columns) * _SUM_ITEMSIZE)
    y_bytes = work.rows * work.width * work.itemsize
    moved_bytes = work.data_bytes + y_bytes + work.lanes * partial
    transferring = max(
        work.data_bytes / (cluster.workers * cluster.store_bytes_per_second),
        moved_bytes / (cluster.workers * cluster.network_bytes_per_second),
    )
    computing = (
        work.data_bytes / constants.read_bytes_per_second
        + 4.0 * work.rows * work.cols * work.width / constants.product_flops_per_second
        + work.panels * constants.panel_seconds
        + work.lanes * (constants.lane_seconds + partial * constants.partial_seconds_per_byte)
    ) / threads
    tasks_bytes = work.lanes * (constants.task_bytes + work.plan_bytes * constants.plans_in_a_task)
    scheduling = work.lanes * constants.task_seconds + tasks_bytes / cluster.network_bytes_per_second
    added, left = _tree(work.lanes)
    a_part = constants.combined_lane_seconds + partial * constants.combined_seconds_per_byte
    sent = partial / cluster.network_bytes_per_second
    combining = added * max(a_part / threads, sent / cluster.workers) + left * max(a_part, sent)
    return Estimate(
        transfer_seconds=transferring,
        computing_seconds=computing,
        scheduling_seconds=scheduling,
        combining_seconds=combining,
        pass_seconds=max(transferring, computing, scheduling) + combining,
        network_bytes=moved_bytes + (added + left) * partial + tasks_bytes,
        partial_bytes=partial,
        driver_bytes=work.driver_bytes + 2 * partial + work.panels * constants.panel_bytes,
        scheduler_bytes=tasks_bytes,
        scratch_bytes=work.scratch_bytes + work.lanes * partial,
        lost_seconds=max(transferring, computing) * threads / work.lanes,
    )


def _tree(lanes: float) -> tuple[float, float]:
    """Partial sums that tasks add, on all levels together, and those that are left for the driver."""
    added, left = 0.0, lanes
    while left > PARTS_A_SUM:
        added += left
        left = float(-(-left // PARTS_A_SUM))
    return added, left


def limits(estimate: Estimate, cluster: Cluster) -> tuple[Limit, ...]:
    """Everything that can break, against what there is."""
    streaming = max(estimate.transfer_seconds, estimate.computing_seconds)
    return (
        Limit("time of a pass", "s", estimate.pass_seconds, cluster.pass_seconds),
        Limit("sums combined, nothing streamed", "s", estimate.combining_seconds, streaming),
        Limit("scheduler while workers stream", "s", estimate.scheduling_seconds, streaming),
        Limit("driver memory", "B", estimate.driver_bytes, cluster.driver_bytes),
        Limit("scheduler memory", "B", estimate.scheduler_bytes, cluster.driver_bytes),
        Limit("scratch", "B", estimate.scratch_bytes, cluster.scratch_bytes),
    )


@dataclass(frozen=True)
class Case:
    """The matrix that is simulated, and how its rows are doubled or halved to find what breaks at what size.

    `shape` and `chunks` in entries; `memory` is each worker's budget.
    """

    shape: tuple[int, int] = (10**9, 250_000)
    chunks: tuple[int, int] = (64, 250_000)
    k: int = 50
    memory: str = "16GB"
    doublings: tuple[int, ...] = (0,)

    def workload(self, doubling: int = 0) -> Workload:
        """Of the matrix with 2^doubling times the rows."""
        rows = int(self.shape[0] * 2.0**doubling)
        return plan_workload((rows, self.shape[1]), self.chunks, self.k, self.memory)


def run_simulation(case: Case, constants: Constants, cluster: Cluster) -> dict[str, Any]:
    """The estimate for the case, its limits, and the size at which each is exceeded first."""
    works = {doubling: case.workload(doubling) for doubling in {0, *case.doublings}}
    work, estimate = works[0], simulate(works[0], constants, cluster)
    sweep = [_shares(works[doubling], constants, cluster) for doubling in case.doublings]
    found = limits(estimate, cluster)
    return {
        "case": asdict(case),
        "cluster": asdict(cluster),
        "constants": asdict(constants),
        "workload": asdict(work),
        "estimate": asdict(estimate),
        "limits": [
            asdict(limit) | {"share": limit.share, "breaks_at_bytes": _breaks(limit, sweep)}
            for limit in found
        ],
        "sweep": sweep,
    }


def _shares(work: Workload, constants: Constants, cluster: Cluster) -> dict[str, Any]:
    found = limits(simulate(work, constants, cluster), cluster)
    return {"data_bytes": work.data_bytes, "shares": {limit.name: limit.share for limit in found}}


def _breaks(limit: Limit, sweep: Sequence[dict[str, Any]]) -> float | None:
    """The smallest size of the sweep at which the limit is exceeded; None where it never is."""
    return next((point["data_bytes"] for point in sweep if point["shares"][limit.name] >= 1), None)
