"""Where a run is placed: the memory, cores and device of this machine, or of a cluster's workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import psutil
from dask.system import cpu_count
from distributed import Client

from bigsvd.catalog.table import runs_on_dask
from bigsvd.dask_executor import DaskExecutor, await_workers, local_client, workers_of
from bigsvd.device import RESOURCE, CpuDevice, Device, choose_device
from bigsvd.errors import DeviceError, MemoryBudgetError, travels
from bigsvd.executor import Executor
from bigsvd.facts import Machine, SourceFacts
from bigsvd.monitor import available_memory
from bigsvd.planning.plan import Plan
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request
from bigsvd.threads import ThreadExecutor

# Of what is free, or of what a worker may hold, unless a run is told; the rest is for others and for growth.
_HOST_SHARE = 0.5
_WORKER_SHARE = 0.6
_DEVICE_SHARE = 0.8
_LANES_ON_DEVICE = 4  # at a time: while one waits for its products or its disk, others go on


@dataclass(frozen=True)
class Offer:
    """A device that a worker has, why that, its free bytes, and what tells it from other devices."""

    device: Device
    reason: str
    free_bytes: int
    identity: str


def place(request: Request, facts: SourceFacts, client: Client | None = None) -> tuple[Machine, Device]:
    """What this machine or the smallest worker of a cluster allows, and the device there.

    With ``device="auto"`` a GPU on which nothing fits is not taken.
    """
    machine, device = _here(request) if client is None else _there(request, client)
    if machine.apart and request.device == "auto":
        try:
            make_plan(request, facts, machine)
        except MemoryBudgetError as error:
            machine, device = place(replace(request, device="cpu"), facts, client)
            machine = replace(machine, device_reason=f"too little memory for a GPU: {error.message}")
    return machine, device


def _here(request: Request) -> tuple[Machine, Device]:
    budget = request.memory or int(_HOST_SHARE * available_memory())
    offer = device_here(request.device)
    return _machine(request, budget, cpu_count(), offer, offer.free_bytes), offer.device


def _machine(request: Request, budget: int, cores: int, offer: Offer, free_bytes: int) -> Machine:
    """A device apart has few lanes, whose products follow each other, and the cores read for them."""
    device = offer.device
    if not device.apart:
        return Machine(budget, cores, device.name, offer.reason)
    lanes = min(cores, _LANES_ON_DEVICE)
    granted = min(request.device_memory or int(_DEVICE_SHARE * free_bytes), free_bytes)
    return Machine(
        budget, lanes, device.name, offer.reason, True, granted, free_bytes, readers=cores // lanes
    )


def _there(request: Request, client: Client) -> tuple[Machine, Device]:
    await_workers(client)
    workers = workers_of(client)
    offer, free_bytes = _offered(request, workers, client)
    if offer.device.apart:
        workers = {name: worker for name, worker in workers.items() if _offers_gpu(worker)}
    threads = min(worker["nthreads"] for worker in workers.values())
    share = min(worker["memory_limit"] or psutil.virtual_memory().total for worker in workers.values())
    budget = request.memory or int(share * _WORKER_SHARE)
    return _machine(request, budget, threads, offer, free_bytes), offer.device


def _offers_gpu(worker: dict[str, Any]) -> bool:
    return bool((worker.get("resources") or {}).get(RESOURCE, 0) >= 1)


def _offered(request: Request, workers: dict[str, Any], client: Client) -> tuple[Offer, int]:
    """The device of those workers that offer one, and the least memory that one of them has of it."""
    if request.device == "cpu":
        return Offer(CpuDevice(), "asked for", 0, ""), 0
    offering = [name for name, worker in workers.items() if _offers_gpu(worker)]
    if not offering or (runs_on_dask(request.method) and len(offering) < len(workers)):
        which = "no worker offers" if not offering else f"for {request.method} not every worker offers"
        if request.device == "gpu":
            raise DeviceError(
                f"device='gpu' but {which} the resource {RESOURCE}=1",
                f"start those that have a GPU with `dask worker --resources {RESOURCE}=1`, or use 'cpu'",
            )
        return Offer(CpuDevice(), f"{which} the resource {RESOURCE}=1", 0, ""), 0
    if runs_on_dask(request.method) and not choose_device("auto")[0].apart:
        reason = f"{request.method} needs CuPy and a GPU in this process too, which builds Dask's graph"
        if request.device == "gpu":
            raise DeviceError(reason, "run it on a machine with a GPU, or use 'cpu'")
        return Offer(CpuDevice(), reason, 0, ""), 0
    offers = list(client.run(device_here, request.device, workers=offering).values())
    without = next((offer for offer in offers if not offer.device.apart), None)
    if without is not None:
        return without, 0
    sharers = Counter(offer.identity for offer in offers)
    return offers[0], min(offer.free_bytes // sharers[offer.identity] for offer in offers)


@travels
def device_here(asked: Literal["auto", "cpu", "gpu"]) -> Offer:
    """The device of this process, which may be a worker's."""
    device, reason = choose_device(asked)
    return Offer(device, reason, device.free_bytes(), device.identity())


@contextmanager
def executor_of(client: Client | None, plan: Plan) -> Iterator[Executor]:
    """The cluster of a client; without one threads of this process, one for each lane at a time.

    Dask's own methods need a cluster. One that is embedded begins before the memory of the run is watched:
    like the interpreter, it is none of the plan's.
    """
    with ExitStack() as ending:
        if client is None and runs_on_dask(plan.method):
            offered = {RESOURCE: 1.0} if plan.apart else {}
            client = ending.enter_context(local_client(plan.threads, offered))
        yield ending.enter_context(ThreadExecutor(plan.threads)) if client is None else DaskExecutor(client)
