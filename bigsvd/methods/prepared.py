"""B as a Dask array, whose chunks are panels that workers read, centre and scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed

from bigsvd.devices.base import Array, Device
from bigsvd.errors import travels
from bigsvd.methods.matrix import Matrix
from bigsvd.planning.pieces import slab_rows
from bigsvd.planning.plan import Plan
from bigsvd.scratch import Scratch
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.standardize import Standardization, given_in, row_lines_in, totals_in, written_out
from bigsvd.slabs.transform import MeansAndDivisors, Transform
from bigsvd.sources.base import Source


def prepared_array(matrix: Matrix) -> Any:
    """B as a Dask array, a panel a chunk, centred and scaled."""
    context = matrix.context
    plan, dtype = context.plan, matrix.dtype
    prepared = Prepared(plan, context.source, context.device, matrix.transform, dtype, context.scratch,
                        matrix.lines, matrix.row_lines)  # fmt: skip
    read = partial(read_panel, prepared)
    empty = context.device.xp.empty((0, 0), dtype=getattr(context.device.xp, dtype))
    panels = [plan.panel(index) for index in range(plan.panels)]
    blocks = [
        da.from_delayed(delayed(read, pure=True)(start, stop), shape=(stop - start, plan.cols), meta=empty)
        for start, stop in panels
    ]
    return da.concatenate(blocks, axis=0)


@dataclass(frozen=True)
class Prepared:
    """What makes panels of B, in the precision `dtype`, of a matrix that is known; see `Matrix`."""

    plan: Plan
    source: Source
    device: Device
    transform: Transform
    dtype: str
    scratch: Scratch
    lines: MeansAndDivisors | None
    row_lines: str | None

    def standardization(self) -> Standardization:
        """What makes slabs of entries."""
        lines = self.lines or MeansAndDivisors.neutral(self.plan.cols)
        row_lines = row_lines_in(self.scratch, self.row_lines)
        space = self.device.space()
        given = given_in(self.scratch, self.transform)
        return written_out(self.transform, self.dtype, space, self.plan.cols, lines, row_lines, given)


@travels
def read_panel(prepared: Prepared, start: int, stop: int) -> Array:
    """One panel of B on the device, in a worker: made a slab at a time, as lanes do, for the same memory."""
    device, dtype, cols = prepared.device, prepared.dtype, prepared.plan.cols
    raw = prepared.source.fresh().read(slice(start, stop), slice(0, cols))  # Dask's threads read side by side
    standardization = prepared.standardization()
    standardization.begin_panel(slice(start, stop))
    totals = totals_in(prepared.scratch, prepared.transform)
    found = device.xp.empty((stop - start, cols), dtype=getattr(device.xp, dtype))
    steps = slab_rows(cols, dtype, has_own_memory=device.has_own_memory)
    for first in range(0, stop - start, steps):
        piece = slice(first, min(stop - start, first + steps))
        there = slice(start + piece.start, start + piece.stop)
        sent = device.to_device(np.ascontiguousarray(raw[piece]))
        entries = Entries(device, prepared.transform, sent, raw.dtype, there, slice(0, cols), totals)
        entries.show(standardization.lookers)
        found[piece, :] = standardization.slab(entries).to_array()
    return found
