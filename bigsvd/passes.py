"""Runs one pass: every panel of the streamed matrix B through one kernel, as Dask lanes.

A lane is one task over several panels. It reads the next rectangle while the present one is multiplied,
writes its rows of the result and its partial sums to scratch, and then a record. Lanes with a record are
skipped, and partial sums are combined in lane order, so the same plan gives the same bits on any number of
workers, resumed or not.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import google_crc32c
import numpy as np
from distributed import Client, LocalCluster, as_completed, get_worker
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from threadpoolctl import threadpool_limits

from bigsvd.cache import Kept, PanelCache, cache_of, close_cache
from bigsvd.chunks import Workspace
from bigsvd.device import Array, Device
from bigsvd.errors import NoWorkersError, SourceChangedError
from bigsvd.layout import slab_rows
from bigsvd.monitor import return_large_buffers
from bigsvd.planning import Plan
from bigsvd.scratch import Scratch
from bigsvd.source import Source
from bigsvd.transform import Lines, LineSums, Moments, Transform, guess_of_rows, inspect

_WORKER_WAIT_SECONDS = 60
_EVENT_SECONDS = 0.2
_LANE_WAIT_SECONDS = 0.02

Progress = Callable[[dict[str, Any]], None]


class Operator(Protocol):
    """A kernel at work in one lane: products of slabs, sums over panels.

    Law: the outcome does not depend on how a panel is cut into slabs, up to rounding.
    """

    def forward(self, slab: Array, cols: slice) -> Array | None:
        """The part of Y that these columns of a slab (r, c) add; None if the kernel has none."""

    def backward(self, slab: Array, y: Array | None, rows: slice, cols: slice) -> None:
        """Add this slab's part of the sums; `rows` and `cols` are its place in B."""

    def finish_panel(self, y: np.ndarray, rows: slice) -> None:
        """Store the rows of Y of a whole panel; not called where `forward` gives None."""

    def sums(self) -> dict[str, np.ndarray]:
        """The lane's partial sums, on the host, float64."""


class Kernel(Protocol):
    """What a pass computes; a small value that travels to workers and opens its operands there."""

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Operator:
        """The operator of one lane."""


@dataclass(frozen=True)
class Context:
    """Where a run happens: everything that passes need besides what they compute.

    Attributes:
        token: names the run's panel caches in its workers.
        homes: the worker that ran a lane, by (of the sample, index), and so has its panels in its cache.

    """

    client: Client
    plan: Plan
    source: Source
    scratch: Scratch
    device: Device
    progress: Progress
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    homes: dict[tuple[bool, int], str] = field(default_factory=dict)


@dataclass(frozen=True)
class PassSpec:
    """One pass as a value.

    Attributes:
        name: where its results lie in scratch.
        kernel: what it computes.
        transform: the matrix as multiplied.
        lines_name: scratch array (3, N) of means and divisors, or None.
        first: whether moments and line sums are collected and non-finite entries refused.
        dtype: precision of the products.
        checksums: scratch record with the checksum of each panel, or None in the pass that makes it.
        sample: whether only the panels of the plan's sample are streamed.

    """

    name: str
    kernel: Kernel
    transform: Transform
    lines_name: str | None
    first: bool
    dtype: str
    checksums: str | None
    sample: bool = False


@dataclass(frozen=True)
class PassResult:
    """Sums in lane order and what the pass cost; `seconds` is wall time of this run's part.

    `bytes_read` came from the source, uncompressed, `cached_bytes` from the panel cache.
    `resumed`: some of it was read back from scratch; `checked`: it compared checksums with the first pass.
    """

    sums: dict[str, np.ndarray]
    moments: Moments
    checksums: list[int]
    bytes_read: int
    cached_bytes: int
    encoded_bytes: int
    filled_chunks: int
    retries: int
    seconds: float
    resumed: bool
    checked: bool


@dataclass(frozen=True)
class _Lane:
    index: int
    panels: tuple[int, ...]
    token: str
    spec: PassSpec
    plan: Plan
    source: Source
    scratch: Scratch
    device: Device
    checksums: tuple[int, ...] | None
    topic: str


class BlasLimit:
    """Holds BLAS to one thread while any lane or driver of this process needs that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._stack.enter_context(threadpool_limits(limits=1))
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._stack.close()


one_blas_thread = BlasLimit()


@contextmanager
def local_client(threads: int) -> Iterator[Client]:
    """A Dask cluster embedded in this process: one worker with `threads` threads, no dashboard."""
    cluster = LocalCluster(
        n_workers=1,
        threads_per_worker=threads,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else every run wants port 8787, and warns
        memory_limit=0,
    )
    try:
        with Client(cluster) as client:
            yield client
    finally:
        cluster.close()


def run_pass(context: Context, spec: PassSpec) -> PassResult:
    """Stream B once through `spec.kernel`; a pass that scratch records as done is only read back.

    Raises: what a lane raises, such as `ChunkCorruptError`; `SourceChangedError`; `NoWorkersError`.
    """
    scratch = context.scratch
    done = scratch.recorded(f"{spec.name}/done")
    if done is not None:
        known = {name: scratch.read(f"{spec.name}/{name}") for name in done["sums"]}
        return PassResult(
            known, Moments.from_dict(done["moments"]), **done["costs"], resumed=True, checked=False
        )
    start = time.perf_counter()
    reports, resumed = _run_lanes(context, spec)
    sums: dict[str, np.ndarray] = {}
    moments = Moments()
    for index, report in enumerate(reports):
        moments.add(Moments.from_dict(report["moments"]))
        for name in report["sums"]:
            part = scratch.read(f"{spec.name}/lane-{index:05d}/{name}")
            sums[name] = part if name not in sums else _add(sums[name], part)
    costs = {
        "checksums": [crc for report in reports for crc in report["checksums"]],
        "bytes_read": sum(report["bytes_read"] for report in reports),
        "cached_bytes": sum(report["cached_bytes"] for report in reports),
        "encoded_bytes": sum(report["encoded_bytes"] for report in reports),
        "filled_chunks": sum(report["filled_chunks"] for report in reports),
        "retries": sum(report["retries"] for report in reports),
        "seconds": time.perf_counter() - start,
    }
    for name, values in sums.items():
        scratch.write(f"{spec.name}/{name}", values)
    scratch.record(f"{spec.name}/done", {"sums": sorted(sums), "moments": moments.to_dict(), "costs": costs})
    for index in range(len(reports)):
        scratch.remove(f"{spec.name}/lane-{index:05d}")
    return PassResult(sums, moments, **costs, resumed=resumed > 0, checked=spec.checksums is not None)


def _add(total: np.ndarray, part: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # a pass that overflows is repeated, prescaled
        total += part
    return total


def _run_lanes(context: Context, spec: PassSpec) -> tuple[list[dict[str, Any]], int]:
    client, plan, scratch, progress = context.client, context.plan, context.scratch, context.progress
    known = scratch.recorded(spec.checksums) if spec.checksums else None
    reports: dict[int, dict[str, Any]] = {}
    waiting: list[_Lane] = []
    topic = f"bigsvd-{uuid.uuid4()}"
    lanes = plan.sample_lanes() if spec.sample else tuple(tuple(range(*lane)) for lane in plan.lanes)
    part = replace(plan, lanes=(), sample=())  # a lane has its own; all of them in each task would add up
    for index, panels in enumerate(lanes):
        report = scratch.recorded(f"{spec.name}/lane-{index:05d}/done")
        if report is not None:
            reports[index] = report
            continue
        crcs = tuple(known["checksums"][panel] for panel in panels) if known else None
        waiting.append(
            _Lane(
                index, panels, context.token, spec, part, context.source, scratch, context.device, crcs, topic
            )
        )
    resumed = len(reports)
    total = plan.bytes_per_pass if not spec.sample else int(plan.bytes_per_pass * plan.sample_share)
    told = {"name": spec.name, "total_bytes": total, "sample": spec.sample}
    progress({"event": "pass", **told, "resumed_lanes": len(reports)})
    for report in reports.values():
        progress({"event": "read", "bytes": report["bytes_read"] + report["cached_bytes"]})
    await_workers(client)
    client.subscribe_topic(topic, lambda event: progress(event[1]))
    futures: list[Any] = []
    try:
        futures.extend(_submit(context, lane) for lane in waiting)
        with cluster_errors():
            for future in as_completed(futures):
                index = int(future.key.rsplit("-", 1)[1])
                reports[index] = future.result()
                context.homes[spec.sample, index] = reports[index]["worker"]
    except NoWorkersError:
        raise
    except BaseException:
        client.cancel(futures)
        client.run(close_cache, context.token)  # those under way stop at their next panel
        _await_lanes(client, topic)
        raise
    finally:
        client.unsubscribe_topic(topic)
    progress({"event": "pass-end", **told})
    return [reports[index] for index in range(len(lanes))], resumed


def _submit(context: Context, lane: _Lane) -> Any:
    """The lane as a task, on the worker that had it in the pass before if that one is free."""
    home = context.homes.get((lane.spec.sample, lane.index))
    where = {"workers": [home], "allow_other_workers": True} if home else {}
    return context.client.submit(run_lane, lane, key=f"{lane.topic}-{lane.index:05d}", pure=False, **where)


@contextmanager
def panels_kept(context: Context) -> Iterator[None]:
    """While this lasts, the run's workers keep panels between passes; then they free them."""
    try:
        yield
    finally:
        with suppress(Exception):  # a cluster that is gone has freed them
            context.client.run(close_cache, context.token)


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


def _await_lanes(client: Client, topic: str) -> None:
    """Wait until no worker runs a lane of this pass; cancelling stops only those that have not begun."""
    while any(client.run(_runs, topic).values()):
        time.sleep(_LANE_WAIT_SECONDS)


def _runs(topic: str, dask_worker: Any) -> bool:
    """In a worker: whether it runs a lane of that pass."""
    return any(str(key).startswith(topic) for key in dask_worker.active_keys)


def await_workers(client: Client) -> None:
    """Wait for a first worker; `NoWorkersError` after a minute."""
    try:
        client.wait_for_workers(1, timeout=_WORKER_WAIT_SECONDS)
    except TimeoutError as error:
        raise NoWorkersError(
            f"0 workers after {_WORKER_WAIT_SECONDS} s where at least 1 is needed",
            "start workers and run again",
        ) from error


def run_lane(lane: _Lane) -> dict[str, Any]:
    """One lane, in a worker: stream its panels, leave sums and a record in scratch, return the record."""
    done = lane.scratch.recorded(f"{lane.spec.name}/lane-{lane.index:05d}/done")
    if done is not None and lane.scratch.current:
        return done  # Dask runs a lane again whose worker was lost before it could report
    return_large_buffers(lane.plan.budget_bytes)
    plan = lane.plan
    stage = plan.request.get("stage") if plan.keeps_panels else None
    cache = cache_of(lane.token, plan.cache_bytes, stage, plan.threads)
    with cache.turns, one_blas_thread, np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _LaneRun(lane, cache).run()


class _LaneRun:
    """The state of one lane while it streams."""

    def __init__(self, lane: _Lane, cache: PanelCache) -> None:
        self.lane = lane
        self.cache = cache
        self.source = lane.source.fresh()
        self.plan = lane.plan
        self.spec = lane.spec
        self.device = lane.device
        self.lines = self._load_lines()
        self.operator = lane.spec.kernel.start(lane.scratch, lane.device, lane.spec.dtype)
        self.moments = Moments()
        self.line_sums = LineSums(self.lines.high, self.plan.rows) if self._collects_columns() else None
        self.bytes_read = 0
        self.cached_bytes = 0
        self.filled_chunks = 0
        self._events = 0.0
        self._unsent = 0

    def _collects_columns(self) -> bool:
        return self.spec.first and self.spec.transform.by_line and not self.plan.transposed

    def _load_lines(self) -> Lines:
        if self.spec.lines_name is None:
            return Lines.neutral(self.plan.cols)
        return Lines(*self.lane.scratch.read(self.spec.lines_name))

    def run(self) -> dict[str, Any]:
        lane, plan = self.lane, self.plan
        panels = lane.panels
        checksums = []
        reads = [
            (panel, tile, number == 0)
            for panel in panels
            for number, _ in enumerate(self._sweeps())
            for tile in plan.tiles()
        ]
        with (
            self.cache.workspace() as space,
            ThreadPoolExecutor(1, thread_name_prefix="bigsvd-read") as reader,
        ):
            blocks = self._read_ahead(reader, space, reads)
            for position, panel in enumerate(panels):
                self._check_current()
                crc = self._panel(panel, blocks)
                checksums.append(crc)
                if lane.checksums is not None and crc != lane.checksums[position]:
                    start, stop = plan.panel(panel)
                    lines = "columns" if plan.transposed else "rows"
                    raise SourceChangedError(
                        f"{self.source.facts.name} changed between passes: {lines} {start}..{stop - 1} "
                        f"had checksum {lane.checksums[position]}, now {crc}",
                        "run again on data that nobody writes",
                    )
        self._check_current()
        counters = self.source.counters
        folder = f"{self.spec.name}/lane-{lane.index:05d}"
        sums = self.operator.sums()
        if self.line_sums is not None:
            s = self.line_sums
            sums["line-sums"] = np.stack([s.observed, s.sum, s.squares])
        for name, values in sums.items():
            lane.scratch.write(f"{folder}/{name}", values)
        report = {
            "sums": sorted(sums),
            "moments": self.moments.to_dict(),
            "checksums": checksums,
            "bytes_read": self.bytes_read,
            "cached_bytes": self.cached_bytes,
            "worker": get_worker().address,
            "encoded_bytes": counters.encoded_bytes,
            "filled_chunks": self.filled_chunks,
            "retries": counters.retries,
        }
        lane.scratch.record(f"{folder}/done", report)
        self._tell(0, final=True)
        return report

    def _check_current(self) -> None:
        """Stop where the run has ended, or another has begun in its scratch, since Dask started this lane."""
        if self.cache.closed or not self.lane.scratch.current:
            raise NoWorkersError("the run of this lane has ended", "nothing is to be done")

    def _sweeps(self) -> tuple[str, ...]:
        """How often a panel's tiles are read: once if the panel fits."""
        if len(self.plan.tiles()) == 1:
            return ("all",)
        rows = self.plan.transposed and self.spec.transform.by_line
        return ("lines", "forward", "backward") if rows else ("forward", "backward")

    def _read_ahead(
        self, reader: ThreadPoolExecutor, space: Workspace, wanted: list[tuple[int, tuple[int, int], bool]]
    ) -> Iterator[np.ndarray]:
        """Each rectangle of B in turn, the next one being read meanwhile into the other of two memories."""
        pending = reader.submit(self._read, *wanted[0], space)
        for following in [*wanted[1:], None]:
            block = pending.result()
            if following is not None:
                space.turn()
                pending = reader.submit(self._read, *following, space)
            yield block

    def _read(self, panel: int, tile: tuple[int, int], first: bool, space: Workspace) -> np.ndarray:
        """One rectangle, from the cache or else from the source, for the `first` time in this pass or not."""
        rows, cols = slice(*self.plan.panel(panel)), slice(*tile)
        if self.plan.transposed:
            rows, cols = cols, rows
        key, stamp, kept = (panel, tile[0]), None, None
        if self.plan.keeps_panels:
            stamp = self.source.stamp(rows, cols)
            kept = self.cache.get(key, stamp, space.panel)
        if kept is not None:
            self.cached_bytes += kept.block.nbytes
        else:
            filled = self.source.counters.filled_chunks
            block = self.source.read(rows, cols, space)
            kept = Kept(block, self.source.counters.filled_chunks - filled)
            self.bytes_read += block.nbytes
            if self.plan.keeps_panels:
                self.cache.keep(key, stamp, kept, space.panel)
        self.filled_chunks += kept.filled if first else 0
        return kept.block

    def _panel(self, panel: int, blocks: Iterator[np.ndarray]) -> int:
        """All sweeps over one panel; its checksum."""
        start, stop = self.plan.panel(panel)
        steps = slab_rows(self.plan.tile_cols, self.spec.dtype, by_line=self.spec.transform.by_line)
        pieces = [slice(r, min(stop, r + steps)) for r in range(start, stop, steps)]
        y: dict[int, Array] = {}
        line_sums: dict[int, LineSums] = {}
        crc = -1
        for number, sweep in enumerate(self._sweeps()):
            sweep_crc = 0
            for tile in self.plan.tiles():
                block = next(blocks)
                sweep_crc = google_crc32c.extend(sweep_crc, np.ascontiguousarray(block))
                matrix = block.T if self.plan.transposed else block
                for piece in pieces:
                    raw = matrix[piece.start - start : piece.stop - start]
                    self._slab(
                        raw,
                        piece,
                        slice(*tile),
                        sweep,
                        y,
                        line_sums,
                        inspecting=self.spec.first and number == 0,
                    )
                self._tell(block.nbytes)
                del block, matrix, raw
            if crc not in (-1, sweep_crc):
                raise SourceChangedError(
                    f"rows {start}..{stop - 1} of {self.source.facts.name} changed between two reads",
                    "run again on data that nobody writes",
                )
            crc = sweep_crc
        parts = [self.device.to_host(y.pop(piece.start)) for piece in pieces if piece.start in y]
        if parts:
            self._check_current()
            self.operator.finish_panel(np.concatenate(parts), slice(start, stop))
        return crc

    def _slab(
        self,
        raw: np.ndarray,
        rows: slice,
        cols: slice,
        sweep: str,
        y: dict[int, Array],
        line_sums: dict[int, LineSums],
        *,
        inspecting: bool,
    ) -> None:
        device, transform, xp = self.device, self.spec.transform, self.device.xp
        values, mask = transform.widen(device, raw)
        if inspecting:
            count = int(xp.sum(xp.astype(mask, xp.int64))) if mask is not None else 0
            origin = (rows.start, cols.start)
            self.moments.add(inspect(device, raw, values, count, origin, transposed=self.plan.transposed))
        if transform.by_line:
            values = self._by_line(values, mask, rows, cols, sweep, line_sums)
            if values is None:
                return
        if self.spec.first and sweep in ("all", "forward"):
            self.moments.squares += device.sum_of_squares(values)
        slab = xp.astype(values, getattr(xp, self.spec.dtype), copy=False)
        if sweep in ("all", "forward"):
            part = self.operator.forward(slab, cols)
            if part is not None:
                y[rows.start] = part if rows.start not in y else y[rows.start] + part
        if sweep in ("all", "backward"):
            self.operator.backward(slab, y.get(rows.start), rows, cols)

    def _by_line(
        self,
        values: Array,
        mask: Array | None,
        rows: slice,
        cols: slice,
        sweep: str,
        line_sums: dict[int, LineSums],
    ) -> Array | None:
        """Centre and scale a slab; None in the sweep that only collects the statistics of its rows."""
        device, transform = self.device, self.spec.transform
        if not self.plan.transposed:
            if self.line_sums is not None and sweep in ("all", "forward"):
                self.line_sums.add(device, values, mask, rows=False, at=cols)
            part = Lines(self.lines.high[cols], self.lines.low[cols], self.lines.divisor[cols])
            return transform.apply(device, values, mask, part, rows=False)
        if sweep in ("all", "lines"):
            if rows.start not in line_sums:
                line_sums[rows.start] = LineSums(guess_of_rows(device, values), self.plan.cols)
            line_sums[rows.start].add(device, values, mask, rows=True, at=slice(None))
        if sweep == "lines":
            return None
        lines = line_sums[rows.start].lines(transform.unit)
        if self.spec.first and sweep in ("all", "forward") and not self.spec.sample:
            self.moments.constant += int(np.sum(line_sums[rows.start].constant))
            store = self.lane.scratch.open(f"{self.spec.name}/row-lines")
            store[:, rows] = lines.stacked()
        return transform.apply(device, values, mask, lines, rows=True)

    def _tell(self, count: int, *, final: bool = False) -> None:
        """Report bytes read, a few times a second."""
        self._unsent += count
        now = time.monotonic()
        if self._unsent and (final or now - self._events > _EVENT_SECONDS):
            get_worker().log_event(self.lane.topic, {"event": "read", "bytes": self._unsent})
            self._events, self._unsent = now, 0
