"""One lane of a pass, in a worker: its panels streamed through a kernel, the next read meanwhile.

A lane is one task over several panels. It reads the next rectangle while the present one is multiplied,
writes its rows of the result and its partial sums to scratch, and then a record. One of the sample returns
its sums instead.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from bigsvd.chunks.buffers import BufferRing, ReusableBuffer
from bigsvd.counters import Counters
from bigsvd.errors import MemoryBudgetError, NoWorkersError, SourceChangedError, first_line, travels
from bigsvd.events import BytesRead, LaneRepeated, LaneStarted
from bigsvd.execution.executor import announce, worker_name
from bigsvd.execution.panel_cache import CachedBlock, LaneResources, PanelCache, cache_of, concurrency_limit
from bigsvd.execution.pass_spec import Lane, lane_folder, lane_report
from bigsvd.execution.sweeps import Sweeps
from bigsvd.machine.blas import one_blas_thread
from bigsvd.machine.monitor import return_large_buffers
from bigsvd.planning.pieces import slab_rows
from bigsvd.slabs.block import Block
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.standardize import totals_in
from bigsvd.units import human_bytes

_EVENT_SECONDS = 0.2
_Want = tuple[int, tuple[int, int], bool]


@dataclass(frozen=True)
class _Rectangle:
    """A rectangle on the device, and how it was come by; `filled` chunks were absent."""

    block: Block
    kept: CachedBlock
    cached: bool
    filled: int


def _pinned_copy(buffer: ReusableBuffer, array: np.ndarray) -> np.ndarray:
    """An array in memory, copied to where copies to the device are fast."""
    copy = buffer.take((array.shape[0], array.shape[1]), array.dtype)
    np.copyto(copy, array)
    return copy


def _joined(checksums: list[int]) -> int:
    """One checksum for the tiles of a panel: of the only one, its own."""
    return checksums[0] if len(checksums) == 1 else google_crc32c.value(np.array(checksums, "<u4").tobytes())


@travels
def run_lane(lane: Lane) -> dict[str, Any]:
    """One lane, in a worker: stream its panels, leave sums and a record in scratch, return the record.

    Of the sample, the record has the sums themselves instead of their names, and nothing is left.
    """
    lane.scratch.check_current()
    done = lane_report(lane.scratch, lane.spec, lane.index)
    if done is not None:
        return done  # Dask runs a lane again whose worker was lost before it could report
    return_large_buffers(lane.plan.budget_bytes)
    cache = cache_of(lane.token, lambda: _new_cache(lane))
    with (
        concurrency_limit(lane.token, lane.plan.threads),
        cache.seat() as seat,
        one_blas_thread,
        np.errstate(over="ignore", under="ignore", invalid="ignore"),
    ):
        announce(LaneStarted(lane.spec.name, lane.index, lane.spec.sample))
        return _run_where_it_fits(lane, cache, seat)


def _new_cache(lane: Lane) -> PanelCache:
    plan, device = lane.plan, lane.device
    stage = plan.request.stage if plan.keeps_on_host else None

    def new_seat() -> LaneResources:
        ring = BufferRing(plan.readers, device.host_memory, past_page_cache=plan.past_page_cache)
        return LaneResources(ring, device.queue())

    cache = PanelCache(
        plan.cache_bytes,
        Path(stage) if stage is not None else None,
        plan.device_cache_bytes,
        new_seat,
        partial(device.unlimit, lane.token),
    )
    device.limit(lane.token, plan.device_bytes)
    return cache


def _run_where_it_fits(lane: Lane, cache: PanelCache, seat: LaneResources) -> dict[str, Any]:
    """A lane, on a device whose memory may not suffice.

    Then it runs again without panels that stay there, at last by half slabs, whose products may differ in
    the last bits.
    """
    device, said = lane.device, ""
    for careful in (True,) if cache.careful else (False, False, True):
        cache.careful = careful
        if said:
            cache.leave_device()
            device.clean()
            announce(LaneRepeated(lane.index, said))
        try:
            with seat.queue.computing():
                return LaneRun(lane, cache, seat, careful=careful).run()
        except Exception as error:
            if not device.is_out_of_memory(error):
                raise
            said = first_line(error)
        finally:
            seat.queue.wait()
    raise MemoryBudgetError(
        f"{device.name} ran out of memory within {human_bytes(lane.plan.device_bytes)}, "
        f"by half slabs too: {said}",
        "end what else uses it, give more device_memory, or use device='cpu'",
    )


class LaneRun:
    """The state of one lane while it streams.

    `careful`: blocks go to the device slab by slab, and slabs have half the rows.
    """

    def __init__(self, lane: Lane, cache: PanelCache, seat: LaneResources, *, careful: bool = False) -> None:
        self.lane = lane
        self.cache = cache
        self.ring, self.queue = seat.ring, seat.queue
        self.careful = careful
        self.sources = [lane.source.fresh() for _ in range(lane.plan.readers)]
        self.stored = np.dtype(self.sources[0].facts.dtype)
        self.plan = lane.plan
        self.spec = lane.spec
        self.device = lane.device
        shape, tiled = (lane.plan.rows, lane.plan.cols), len(lane.plan.tiles()) > 1
        self.sweeps = Sweeps(lane.scratch, lane.device, lane.spec, shape, tiled=tiled)
        self.totals = totals_in(lane.scratch, lane.spec.transform)
        self.counters = Counters()
        self._events = 0.0
        self._unsent = 0

    def run(self) -> dict[str, Any]:
        """Stream the panels; the record."""
        lane, plan = self.lane, self.plan
        panels = lane.panels
        checksums = []
        reads = [
            (panel, tile, number == 0)
            for panel in panels
            for number, _ in enumerate(self.sweeps.each)
            for tile in plan.tiles()
        ]
        with ThreadPoolExecutor(plan.readers, thread_name_prefix="bigsvd-read") as readers:
            blocks = self._in_turn(reads) if plan.reads_in_turn else self._read_ahead(readers, reads)
            for position, panel in enumerate(panels):
                self._check_current()
                crc = self._panel(panel, blocks)
                checksums.append(crc)
                if lane.checksums is not None and crc != lane.checksums[position]:
                    raise SourceChangedError(
                        f"{lane.source.facts.name} changed between passes: {self._lines_of_A(panel)} "
                        f"had checksum {lane.checksums[position]}, now {crc}",
                        "run again on data that nobody writes",
                    )
        self._check_current()
        report = {
            **self.sweeps.findings().to_dict(),
            "checksums": checksums,
            "counters": self._counted().to_dict(),
            "worker": worker_name(),
            "memory": self.cache.memory.to_dict(),
        }
        self._tell(0, final=True)
        sums = self.sweeps.sums()
        if self.spec.sample:
            return report | {"sums": sums}
        return self._left(sums, report)

    def _left(self, sums: dict[str, np.ndarray], report: dict[str, Any]) -> dict[str, Any]:
        """The record, once it is in scratch behind the sums."""
        scratch, folder = self.lane.scratch, lane_folder(self.spec.name, self.lane.index)
        done = lane_report(scratch, self.spec, self.lane.index)
        if done is not None:
            return done  # of another worker, where this one seemed lost
        for name, values in sums.items():
            scratch.write(f"{folder}/{name}", values)
        record = report | {"sums": sorted(sums)}
        scratch.record(f"{folder}/done", record)
        return record

    def _lines_of_A(self, panel: int) -> str:  # noqa: N802
        """What of A a panel holds, in words."""
        start, stop = self.plan.panel(panel)
        return f"{self.lane.source.orientation.row}s {start}..{stop - 1}"

    def _counted(self) -> Counters:
        """What this lane read, by what it and its sources have counted."""
        by_sources = Counters.total(source.counters for source in self.sources)
        by_sources.filled_chunks = 0  # a chunk that was read several times counts once
        return self.counters + by_sources

    def _check_current(self) -> None:
        """Stop where the run has ended, or another has taken over, since Dask started this lane."""
        if self.cache.closed:
            raise NoWorkersError("the run of this lane has ended", "nothing is to be done")
        self.lane.scratch.check_current()

    def _in_turn(self, wanted: list[_Want]) -> Iterator[_Rectangle]:
        """Each rectangle of B in turn, read by the thread that multiplies it when that has time for it."""
        for number, want in enumerate(wanted):
            yield self._read(number, *want)

    def _read_ahead(self, pool: ThreadPoolExecutor, wanted: list[_Want]) -> Iterator[_Rectangle]:
        """Each rectangle of B in turn, the next ones being read, and sent to the device, meanwhile."""
        reads = [partial(self._read, number, *want) for number, want in enumerate(wanted)]
        ahead = self.ring.readers
        pending = deque(pool.submit(read) for read in reads[:ahead])
        for number in range(len(reads)):
            block = pending.popleft().result()
            if number + ahead < len(reads):
                pending.append(pool.submit(reads[number + ahead]))
            yield block

    def _read(self, number: int, panel: int, tile: tuple[int, int], first: bool) -> _Rectangle:
        """One rectangle, from the cache or else from the source, for the `first` time in this pass or not."""
        space, source = self.ring.slot(number), self.sources[number % self.ring.readers]
        rows, cols = slice(*self.plan.panel(panel)), slice(*tile)
        key, stamp, kept = (panel, tile[0]), None, None
        if self.plan.keeps_panels:
            stamp = source.stamp(rows, cols)
            kept = self.cache.get(key, stamp, space.panel)
        if kept is not None:
            block = kept.block if kept.resident else self._send(kept.block)
            return _Rectangle(block, kept, cached=True, filled=kept.filled if first else 0)
        before = source.counters.filled_chunks
        read = source.block(rows, cols, space)
        checksum = read.checksum()
        if self.device.has_own_memory and source.facts.reader == "memory":
            read = read.moved(partial(_pinned_copy, space.panel))
        kept = CachedBlock(read, checksum, source.counters.filled_chunks - before)
        block = self._send(read)
        if self.plan.keeps_panels:
            sent = block if self.device.has_own_memory and not self._by_slabs(block) else None
            self.cache.keep(key, stamp, kept, space.panel, sent)
        return _Rectangle(block, kept, cached=False, filled=kept.filled if first else 0)

    def _send(self, host: Block) -> Block:
        """The block on the device, or for later where that is done slab by slab."""
        return host if self._by_slabs(host) else host.moved(self.queue.send)

    def _by_slabs(self, block: Block) -> bool:
        """Whether the rows of a block are sent to the device slab by slab."""
        return self.careful or (block.stays_on_host and self.device.has_own_memory)

    def _panel(self, panel: int, rectangles: Iterator[_Rectangle]) -> int:
        """All sweeps over one panel; its checksum."""
        device = self.device
        start, stop = self.plan.panel(panel)
        steps = self._slab_rows(stop - start)
        pieces = [slice(r, min(stop, r + steps)) for r in range(start, stop, steps)]
        crc = -1
        self.sweeps.begin_panel(slice(start, stop))
        for sweep in self.sweeps.each:
            checksums = []
            for tile in self.plan.tiles():
                rectangle = next(rectangles)
                checksums.append(rectangle.kept.checksum)
                for piece in pieces:
                    raw = rectangle.block.rows(slice(piece.start - start, piece.stop - start))
                    if self._by_slabs(rectangle.block):
                        raw = device.to_device(np.ascontiguousarray(raw))
                    sweep(self._entries(raw, piece, slice(*tile)))
                self.queue.wait()
                self._count(rectangle)
                del rectangle, raw
            found = _joined(checksums)
            if crc not in (-1, found):
                raise SourceChangedError(
                    f"{self._lines_of_A(panel)} of {self.lane.source.facts.name} changed between two reads",
                    "run again on data that nobody writes",
                )
            crc = found
        self._check_current()
        self.sweeps.finish_panel(slice(start, stop))
        return crc

    def _slab_rows(self, count: int) -> int:
        """Rows that are multiplied at a time: of sparse ones all, which cost what is not 0 in them."""
        device = self.device
        if self.lane.source.facts.has_few and not device.has_own_memory:
            return count
        steps = slab_rows(self.plan.tile_cols, self.spec.dtype, has_own_memory=device.has_own_memory)
        return max(1, steps // 2) if self.careful else steps

    def _entries(self, raw: Any, rows: slice, cols: slice) -> Entries:
        return Entries(self.device, self.spec.transform, raw, self.stored, rows, cols, self.totals)

    def _count(self, rectangle: _Rectangle) -> None:
        size = rectangle.block.bytes_of(self.stored.itemsize)
        if rectangle.cached:
            self.counters.cached_bytes += size
            self.counters.device_cached_bytes += size if rectangle.kept.resident else 0
        else:
            self.counters.bytes_read += size
        self.counters.filled_chunks += rectangle.filled
        self._tell(size)

    def _tell(self, count: int, *, final: bool = False) -> None:
        """Report bytes read, a few times a second."""
        self._unsent += count
        now = time.monotonic()
        if self._unsent and (final or now - self._events > _EVENT_SECONDS):
            announce(BytesRead(self._unsent))
            self._events, self._unsent = now, 0
