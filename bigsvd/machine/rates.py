"""What reading and multiplying cost on a machine, measured there in about half a second before planning.

The plan keeps the rates it was made with; nothing that is measured later changes it.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass, replace

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.devices import bfloat16
from bigsvd.devices.base import Array, Device
from bigsvd.errors import travels
from bigsvd.facts import NOMINAL, NOMINAL_ON_GPU, SPARSE, Rates, SourceFacts
from bigsvd.machine.blas import one_blas_thread
from bigsvd.machine.offers import available_memory
from bigsvd.machine.sparse_rates import some_sparse, sparse_rate
from bigsvd.machine.stopwatch import seconds_of
from bigsvd.planning.pieces import slab_rows
from bigsvd.planning.plan import Plan
from bigsvd.planning.precision import may_be_rough
from bigsvd.slabs.sparse import SparseRows
from bigsvd.slabs.timing import Making
from bigsvd.slabs.transform import Transform
from bigsvd.sources.base import Source

# Seconds after which reading is timed no further, and pieces that are read for it at most.
_READ_SECONDS = 0.15
_MOST_READS = 4
# The first piece is read into new memory, and is not counted unless it takes so many seconds: then storage is
# slow, and one piece is enough.
_FIRST_READ_SECONDS = 1.0
_READ_TOGETHER_BYTES = 2**18
_FRESH_BYTES = 2**25
_MUCH_TO_LITTLE = 3.0  # a byte of 0.5 to 3 GB took 1.5 to 4.5 times as long on a virtual machine
_PRODUCT_COLUMNS = (32, 96)
_TIMED_COPIES = 3  # of a slab in float64: as made, in its precision, and products
_LEAST_TIMED_ROWS = 16
_ENOUGH_BYTES = 2**31  # of a budget, from which it limits nothing that is measured
_MOST_TIMED_COLUMNS = 4096
_MOST_MADE_ENTRIES = 2**21
# A run, predicted at nominal rates, for which torch is imported to measure it; and the part of float32's rate
# that a few rows have to reach, of which rounding the block takes much, for more of them to be timed.
_ROUGH_RUN_SECONDS = 60.0
_PROMISING = 0.25
_COPIES = 3
_COPIED_BYTES = 2**25
_MOST_TIMED_BYTES = 2**27  # of a slab; making a larger one takes longer than what is timed


@travels
def rates_here(source: Source, device: Device, plan: Plan, quick_seconds: float) -> Rates:
    """Rates in this process, of whose memory a run of the plan's budget leaves the rest to files."""
    rates = measure_reading(source, device, available_memory() - plan.budget_bytes)
    rates = measure_making(rates, source, device, plan)
    longer = (rates.read_seconds - plan.rates.read_seconds) * plan.bytes_to_read / plan.threads
    if plan.seconds <= quick_seconds and plan.seconds + longer <= quick_seconds:
        return rates
    rates = products_here(rates, source, device, plan)
    if _worth_trying(plan, device):
        with one_blas_thread:
            return measure_rough_products(rates, plan)
    return rates


def _worth_trying(plan: Plan, device: Device) -> bool:
    """Whether products in bfloat16 are to be measured, for which torch has to be imported."""
    if device.has_own_memory or not bfloat16.is_installed():
        return False
    return plan.rough or (may_be_rough(plan) and plan.seconds > _ROUGH_RUN_SECONDS)


def products_here(rates: Rates, source: Source, device: Device, plan: Plan) -> Rates:
    """`measure_products` with BLAS held to one thread; nominal rates where a GPU has no memory for it."""
    try:
        with one_blas_thread:
            return measure_products(rates, source, device, plan.compute_dtype, plan.budget_bytes)
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        return NOMINAL_ON_GPU


def measure_reading(source: Source, device: Device, room_bytes: int) -> Rates:
    """Read a few chunks of the source; what else is in the rates is usual on such a device.

    `room_bytes`: of memory that may hold files from one pass to the next. The first chunk tells how many
    bytes the files have.
    """
    own, space = source.fresh(), ReadBuffers()
    chosen = some_chunks(source.facts)
    first = _timed_read(own, chosen[0], space)
    if source.on_disk and hasattr(os, "O_DIRECT"):
        files_bytes = source.facts.block_bytes * own.counters.encoded_bytes / first.nbytes
        space.past_page_cache = files_bytes > room_bytes
    others: list[_TimedRead] = []
    for chunk in chosen[1:] if first.seconds <= _FIRST_READ_SECONDS else []:
        others.append(_timed_read(own, chunk, space))
        if first.seconds + sum(read.seconds for read in others) > _READ_SECONDS:
            break
    reads = others if space.past_page_cache and others else [first, *others]
    wall = min(read.seconds / read.nbytes for read in reads)  # the least: others may be using this machine
    cpu = min(wall, *(read.cpu_seconds / read.nbytes for read in reads))
    return replace(
        NOMINAL_ON_GPU if device.has_own_memory else NOMINAL,
        read_seconds=wall, read_cpu_seconds=cpu, measured=True, past_page_cache=space.past_page_cache,
    )  # fmt: skip


def measure_products(
    rates: Rates, source: Source, device: Device, dtype: str, budget_bytes: int = _ENOUGH_BYTES
) -> Rates:
    """Add what multiplying random slabs costs, copying to the device, and memory that is new to the process.

    By one thread, BLAS held to one by the caller. `budget_bytes`: of which each takes a quarter at most.
    """
    share = budget_bytes // 4
    flops = {dtype: _product_rates(device, dtype, source.facts.shape[1], share)}
    if source.facts.has_few and not device.has_own_memory:
        flops[SPARSE] = {columns: sparse_rate(source.facts, columns, share) for columns in _PRODUCT_COLUMNS}
    return replace(
        rates,
        flops=flops,
        copy_seconds=_copy_seconds(device) if device.has_own_memory else 0.0,
        fresh_seconds=_fresh_seconds(max(mmap.PAGESIZE, min(share, _FRESH_BYTES))),
    )


def measure_making(rates: Rates, source: Source, device: Device, plan: Plan) -> Rates:
    """Add what making slabs costs, of zeros and ones as long as a chunk; on a GPU it is as nothing."""
    if device.has_own_memory:
        return rates
    facts = replace(source.facts, samples_axis=0)  # timed with features along columns
    transform = Transform.of(plan.request, facts)
    making = Making(device, transform, _some_entries(facts, plan.compute_dtype), plan.compute_dtype)
    seconds = making.seconds()
    more = max(0.0, making.seconds_with_statistics() - seconds)
    return replace(rates, making_seconds=seconds, looking_seconds=more)


def _some_entries(facts: SourceFacts, dtype: str) -> np.ndarray | SparseRows:
    """Zeros and ones as they are stored, (r, c), as many as make a slab."""
    cols = min(facts.chunks[1], _MOST_TIMED_COLUMNS)
    rows = min(facts.shape[0], slab_rows(cols, dtype, has_own_memory=False), _MOST_MADE_ENTRIES // cols)
    if facts.is_sparse:
        return SparseRows(some_sparse(facts, max(1, rows), cols))
    return np.random.default_rng(0).integers(0, 2, (max(1, rows), cols)).astype(facts.dtype)


def measure_rough_products(rates: Rates, plan: Plan) -> Rates:
    """Add what products in bfloat16 cost, rounding to it included.

    A few rows tell where they take long; where they do not, as many are timed as of other products.
    """
    cols = min(plan.cols, _MOST_TIMED_COLUMNS)
    found: dict[int, float] = {}
    for columns in _PRODUCT_COLUMNS:
        found[columns] = _rough_product_rate(_LEAST_TIMED_ROWS, cols, columns)
        if found[columns] > _PROMISING * rates.flops_at(plan.compute_dtype, columns):
            rows = slab_rows(cols, plan.compute_dtype, has_own_memory=False)
            found[columns] = _rough_product_rate(rows, cols, columns)
    return replace(rates, flops=rates.flops | {bfloat16.NAME: found})


def _rough_product_rate(rows: int, cols: int, columns: int) -> float:
    """Flops per second of Y = B·Q and Yᵀ·B for a slab of so many rows and columns."""
    slab = np.random.default_rng(0).random((rows, cols), np.float32)
    block, total = np.ones((cols, columns), np.float32), np.zeros((columns, cols))

    def once() -> None:
        nonlocal total
        rough = bfloat16.rounded(slab)
        y = bfloat16.product(rough, bfloat16.rounded(block))
        total += bfloat16.product(bfloat16.rounded(y.T), rough)

    return 4.0 * rows * cols * columns / seconds_of(once)


@dataclass(frozen=True)
class _TimedRead:
    nbytes: int
    seconds: float
    cpu_seconds: float


def some_chunks(facts: SourceFacts) -> list[tuple[slice, slice]]:
    """Rows and columns of a few, spread along the longer side of the grid."""
    m, n = facts.shape
    height, width = facts.chunks
    if facts.reader == "measured":  # many small chunks are read together
        height *= max(1, _READ_TOGETHER_BYTES // (height * n * facts.itemsize))
    tall = -(-m // height) >= -(-n // width)
    grid = -(-m // height) if tall else -(-n // width)
    return [
        (slice(i * height, min(m, (i + 1) * height)), slice(0, min(n, width)))
        if tall
        else (slice(0, min(m, height)), slice(i * width, min(n, (i + 1) * width)))
        for i in np.linspace(0, grid - 1, min(_MOST_READS, grid)).astype(int)
    ]


def _timed_read(own: Source, chunk: tuple[slice, slice], space: ReadBuffers) -> _TimedRead:
    start, cpu_start = time.perf_counter(), time.process_time()
    nbytes = own.block(*chunk, space).nbytes
    return _TimedRead(nbytes, time.perf_counter() - start, time.process_time() - cpu_start)


def _fresh_seconds(size: int) -> float:
    """Seconds a byte to touch much memory that the system has to give first, from those for `size` bytes."""
    with mmap.mmap(-1, size) as memory:
        start = time.perf_counter()
        memory[:: mmap.PAGESIZE] = bytes(-(-size // mmap.PAGESIZE))
        return _MUCH_TO_LITTLE * (time.perf_counter() - start) / size


def _copy_seconds(device: Device) -> float:
    """Seconds a byte from the host memory that is meant for it to the device."""
    queue, host = device.queue(), device.host_memory(_COPIED_BYTES)
    host[:] = 0
    took = []
    for _ in range(_COPIES):
        start = time.perf_counter()
        queue.send(host)
        took.append(time.perf_counter() - start)
    return min(took) / _COPIED_BYTES


def _product_rates(device: Device, dtype: str, n: int, size: int) -> dict[int, float]:
    """Flops per second of Y = B·Q and Yᵀ·B for one slab, by columns of Q; within about `size` bytes."""
    cols = min(n, _MOST_TIMED_COLUMNS)
    rows = min(
        slab_rows(cols, dtype, has_own_memory=device.has_own_memory),
        _MOST_TIMED_BYTES // (8 * cols),
    )
    rows = min(rows, max(_LEAST_TIMED_ROWS, size // (_TIMED_COPIES * 8 * cols)))
    random = np.random.default_rng(0)
    slab = device.to_device(random.random((rows, cols), np.float32).astype(dtype))
    return {columns: _product_rate(device, slab, columns) for columns in _PRODUCT_COLUMNS}


def _product_rate(device: Device, slab: Array, columns: int) -> float:
    """Flops per second of Y = B·Q and Yᵀ·B for a Q of so many columns."""
    xp, (rows, cols) = device.xp, slab.shape
    block = xp.ones((cols, columns), dtype=slab.dtype)
    total = xp.zeros((columns, cols), dtype=xp.float64)

    def once() -> None:
        nonlocal total
        y = slab @ block
        total += y.T @ slab
        device.to_host(total[:1, :1])  # waits for the device

    return float(4.0 * rows * cols * columns / seconds_of(once))
