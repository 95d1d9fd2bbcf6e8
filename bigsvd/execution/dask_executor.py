"""Tasks on a Dask cluster: the executor of whoever has one, and the cluster that Dask's own methods bring."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import psutil
from dask import config
from distributed import Client, LocalCluster, get_worker, wait
from distributed.utils import LoopRunner, sync

from bigsvd.devices.base import RESOURCE
from bigsvd.errors import DeviceError, NoWorkersError
from bigsvd.events import Event, Progress, event_from_dict, unheard
from bigsvd.execution.cluster import await_workers, cluster_errors, workers_of
from bigsvd.execution.executor import NOTHING, Call, Executor, SourcePart, Take, in_task
from bigsvd.machine.offers import (
    DeviceOffer,
    Offer,
    best_first,
    device_here,
    offer_of,
    on_cpu,
    rough_dtypes_here,
)
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.sources.base import Rectangle, Source

_BUDGET_SHARE = 0.6  # of the memory that a worker may hold, unless a run is told; Dask itself needs the rest
_TASK_WAIT_SECONDS = 0.05
_QUIET_LOOKS = 2
_ENDED = ("memory", "error", "released", "forgotten")  # states of Dask's tasks that nobody runs
_STRANDED_SECONDS = 5  # without a call that ends, after which it is looked after whether their workers live
_LAST_WAIT_SECONDS = 0.02  # longer than any stream of Dask waits before it sends
_MUCH_TO_SEND_BYTES = 2**20


class DaskExecutor:
    """The workers of a Dask cluster, through the client of whoever owns it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def machines(self, request: Request) -> list[Offer]:
        """The smallest of those workers that have the device."""
        await_workers(self._client)
        workers = workers_of(self._client)
        found = best_first(request, _device_of_workers(request, workers, self._client))
        rough = _rough_dtypes(request, self._client)
        return [_smallest(request, workers, device, rough) for device in found]

    def reach(self, source: Source) -> Source:
        """See `Executor.reach`.

        Lanes of workers that are threads of this process wait in them for what a graph has persisted. It is
        awaited here first: such a wait could hold the very thread that is to compute it.
        """
        if not str(self._client.scheduler.address).startswith("inproc://"):
            return source.sent()
        if source.awaited:
            wait(source.awaited)
        return source

    def for_run(self, plan: Plan) -> AbstractContextManager[Executor]:
        """The same workers, whatever the plan."""
        del plan
        return nullcontext(self)

    def carry_out(
        self, calls: Sequence[Call], take: Take, tell: Progress = unheard, stop: Call = NOTHING
    ) -> None:
        """See `Executor.carry_out`; a call goes to its home, or to another worker if that one is busy."""
        client, topic, calls = self._client, f"bigsvd-{uuid.uuid4()}", list(calls)
        await_workers(client)
        raised: list[Exception] = []

        def hear(told: Any) -> None:
            """In Dask's own thread, where what a listener raises would only be logged."""
            try:
                tell(event_from_dict(told[1]["event"]))
            except Exception as error:  # noqa: BLE001 - raised again by the caller's thread
                raised.append(error)

        client.subscribe_topic(topic, hear)
        futures: dict[Any, int] = {}
        try:
            futures |= {self._submit(topic, call): number for number, call in enumerate(calls)}
            while futures:
                for future in _some_done(futures):
                    number = futures.pop(future)
                    with cluster_errors():
                        result = future.result()
                    take(number, result)
                if raised:
                    raise raised[0]
                for future in self._stranded(futures, calls):
                    number = futures.pop(future)
                    client.cancel([future])
                    calls[number] = replace(calls[number], home="")
                    futures[self._submit(topic, calls[number])] = number
        except NoWorkersError:
            raise
        except BaseException:
            client.cancel(list(futures))
            self.everywhere(stop.function, *stop.arguments)
            _await_tasks(client, topic)
            raise
        finally:
            client.unsubscribe_topic(topic)

    def _submit(self, topic: str, call: Call) -> Any:
        """A call as a task of Dask's.

        One that needs a GPU goes to no other worker than its home: Dask lets those that have nothing to do
        take a task that may go anywhere, whether they offer what it needs or not.
        """
        where: dict[str, Any] = {"workers": [call.home]} if call.home else {}
        if call.device_share:
            where["resources"] = {RESOURCE: call.device_share}
        else:
            where["allow_other_workers"] = bool(where)
        key = f"{topic}-{uuid.uuid4()}"
        return self._client.submit(
            _made_in_worker, topic, call.function, *call.arguments, key=key, pure=False, **where
        )

    def _stranded(self, futures: dict[Any, int], calls: Sequence[Call]) -> list[Any]:
        """Calls that may go to one worker only, which is gone."""
        bound = {
            future: calls[number].home
            for future, number in futures.items()
            if calls[number].device_share and calls[number].home
        }
        if not bound:
            return []
        there = workers_of(self._client)
        return [future for future, home in bound.items() if home not in there]

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See `Executor.everywhere`."""
        return list(self._client.run(function, *arguments).values())

    def part(self, source: Source, rectangles: list[Rectangle]) -> SourcePart:
        """See `Executor.part`: no data go through the scheduler.

        The source is a future of one that a worker was given where it carries much; values are futures of
        what a client holds.
        """
        part = source.part(rectangles)
        much = part.carried_bytes > _MUCH_TO_SEND_BYTES
        sent = self._client.scatter(part, hash=False) if much else part
        return SourcePart(sent, source.persisted(rectangles))

    @contextmanager
    def dask_client(self) -> Iterator[Client]:
        """The cluster's own client."""
        yield self._client


def _made_in_worker(topic: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """A call, in a worker; what it announces goes to the topic, in a dictionary to which Dask adds a name."""
    worker = get_worker()

    def tell(event: Event) -> None:
        worker.log_event(topic, {"event": event.to_dict()})

    with in_task(worker.address, tell):
        return function(*arguments)


@contextmanager
def _event_loop() -> Iterator[Any]:
    """Dask's event loop for a cluster and its client, which ends some time after both.

    As they close, Dask's streams wait for up to 10 ms to send what they have. Where the loop ends just when
    such a wait does, nobody learns of it, and asyncio prints "Future exception was never retrieved". Timers
    of a loop fire in their order: those of what is closed before one that begins later and is longer.
    """
    runner = LoopRunner()
    runner.start()
    try:
        yield runner.loop
    finally:
        sync(runner.loop, asyncio.sleep, _LAST_WAIT_SECONDS)
        runner.stop()


@contextmanager
def local_client(threads: int, *, gpus: int = 0) -> Iterator[Client]:
    """A Dask cluster embedded in this process: one worker with `threads` threads, no dashboard."""
    alone = {
        "distributed.worker.profile.enabled": False,  # else it looks at all stacks every 10 ms
        "distributed.worker.use-file-locking": False,  # of folders that it shares with no other worker
    }
    with ExitStack() as ending:
        loop = ending.enter_context(_event_loop())
        with config.set(alone):
            cluster = LocalCluster(
                loop=loop,
                n_workers=1,
                threads_per_worker=threads,
                processes=False,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else each wants port 8787, and warns
                memory_limit=0,
                resources={RESOURCE: gpus},
            )
        ending.callback(cluster.close)
        yield ending.enter_context(Client(cluster))


def _some_done(futures: Iterable[Any]) -> set[Any]:
    """Those that have ended, once one has; none if none has for a while."""
    try:
        with cluster_errors():
            done: set[Any] = wait(list(futures), _STRANDED_SECONDS, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return set()
    return done


def _await_tasks(client: Client, topic: str) -> None:
    """Wait until no worker runs a task of that topic, or will; cancelling stops only those not yet begun.

    A worker hears of it some time after the scheduler, from which a task may be on the way too: none is left
    where two looks find none.
    """
    quiet = 0
    while quiet < _QUIET_LOOKS:
        time.sleep(_TASK_WAIT_SECONDS)
        quiet += 1
        if any(client.run(_has, topic).values()):
            quiet = 0


def _has(topic: str, dask_worker: Any) -> bool:
    """In a worker: whether it runs a task of that topic, or is to."""
    tasks = dask_worker.state.tasks.items()
    return any(str(key).startswith(topic) and task.state not in _ENDED for key, task in tasks)


def _rough_dtypes(request: Request, client: Client) -> tuple[str, ...]:
    """Those that every worker has; they are asked only where it matters."""
    if request.precision == "float32":
        return ()
    first, *others = client.run(rough_dtypes_here).values()
    return tuple(dtype for dtype in first if all(dtype in other for other in others))


def _smallest(
    request: Request, workers: dict[str, Any], found: DeviceOffer, rough_dtypes: tuple[str, ...]
) -> Offer:
    """What each worker that has the device can give."""
    having = [worker for worker in workers.values() if _offers_gpu(worker) or not found.device.has_own_memory]
    threads = min(worker["nthreads"] for worker in having)
    share = min(worker["memory_limit"] or psutil.virtual_memory().total for worker in having)
    budget_bytes = request.memory or int(share * _BUDGET_SHARE)
    return offer_of(request, budget_bytes, threads, found, rough_dtypes)


def _offers_gpu(worker: dict[str, Any]) -> bool:
    return bool((worker.get("resources") or {}).get(RESOURCE, 0) >= 1)


def _device_of_workers(request: Request, workers: dict[str, Any], client: Client) -> DeviceOffer:
    """The device of those workers that offer one, with the least memory that one of them has of it."""
    if request.device == "cpu":
        return on_cpu("asked for")
    offering = [name for name, worker in workers.items() if _offers_gpu(worker)]
    by_dask = request.by_dask
    if not offering or (by_dask and len(offering) < len(workers)):
        which = "no worker offers" if not offering else f"for {request.method} not every worker offers"
        reason = f"{which} the resource {RESOURCE}=1"
        cure = f"start those that have a GPU with `dask worker --resources {RESOURCE}=1`, or use 'cpu'"
        return _without_gpu(request, reason, DeviceError(f"device='gpu' but {reason}", cure))
    if by_dask and not device_here("auto").device.has_own_memory:
        reason = f"{request.method} needs CuPy and a GPU in this process too, which builds Dask's graph"
        cure = "run it on a machine with a GPU, or use 'cpu'"
        return _without_gpu(request, reason, DeviceError(reason, cure))
    offers: list[DeviceOffer] = list(client.run(device_here, request.device, workers=offering).values())
    without = next((offer for offer in offers if not offer.device.has_own_memory), None)
    if without is not None:
        return without
    sharers = Counter(offer.identity for offer in offers)
    least = min(offer.free_bytes // sharers[offer.identity] for offer in offers)
    return replace(offers[0], free_bytes=least)


def _without_gpu(request: Request, reason: str, refusal: DeviceError) -> DeviceOffer:
    """The cores instead of a GPU, unless that was asked for."""
    if request.device == "gpu":
        raise refusal
    return on_cpu(reason)
