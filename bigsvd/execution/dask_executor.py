"""Tasks on a Dask cluster: the executor of whoever has one, and the cluster that Dask's own methods bring."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from dask import config
from distributed import Client, LocalCluster, wait
from distributed.utils import LoopRunner, sync

from bigsvd.devices.base import RESOURCE
from bigsvd.errors import DeviceError, NoWorkersError
from bigsvd.events import Event, Progress, event_from_dict, unheard
from bigsvd.execution.cluster import (
    Workers,
    await_workers,
    cluster_errors,
    prompt_answer,
    worker_share_bytes,
    workers_of,
)
from bigsvd.execution.executor import NOTHING, Call, Executor, SourcePart, Take
from bigsvd.execution.sent import Sent
from bigsvd.execution.tasks import Tasks, offers_gpu
from bigsvd.execution.watch import PATIENCE, Patience, Watch
from bigsvd.machine.offers import (
    DeviceOffer,
    Offer,
    best_first,
    device_here,
    offer_of,
    on_cpu,
    rough_dtypes_here,
)
from bigsvd.machine.software import check_versions, versions_asked
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.sources.base import Rectangle, Source

_LAST_WAIT_SECONDS = 0.02  # longer than any stream of Dask waits before it sends
_MUCH_TO_SEND_BYTES = 2**20
_PAGES = "127.0.0.1:0"  # of a cluster in this process: any free port, for nobody else


class DaskExecutor:
    """The workers of a Dask cluster, through the client of whoever owns it. A context manager.

    `patience`: how long a call may be silent before another worker has it too.
    """

    def __init__(self, client: Client, patience: Patience = PATIENCE) -> None:
        self._client = client
        self._patience = patience
        self._workers = Workers(client)
        self._topic = f"bigsvd-{uuid.uuid4().hex}"
        self._hearing = False
        self._hear: Callable[[str, str, Event | None], None] = _unheard

    def __enter__(self) -> DaskExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._hearing:
            with suppress(NoWorkersError), cluster_errors():  # a connection that has ended takes it along
                self._client.unsubscribe_topic(self._topic)
                prompt_answer(self._client, self._client.run_on_scheduler, _forgetter(), self._topic)

    def check_versions(self) -> None:
        """`VersionsError` where a worker that answers computes with other versions than this process."""
        await_workers(self._client)
        check_versions(versions_asked()(), self._workers.ask(versions_asked()))

    def machines(self, request: Request) -> list[Offer]:
        """The smallest of those workers that have the device."""
        await_workers(self._client)
        workers = workers_of(self._client)
        found = best_first(request, _device_of_workers(request, workers, self._workers))
        rough = _rough_dtypes(request, self._workers)
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

    @contextmanager
    def for_run(self, plan: Plan) -> Iterator[Executor]:
        """The same workers, which may be silent for longer where the plan's lanes take long."""
        before = self._patience
        longest = max(plan.pass_seconds.first, plan.pass_seconds.whole)
        self._patience = replace(before, lane_seconds=longest * plan.threads / len(plan.lanes))
        try:
            yield self
        finally:
            self._patience = before

    def carry_out(
        self, calls: Sequence[Call], take: Take, tell: Progress = unheard, stop: Call = NOTHING
    ) -> None:
        """See `Executor.carry_out`.

        A call goes to its home, or to another worker if that one is busy; and to another one too where
        nothing has been heard of it for long. Then the first that ends counts.
        """
        await_workers(self._client)
        watch = Watch(tell, self._patience)
        tasks = Tasks(self._client, self._workers, self._topic, calls, watch)
        raised = self._listen(watch)
        try:
            tasks.send()
            while tasks.waiting:
                for number, result in tasks.ended():
                    take(number, result)
                if raised:
                    raise raised[0]
                tasks.look_after()
        except NoWorkersError:
            raise
        except BaseException:
            with suppress(NoWorkersError):  # where these are lost too, the error that came first tells more
                tasks.cancel()
                self.everywhere(stop.function, *stop.arguments)
                tasks.await_end()
            raise
        finally:
            self._hear = _unheard

    def _listen(self, watch: Watch) -> list[Exception]:
        """Let a watch hear of the tasks of a round; what listeners raise will be in the list.

        Dask keeps topics for ever: there is one for all rounds. It is asked for in each of
        them, since a scheduler that has lost its client, or was started anew, tells it nothing more.
        """
        raised: list[Exception] = []

        def hear(key: str, worker: str, event: Event | None) -> None:
            """In Dask's own thread, where what a listener raises would only be logged."""
            try:
                watch.heard(key, worker, event)
            except Exception as error:  # noqa: BLE001 - raised again by the caller's thread
                raised.append(error)

        self._hear = hear
        with cluster_errors():
            self._client.subscribe_topic(self._topic, self._told)
        self._hearing = True
        return raised

    def _told(self, told: Any) -> None:
        """A message of the topic: when, and what."""
        _, said = told
        event = said["event"] and event_from_dict(said["event"])
        self._hear(said["task"], said["worker"], event)

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See `Executor.everywhere`; workers that do not answer are left out."""
        return list(self._workers.ask(function, *arguments).values())

    def part(self, source: Source, rectangles: list[Rectangle]) -> SourcePart:
        """See `Executor.part`: no data go through the scheduler.

        The source is one that a worker will be given where it carries much; values are futures of what a
        client holds.
        """
        part = source.part(rectangles)
        much = part.carried_bytes > _MUCH_TO_SEND_BYTES
        return SourcePart(Sent(part) if much else part, source.persisted(rectangles))

    @contextmanager
    def dask_client(self) -> Iterator[Client]:
        """The cluster's own client."""
        yield self._client


def _forgetter() -> Callable[..., None]:
    """What has the scheduler, which need not have bigsvd, forget all that a topic was told.

    It would keep the last thousand messages of every run.
    """

    def forget(topic: str, dask_scheduler: Any) -> None:
        broker = getattr(dask_scheduler, "_broker", None)
        if broker is not None:
            broker.truncate(topic)

    return forget


def _unheard(key: str, worker: str, event: Event | None) -> None:
    """What is told between two rounds."""
    del key, worker, event


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
        "distributed.admin.tick.interval": "1s",  # else scheduler and worker both wake up every 20 ms
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
                scheduler_kwargs={"dashboard_address": _PAGES},  # else each wants port 8787, and warns
                worker_dashboard_address=_PAGES,  # else everyone in the network can read it
                memory_limit=0,
                resources={RESOURCE: gpus},
            )
        ending.callback(cluster.close)
        yield ending.enter_context(Client(cluster))


def _rough_dtypes(request: Request, workers: Workers) -> tuple[str, ...]:
    """Those that every worker has that answers; they are asked only where it matters."""
    if request.precision == "float32":
        return ()
    first, *others = workers.ask_some(rough_dtypes_here)
    return tuple(dtype for dtype in first if all(dtype in other for other in others))


def _smallest(
    request: Request, workers: dict[str, Any], found: DeviceOffer, rough_dtypes: tuple[str, ...]
) -> Offer:
    """What each worker that has the device can give."""
    own = found.device.has_own_memory
    having = {name: worker for name, worker in workers.items() if offers_gpu(worker) or not own}
    threads = min(worker["nthreads"] for worker in having.values())
    budget_bytes = request.memory or worker_share_bytes(having)
    return offer_of(request, budget_bytes, threads, found, rough_dtypes)


def _device_of_workers(request: Request, workers: dict[str, Any], asked: Workers) -> DeviceOffer:
    """The device of those workers that offer one, with the least memory that one of them has of it."""
    if request.device == "cpu":
        return on_cpu("asked for")
    offering = [name for name, worker in workers.items() if offers_gpu(worker)]
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
    offers: list[DeviceOffer] = asked.ask_some(device_here, request.device, only=offering)
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
