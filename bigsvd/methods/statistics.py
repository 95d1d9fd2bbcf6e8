"""What Dask's two methods need: exact means, divisors and norm by a pass, and B as a Dask array."""

from __future__ import annotations

from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed

from bigsvd.devices.base import Array, Device
from bigsvd.errors import travels
from bigsvd.execution.passes import run_pass
from bigsvd.methods.matrix import Matrix
from bigsvd.planning.pieces import slab_rows
from bigsvd.planning.plan import Plan
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.standardize import written_out
from bigsvd.slabs.transform import MeansAndDivisors, Transform
from bigsvd.sources.base import Source


def statistics_pass(matrix: Matrix) -> None:
    """Make the matrix known, and its entries known to be finite, before Dask's method sees them."""
    while not matrix.known:
        name = matrix.next_name("statistics")
        matrix.prepare(name)
        result = run_pass(matrix.context, matrix.spec(name))
        matrix.record_cost(result)
        matrix.absorb_first_pass(name, result)


def check_unchanged(matrix: Matrix) -> None:
    """Compare the checksum of every panel with the first pass's, by a pass of its own.

    Raises:
        SourceChangedError: the data is no longer what scratch was computed from.

    """
    matrix.context.scratch.remove("recheck")
    matrix.record_cost(run_pass(matrix.context, matrix.spec("recheck")))


def prepared_array(matrix: Matrix) -> Any:
    """B as a Dask array, a panel a chunk, centred and scaled."""
    context = matrix.context
    plan, dtype = context.plan, matrix.dtype
    read = partial(read_panel, plan, context.source, context.device, matrix.transform, matrix.lines, dtype)
    empty = context.device.xp.empty((0, 0), dtype=getattr(context.device.xp, dtype))
    panels = [plan.panel(index) for index in range(plan.panels)]
    blocks = [
        da.from_delayed(delayed(read, pure=True)(start, stop), shape=(stop - start, plan.cols), meta=empty)
        for start, stop in panels
    ]
    return da.concatenate(blocks, axis=0)


@travels
def read_panel(
    plan: Plan,
    source: Source,
    device: Device,
    transform: Transform,
    lines: MeansAndDivisors | None,
    dtype: str,
    start: int,
    stop: int,
) -> Array:
    """One panel of B on the device, in a worker: made a slab at a time, as lanes do, for the same memory."""
    rows = slice(start, stop)
    source = source.fresh()  # Dask's threads read at the same time
    raw = source.read(rows, slice(0, plan.cols))
    xp, lines = device.xp, lines or MeansAndDivisors.neutral(plan.cols)
    standardization = written_out(transform, dtype, device.space(), lines, plan.cols)
    found = xp.empty((stop - start, plan.cols), dtype=getattr(xp, dtype))
    steps = slab_rows(plan.cols, dtype, has_own_memory=device.has_own_memory)
    for first in range(0, stop - start, steps):
        piece = slice(first, min(stop - start, first + steps))
        there, cols = slice(start + piece.start, start + piece.stop), slice(0, plan.cols)
        sent = device.to_device(np.ascontiguousarray(raw[piece]))
        entries = Entries(device, transform, sent, raw.dtype, there, cols)
        entries.show(standardization.lookers)
        found[piece, :] = standardization.slab(entries).to_array()
    return found
