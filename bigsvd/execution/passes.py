"""Runs one pass: every panel of the streamed matrix B through its kernels, as lanes.

Lanes with a record in scratch are skipped, and partial sums are combined in a tree over the lanes' order, so
the same plan gives the same bits on any number of workers, resumed or not. Over the sample, which takes few
lanes and is small, sums come back with the lanes and nothing is recorded.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from bigsvd.counters import Counters
from bigsvd.devices.base import Device
from bigsvd.errors import StorageError, travels
from bigsvd.events import BytesRead, PassEnded, PassStarted, Progress
from bigsvd.execution.executor import Call, Executor, SourcePart, results_of, with_source
from bigsvd.execution.lane import run_lane
from bigsvd.execution.panel_cache import close_cache, concurrency_limit
from bigsvd.execution.pass_spec import PARTS, Lane, PassSpec, lane_folder, lane_report
from bigsvd.machine.monitor import ProcessMemory
from bigsvd.planning.plan import Plan
from bigsvd.scratch import Scratch
from bigsvd.slabs.census import Census
from bigsvd.slabs.operator import Findings
from bigsvd.slabs.second_opinion import Opinion
from bigsvd.sources.base import ELSEWHERE, Source

_ROUNDED_DOWN = 1 - 1e-9  # of the resource, so that all shares fit in it
_WORTH_A_SYNC_SECONDS = 5.0  # of a pass: shorter ones are made again after a power cut
PARTS_A_SUM = 16  # the most partial sums that are added one after the other


@dataclass(frozen=True)
class Context:
    """Where a run happens: everything that passes need besides what they compute.

    Attributes:
        source: B, as the plan streams it.
        token: names the run's panel caches in its workers.
        homes: the worker that ran a lane, by (of the sample, index), and so has its panels in its cache.
        parts: what a lane needs of a source that is sent to other processes, where its workers have it.
        memory: what processes that ran lanes were seen to hold, by process.

    """

    executor: Executor
    plan: Plan
    source: Source
    scratch: Scratch
    device: Device
    progress: Progress
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    homes: dict[tuple[bool, int], str] = field(default_factory=dict)
    parts: dict[tuple[bool, int], SourcePart] = field(default_factory=dict)
    memory: dict[str, ProcessMemory] = field(default_factory=dict)

    def note_memory(self, seen: ProcessMemory) -> None:
        """Take in what a process was seen to hold."""
        before = self.memory.get(seen.process, seen)
        self.memory[seen.process] = max(before, seen, key=lambda memory: memory.peak_bytes)


@dataclass(frozen=True)
class PassResult:
    """Sums in lane order and what the pass cost; `seconds` is wall time of this run's part.

    `resumed`: some of it was read back from scratch; `checked`: it compared checksums with the first pass.
    """

    sums: dict[str, np.ndarray]
    census: Census
    opinion: Opinion
    checksums: list[int]
    counters: Counters
    seconds: float
    resumed: bool
    checked: bool


def run_pass(context: Context, spec: PassSpec) -> PassResult:
    """Stream B once through the kernels of `spec`; a pass that scratch records as done is only read back.

    Raises: what a lane raises, such as `ChunkCorruptError`; `SourceChangedError`; `NoWorkersError`.
    """
    if spec.sample:
        return _run_over_sample(context, spec)
    scratch = context.scratch
    done = _whole_record(scratch, spec.name)
    if done is not None:
        _restore_rows(context, spec)
        return _read_back(scratch, spec, done)
    start = time.perf_counter()
    reports, resumed = _run_lanes(context, spec)
    sums = _combine(context, spec, reports)
    result = replace(_result(spec, reports, sums, start), resumed=resumed > 0)
    for name, values in sums.items():
        scratch.write(f"{spec.name}/{name}", values)
    found = Findings(result.census, result.opinion).to_dict()
    counted = result.counters.to_dict()
    costs = {"checksums": result.checksums, "counters": counted, "seconds": result.seconds}
    scratch.record(f"{spec.name}/done", {"sums": sorted(sums), **found, **costs})
    if result.seconds > _WORTH_A_SYNC_SECONDS:
        for name in (*sums, "done"):
            scratch.settle(f"{spec.name}/{name}")
    scratch.remove(f"{spec.name}/{PARTS}")
    return result


def _whole_record(scratch: Scratch, folder: str, names: Iterable[str] | None = None) -> dict[str, Any] | None:
    """What `folder` records as done, if all sums that it names are there, or those with these `names`."""
    done = scratch.recorded(f"{folder}/done")
    if done is None:
        return None
    sums = done["sums"] if names is None else names
    return done if all(scratch.whole(f"{folder}/{name}") for name in sums) else None


def _restore_rows(context: Context, spec: PassSpec) -> None:
    """Have lanes of a pass that is done run again where what they had left along the rows of B is lost."""
    lost = [
        index
        for index, lane in enumerate(_lanes_of(context.plan, spec))
        if not _has_rows(context, spec, lane)
    ]
    if lost:
        context.scratch.remove(f"{spec.name}/{PARTS}")
        _run_lanes(context, spec, lost)
        context.scratch.remove(f"{spec.name}/{PARTS}")


def _has_rows(context: Context, spec: PassSpec, panels: tuple[int, ...]) -> bool:
    """Whether a lane's rows are there of all arrays that have rows of B."""
    rows = slice(context.plan.panel(panels[0])[0], context.plan.panel(panels[-1])[1])
    return all(context.scratch.whole(name, (slice(None),) * axis + (rows,)) for name, axis in spec.rows)


def _run_over_sample(context: Context, spec: PassSpec) -> PassResult:
    """The same over the sample, from lanes that return their sums."""
    start = time.perf_counter()
    reports, _ = _run_lanes(context, spec)
    sums = {name: _added(report["sums"][name] for report in reports) for name in reports[0]["sums"]}
    return _result(spec, reports, sums, start)


def _result(
    spec: PassSpec, reports: list[dict[str, Any]], sums: dict[str, np.ndarray], start: float
) -> PassResult:
    """What lanes have found together, in their order, since the time `start`."""
    found = Findings()
    for report in reports:
        found.add(Findings.from_dict(report))
    return PassResult(
        sums,
        found.census,
        found.opinion,
        [crc for report in reports for crc in report["checksums"]],
        Counters.total(Counters(**report["counters"]) for report in reports),
        time.perf_counter() - start,
        resumed=False,
        checked=spec.checksums is not None,
    )


def _read_back(scratch: Scratch, spec: PassSpec, done: dict[str, Any]) -> PassResult:
    """A pass that was made before, from its record."""
    known = {name: scratch.read(f"{spec.name}/{name}") for name in done["sums"]}
    found, counters = Findings.from_dict(done), Counters(**done["counters"])
    return PassResult(
        known,
        found.census,
        found.opinion,
        done["checksums"],
        counters,
        done["seconds"],
        resumed=True,
        checked=False,
    )


def _combine(context: Context, spec: PassSpec, reports: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The sums over all lanes, in a tree: workers add neighbours until few enough are left to add here."""
    scratch, names = context.scratch, tuple(reports[0]["sums"])
    parts = [lane_folder(spec.name, index) for index in range(len(reports))]
    level = 0
    while names and len(parts) > PARTS_A_SUM:
        groups = [tuple(parts[i : i + PARTS_A_SUM]) for i in range(0, len(parts), PARTS_A_SUM)]
        parts = [_sum_folder(spec.name, level, index) for index in range(len(groups))]
        level += 1
        adding = partial(add_parts, scratch, names, (context.token, context.plan.threads))
        calls = [
            Call(adding, (group, to))
            for index, (group, to) in enumerate(zip(groups, parts, strict=True))
            if not _summed(scratch, _sums_above(spec.name, index, len(parts), level), names)
        ]
        results_of(context.executor, calls)
    return {name: _total(scratch, name, tuple(parts)) for name in names}


def _sum_folder(name: str, level: int, index: int) -> str:
    return f"{name}/{PARTS}/sum-{level}-{index:05d}"


def _sums_above(name: str, index: int, parts: int, level: int = 0) -> Iterator[str]:
    """The sums, from a level on, to which one of so many parts is added: a lane, or a sum below."""
    while parts > PARTS_A_SUM:
        index, parts = index // PARTS_A_SUM, -(-parts // PARTS_A_SUM)
        yield _sum_folder(name, level, index)
        level += 1


def _summed(scratch: Scratch, folders: Iterable[str], names: Iterable[str]) -> bool:
    """Whether one of these has sums of these names, whole."""
    return any(_whole_record(scratch, folder, names) is not None for folder in folders)


@travels
def add_parts(
    scratch: Scratch, names: tuple[str, ...], turns: tuple[str, int], parts: tuple[str, ...], to: str
) -> None:
    """In a worker: leave the sums over some `parts` in scratch, unless they are there, and free the parts.

    Another may have done so meanwhile: Dask gives a task of a worker that seems lost to a second one.
    """
    scratch.check_current()
    with concurrency_limit(*turns):
        if _whole_record(scratch, to, names) is None:
            sums = _sums_unless_freed(scratch, names, parts, to)
            if sums is None:
                return
            for name, values in sums.items():
                scratch.write(f"{to}/{name}", values)
            scratch.record(f"{to}/done", {})
    for part in parts:
        for name in names:
            scratch.remove(f"{part}/{name}")


def _sums_unless_freed(
    scratch: Scratch, names: tuple[str, ...], parts: tuple[str, ...], to: str
) -> dict[str, np.ndarray] | None:
    """The sums over the parts; None where another has left these and freed the parts."""
    try:
        sums = {name: _total(scratch, name, parts) for name in names}
    except StorageError:
        if _whole_record(scratch, to, names) is None:
            raise
        return None
    there = all(scratch.has(f"{part}/{name}") for part in parts for name in names)
    return sums if there else None


def _total(scratch: Scratch, name: str, parts: tuple[str, ...]) -> np.ndarray:
    """The sum of an array over the parts, in their order."""
    return _added(scratch.read(f"{part}/{name}") for part in parts)


def _added(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Their sum, in their order, in the memory of the first."""
    others = iter(parts)
    total = next(others)
    for part in others:
        with np.errstate(over="ignore", invalid="ignore"):  # a pass that overflows is repeated, prescaled
            total += part
    return total


def _lanes_of(plan: Plan, spec: PassSpec) -> tuple[tuple[int, ...], ...]:
    """The panels of each lane."""
    if spec.sample:
        return plan.sample_lanes()
    return tuple(tuple(range(*lane)) for lane in plan.lanes)


def _kept_report(context: Context, spec: PassSpec, index: int, lanes: int) -> dict[str, Any] | None:
    """What a lane that is done has recorded, if all that it has left is there; else that goes too."""
    scratch = context.scratch
    report = lane_report(scratch, spec, index)
    if report is None:
        return None
    folders = [lane_folder(spec.name, index), *_sums_above(spec.name, index, lanes)]
    summed = _summed(scratch, folders, report["sums"])
    if summed and _has_rows(context, spec, _lanes_of(context.plan, spec)[index]):
        return report
    scratch.remove(folders[0])
    return None


def _run_lanes(
    context: Context, spec: PassSpec, only: Iterable[int] = ()
) -> tuple[list[dict[str, Any]], int]:
    """What lanes have recorded, all or `only` some, in their order; and how many were done before."""
    plan, scratch, progress = context.plan, context.scratch, context.progress
    known = scratch.recorded(spec.checksums) if spec.checksums else None
    reports: dict[int, dict[str, Any]] = {}
    waiting: list[Lane] = []
    lanes = dict(enumerate(_lanes_of(plan, spec)))
    wanted = {index: lanes[index] for index in only} or lanes
    own = replace(plan, lanes=(), sample=())  # a lane has its own; all of them in each task would add up
    for index, panels in wanted.items():
        report = _kept_report(context, spec, index, len(lanes))
        if report is not None:
            reports[index] = report
            continue
        crcs = tuple(known["checksums"][panel] for panel in panels) if known else None
        waiting.append(
            Lane(index, panels, context.token, spec, own, context.source, scratch, context.device, crcs)
        )
    resumed = len(lanes) - len(waiting)
    total = plan.bytes_per_pass if not spec.sample else int(plan.bytes_per_pass * plan.sample_share)
    progress(PassStarted(spec.name, total, spec.sample, resumed))
    for report in reports.values():
        progress(BytesRead(Counters(**report["counters"]).streamed_bytes))

    def take(number: int, report: dict[str, Any]) -> None:
        lane = waiting[number]
        reports[lane.index] = report
        context.homes[spec.sample, lane.index] = report["worker"]
        context.note_memory(ProcessMemory(**report["memory"]))

    calls = [_call(context, lane) for lane in waiting]
    context.executor.carry_out(calls, take, progress, Call(close_cache, (context.token,)))
    progress(PassEnded(spec.name, total, spec.sample))
    return [reports[index] for index in wanted], resumed


def _call(context: Context, lane: Lane) -> Call:
    """The lane as a call, on the worker that had it in the pass before."""
    home = context.homes.get((lane.spec.sample, lane.index), "")
    # As many lanes at a time as the plan has, on a worker that offers 1.
    share = _ROUNDED_DOWN / context.plan.threads if context.device.has_own_memory else 0.0
    part = _part(context, lane)
    if part.source is context.source:
        return Call(run_lane, (lane,), home, share)
    bare = replace(lane, source=ELSEWHERE)
    return Call(with_source, (run_lane_on, part.source, part.values, bare), home, share)


def _part(context: Context, lane: Lane) -> SourcePart:
    """What a lane needs of the source; made once a run, so that data are not sent again in each pass."""
    where = lane.spec.sample, lane.index
    if where not in context.parts:
        plan = context.plan
        rectangles = [(slice(*plan.panel(panel)), slice(0, plan.cols)) for panel in lane.panels]
        context.parts[where] = context.executor.part(context.source, rectangles)
    return context.parts[where]


def run_lane_on(source: Source, lane: Lane) -> dict[str, Any]:
    """In a worker: a lane whose source was sent apart from it."""
    return run_lane(replace(lane, source=source))


@contextmanager
def panels_kept(context: Context) -> Iterator[None]:
    """While this lasts, the run's workers keep panels between passes; then they free them."""
    try:
        yield
    finally:
        with suppress(Exception):  # a cluster that is gone has freed them
            for seen in context.executor.everywhere(close_cache, context.token):
                if seen is not None:
                    context.note_memory(seen)
