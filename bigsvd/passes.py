"""Runs one pass: every panel of the streamed matrix B through one kernel, as Dask lanes.

Lanes with a record in scratch are skipped, and partial sums are combined in a tree over the lanes' order, so
the same plan gives the same bits on any number of workers, resumed or not.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from dask import config
from distributed import Client, LocalCluster, wait
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from distributed.utils import LoopRunner, sync

from bigsvd.cache import close_cache, turns_of
from bigsvd.census import Moments
from bigsvd.counters import Counters
from bigsvd.device import RESOURCE, Device
from bigsvd.errors import NoWorkersError, travels
from bigsvd.events import BytesRead, PassEnded, PassStarted, Progress, event_from_dict
from bigsvd.lanes import PARTS, Lane, PassSpec, lane_folder, run_lane
from bigsvd.monitor import ProcessMemory
from bigsvd.planning import Plan
from bigsvd.scratch import Scratch
from bigsvd.second_opinion import Opinion
from bigsvd.sources.base import ELSEWHERE, Rectangle, Source

_WORKER_WAIT_SECONDS = 60
_TASK_WAIT_SECONDS = 0.02
_STRANDED_SECONDS = 5  # without a lane that ends, after which lanes are looked after
_LAST_WAIT_SECONDS = 0.02  # longer than any stream of Dask waits before it sends
_ROUNDED_DOWN = 1 - 1e-9  # of the resource, so that all shares fit in it
_MUCH_TO_SEND_BYTES = 2**20
PARTS_A_SUM = 16  # the most partial sums that are added one after the other


@dataclass(frozen=True)
class Context:
    """Where a run happens: everything that passes need besides what they compute.

    Attributes:
        token: names the run's panel caches in its workers.
        homes: the worker that ran a lane, by (of the sample, index), and so has its panels in its cache.
        parts: what a lane needs of a source that is sent to other processes, where its workers have it.
        memory: what processes that ran lanes were seen to hold, by process.

    """

    client: Client
    plan: Plan
    source: Source
    scratch: Scratch
    device: Device
    progress: Progress
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    homes: dict[tuple[bool, int], str] = field(default_factory=dict)
    parts: dict[tuple[bool, int], Part] = field(default_factory=dict)
    memory: dict[str, ProcessMemory] = field(default_factory=dict)

    def note_memory(self, seen: ProcessMemory) -> None:
        """Take in what a process was seen to hold; the latest look at it knows all that was seen before."""
        self.memory[seen.process] = seen


@dataclass(frozen=True)
class PassResult:
    """Sums in lane order and what the pass cost; `seconds` is wall time of this run's part.

    `resumed`: some of it was read back from scratch; `checked`: it compared checksums with the first pass.
    """

    sums: dict[str, np.ndarray]
    moments: Moments
    opinion: Opinion
    checksums: list[int]
    counters: Counters
    seconds: float
    resumed: bool
    checked: bool


def reachable(source: Source, client: Client) -> Source:
    """The source as the cluster's workers can read it; `SourceError` where they cannot.

    Lanes of workers that are threads of this process wait in them for what a graph has persisted. It is
    awaited here first: such a wait could hold the very thread that is to compute it.
    """
    if not str(client.scheduler.address).startswith("inproc://"):
        return source.sent()
    if source.awaited:
        wait(source.awaited)
    return source


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
def local_client(threads: int, resources: dict[str, float] | None = None) -> Iterator[Client]:
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
                resources=resources,
            )
        ending.callback(cluster.close)
        yield ending.enter_context(Client(cluster))


def resources_of(plan: Plan) -> dict[str, float]:
    """What a worker must offer to be given lanes of this plan."""
    return {RESOURCE: 1} if plan.apart else {}


def run_pass(context: Context, spec: PassSpec) -> PassResult:
    """Stream B once through `spec.kernel`; a pass that scratch records as done is only read back.

    Raises: what a lane raises, such as `ChunkCorruptError`; `SourceChangedError`; `NoWorkersError`.
    """
    scratch = context.scratch
    done = scratch.recorded(f"{spec.name}/done")
    if done is not None:
        known = {name: scratch.read(f"{spec.name}/{name}") for name in done["sums"]}
        moments, opinion = Moments.from_dict(done["moments"]), Opinion.from_dict(done["opinion"])
        counters = Counters(**done["counters"])
        return PassResult(
            known, moments, opinion, done["checksums"], counters, done["seconds"], resumed=True, checked=False
        )
    start = time.perf_counter()
    reports, resumed = _run_lanes(context, spec)
    sums = _combine(context, spec, reports)
    moments, opinion = Moments(), Opinion.nothing(spec.witnesses)
    for report in reports:
        moments.add(Moments.from_dict(report["moments"]))
        opinion = opinion.merged(Opinion.from_dict(report["opinion"]))
    checksums = [crc for report in reports for crc in report["checksums"]]
    counters = Counters.total(Counters(**report["counters"]) for report in reports)
    seconds = time.perf_counter() - start
    for name, values in sums.items():
        scratch.write(f"{spec.name}/{name}", values)
    learned = {"moments": moments.to_dict(), "opinion": opinion.to_dict()}
    costs = {"checksums": checksums, "counters": counters.to_dict(), "seconds": seconds}
    scratch.record(f"{spec.name}/done", {"sums": sorted(sums), **learned, **costs})
    scratch.remove(f"{spec.name}/{PARTS}")
    return PassResult(
        sums,
        moments,
        opinion,
        checksums,
        counters,
        seconds,
        resumed=resumed > 0,
        checked=spec.checksums is not None,
    )


def _combine(context: Context, spec: PassSpec, reports: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The sums over all lanes, in a tree: workers add neighbours until few enough are left to add here."""
    scratch, names = context.scratch, tuple(reports[0]["sums"])
    parts = [lane_folder(spec.name, index) for index in range(len(reports))]
    level = 0
    while names and len(parts) > PARTS_A_SUM:
        groups = [tuple(parts[i : i + PARTS_A_SUM]) for i in range(0, len(parts), PARTS_A_SUM)]
        parts = [f"{spec.name}/{PARTS}/sum-{level}-{index:05d}" for index in range(len(groups))]
        adding = partial(add_parts, scratch, names, (context.token, context.plan.threads))
        _run_tasks(context.client, adding, groups, parts)
        level += 1
    return {name: _total(scratch, name, tuple(parts)) for name in names}


def _run_tasks(client: Client, function: Callable[..., None], *arguments: list[Any]) -> None:
    """One task for each of the arguments; after an error none of them runs any more."""
    await_workers(client)
    topic = f"bigsvd-{uuid.uuid4()}"
    keys = [f"{topic}-{index:05d}" for index in range(len(arguments[0]))]
    futures = client.map(function, *arguments, key=keys, pure=False)
    try:
        with cluster_errors():
            client.gather(futures)
    except NoWorkersError:
        raise
    except BaseException:
        client.cancel(futures)
        _await_tasks(client, topic)
        raise


@travels
def add_parts(
    scratch: Scratch, names: tuple[str, ...], turns: tuple[str, int], parts: tuple[str, ...], to: str
) -> None:
    """In a worker: leave the sums over some `parts` in scratch, unless they are there, and free the parts.

    A part that is no longer there when all have been read was freed by another who left the sums meanwhile:
    Dask gives a task of a worker that seems lost to a second one.
    """
    if not scratch.current:
        raise NoWorkersError("the run of this sum has ended", "nothing is to be done")
    with turns_of(*turns):
        if scratch.recorded(f"{to}/done") is None:
            sums = {name: _total(scratch, name, parts) for name in names}
            if not all(scratch.has(f"{part}/{name}") for part in parts for name in names):
                return
            for name, values in sums.items():
                scratch.write(f"{to}/{name}", values)
            scratch.record(f"{to}/done", {})
    for part in parts:
        for name in names:
            scratch.remove(f"{part}/{name}")


def _total(scratch: Scratch, name: str, parts: tuple[str, ...]) -> np.ndarray:
    """The sum of an array over the parts, in their order."""
    total = scratch.read(f"{parts[0]}/{name}")
    for part in parts[1:]:
        with np.errstate(over="ignore", invalid="ignore"):  # a pass that overflows is repeated, prescaled
            total += scratch.read(f"{part}/{name}")
    return total


def _run_lanes(context: Context, spec: PassSpec) -> tuple[list[dict[str, Any]], int]:
    client, plan, scratch, progress = context.client, context.plan, context.scratch, context.progress
    known = scratch.recorded(spec.checksums) if spec.checksums else None
    reports: dict[int, dict[str, Any]] = {}
    waiting: list[Lane] = []
    topic = f"bigsvd-{uuid.uuid4()}"
    lanes = plan.sample_lanes() if spec.sample else tuple(tuple(range(*lane)) for lane in plan.lanes)
    own = replace(plan, lanes=(), sample=())  # a lane has its own; all of them in each task would add up
    for index, panels in enumerate(lanes):
        report = scratch.recorded(f"{lane_folder(spec.name, index)}/done")
        if report is not None:
            reports[index] = report
            continue
        crcs = tuple(known["checksums"][panel] for panel in panels) if known else None
        waiting.append(
            Lane(
                index, panels, context.token, spec, own, context.source, scratch, context.device, crcs, topic
            )
        )
    resumed = len(reports)
    total = plan.bytes_per_pass if not spec.sample else int(plan.bytes_per_pass * plan.sample_share)
    progress(PassStarted(spec.name, total, spec.sample, len(reports)))
    for report in reports.values():
        progress(BytesRead(Counters(**report["counters"]).streamed_bytes))
    await_workers(client)
    client.subscribe_topic(topic, lambda told: progress(event_from_dict(told[1]["event"])))
    futures: dict[Any, Lane] = {}
    try:
        futures |= {_submit(context, lane): lane for lane in waiting}
        while futures:
            for future in _some_done(futures):
                lane = futures.pop(future)
                with cluster_errors():
                    reports[lane.index] = future.result()
                context.homes[spec.sample, lane.index] = reports[lane.index]["worker"]
                context.note_memory(ProcessMemory(**reports[lane.index]["memory"]))
            for future in _stranded(context, futures):
                lane = futures.pop(future)
                client.cancel([future])
                del context.homes[spec.sample, lane.index]
                futures[_submit(context, lane)] = lane
    except NoWorkersError:
        raise
    except BaseException:
        client.cancel(list(futures))
        client.run(close_cache, context.token)  # those under way stop at their next panel
        _await_tasks(client, topic)
        raise
    finally:
        client.unsubscribe_topic(topic)
    progress(PassEnded(spec.name, total, spec.sample))
    return [reports[index] for index in range(len(lanes))], resumed


def _submit(context: Context, lane: Lane) -> Any:
    """The lane as a task, on the worker that had it in the pass before.

    On another if that one is busy; but of workers that offer a GPU on no other: Dask lets those that have
    nothing to do take a task that may go anywhere, whether they offer what it needs or not.
    """
    home = context.homes.get((lane.spec.sample, lane.index))
    where: dict[str, Any] = {"workers": [home]} if home else {}
    if context.device.apart:  # as many lanes at a time as the plan has, on a worker that offers 1
        where["resources"] = {RESOURCE: _ROUNDED_DOWN / context.plan.threads}
    else:
        where["allow_other_workers"] = home is not None
    key = f"{lane.topic}-{lane.index:05d}-{uuid.uuid4()}"
    part = _part(context, lane)
    if part.source is context.source:
        return context.client.submit(run_lane, lane, key=key, pure=False, **where)
    bare = replace(lane, source=ELSEWHERE)
    return context.client.submit(
        with_source, run_lane_on, part.source, part.values, bare, key=key, pure=False, **where
    )


def _part(context: Context, lane: Lane) -> Part:
    """What a lane needs of the source; made once a run, so that data are not sent again in each pass."""
    where = lane.spec.sample, lane.index
    if where not in context.parts:
        plan = context.plan
        rectangles = [(slice(*plan.panel(panel)), slice(0, plan.cols)) for panel in lane.panels]
        if plan.transposed:
            rectangles = [(cols, rows) for rows, cols in rectangles]
        context.parts[where] = sent_part(context.client, context.source, rectangles)
    return context.parts[where]


def run_lane_on(source: Source, lane: Lane) -> dict[str, Any]:
    """In a worker: a lane whose source was sent apart from it."""
    return run_lane(replace(lane, source=source))


@dataclass(frozen=True)
class Part:
    """What some rectangles need of a source, for `with_source`.

    Attributes:
        source: the part, or a future of one that a worker was given because it carries much.
        values: futures of what a client holds that the part needs.

    """

    source: Any
    values: dict[Any, Any]


def sent_part(client: Client, source: Source, rectangles: list[Rectangle]) -> Part:
    """What these rectangles need of a source, so that no data go through the scheduler."""
    part = source.part(rectangles)
    much = part.carried_bytes > _MUCH_TO_SEND_BYTES
    return Part(client.scatter(part, hash=False) if much else part, source.persisted(rectangles))


def with_source(function: Callable[..., Any], source: Source, values: dict[Any, Any], *rest: Any) -> Any:
    """In a worker: a function of a source of which a part was sent."""
    return function(source.given(values) if values else source, *rest)


def _some_done(futures: Iterable[Any]) -> set[Any]:
    """Those that have ended, once one has; none if none has for a while."""
    try:
        with cluster_errors():
            done: set[Any] = wait(list(futures), _STRANDED_SECONDS, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return set()
    return done


def _stranded(context: Context, futures: dict[Any, Lane]) -> list[Any]:
    """Lanes of a GPU that wait for a worker that is gone."""
    if not context.device.apart:
        return []
    there = workers_of(context.client)
    homes = {future: context.homes.get((lane.spec.sample, lane.index)) for future, lane in futures.items()}
    return [future for future, home in homes.items() if home is not None and home not in there]


@contextmanager
def panels_kept(context: Context) -> Iterator[None]:
    """While this lasts, the run's workers keep panels between passes; then they free them."""
    try:
        yield
    finally:
        with suppress(Exception):  # a cluster that is gone has freed them
            for seen in context.client.run(close_cache, context.token).values():
                if seen is not None:
                    context.note_memory(seen)


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Turn what Dask raises for lost workers or a lost scheduler into `NoWorkersError`."""
    try:
        yield
    except (KilledWorker, CancelledError, CommClosedError) as error:
        raise NoWorkersError(
            f"the cluster lost its workers or its scheduler ({type(error).__name__}: {error})",
            "start them again and run the same command to resume",
        ) from error


def _await_tasks(client: Client, topic: str) -> None:
    """Wait until no worker runs a task of that topic; cancelling stops only those that have not begun."""
    while any(client.run(_runs, topic).values()):
        time.sleep(_TASK_WAIT_SECONDS)


def _runs(topic: str, dask_worker: Any) -> bool:
    """In a worker: whether it runs a task of that topic."""
    return any(str(key).startswith(topic) for key in dask_worker.active_keys)


def workers_of(client: Client) -> dict[str, dict[str, Any]]:
    """What the scheduler knows of each worker, by address.

    The scheduler itself is asked: what `Client.scheduler_info` returns may by then be a newer answer without
    any worker, because the client asks for one in the background every two seconds.
    """
    workers: dict[str, dict[str, Any]] = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return workers


def await_workers(client: Client) -> None:
    """Wait for a first worker; `NoWorkersError` after a minute."""
    try:
        client.wait_for_workers(1, timeout=_WORKER_WAIT_SECONDS)
    except TimeoutError as error:
        raise NoWorkersError(
            f"0 workers after {_WORKER_WAIT_SECONDS} s where at least 1 is needed",
            "start workers and run again",
        ) from error
