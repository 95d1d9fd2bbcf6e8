"""What Dask's two methods need: exact means, divisors and norm by a pass, and B as a Dask array."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed

from bigsvd.device import Array, Device
from bigsvd.errors import travels
from bigsvd.matrix import Matrix
from bigsvd.passes import run_pass
from bigsvd.planning.pieces import slab_rows
from bigsvd.planning.plan import Plan
from bigsvd.scratch import Scratch
from bigsvd.sources.base import Source
from bigsvd.transform import Lines, LineSums, Transform, guess_of_rows


@dataclass(frozen=True)
class NullKernel:
    """A pass that only looks: moments, line sums, checksums."""

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Null:
        """The operator of one lane."""
        del scratch, device, dtype
        return Null()


class Null:
    """`NullKernel` at work in one lane."""

    def forward(self, slab: Array, cols: slice) -> None:
        """Nothing."""

    def backward(self, slab: Array, y: Array | None, rows: slice, cols: slice) -> None:
        """Nothing."""

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """Never called."""

    def sums(self) -> dict[str, np.ndarray]:
        """None."""
        return {}


def statistics_pass(matrix: Matrix) -> None:
    """Make the matrix known, and its entries known to be finite, before Dask's method sees them."""
    while not matrix.known:
        name = matrix.next_name("statistics")
        matrix.prepare(name)
        result = run_pass(matrix.context, matrix.spec(name, NullKernel()))
        matrix.charge(result)
        matrix.learn(name, result)


def check_unchanged(matrix: Matrix) -> None:
    """Compare the checksum of every panel with the first pass's, by a pass of its own.

    Raises:
        SourceChangedError: the data is no longer what scratch was computed from.

    """
    matrix.context.scratch.remove("recheck")
    matrix.charge(run_pass(matrix.context, matrix.spec("recheck", NullKernel())))


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
    lines: Lines | None,
    dtype: str,
    start: int,
    stop: int,
) -> Array:
    """One panel of B on the device, in a worker: made a slab at a time, as lanes do, for the same memory."""
    rows = slice(start, stop)
    source = source.fresh()  # Dask's threads read at the same time
    raw = source.read(rows, slice(0, plan.cols))
    xp, lines = device.xp, lines or Lines.neutral(plan.cols)
    wide = getattr(xp, dtype)
    found = xp.empty((stop - start, plan.cols), dtype=wide)
    steps = slab_rows(plan.cols, dtype, exact=transform.exact, apart=device.apart)
    for first in range(0, stop - start, steps):
        piece = slice(first, first + steps)
        values = _prepared_slab(plan, device, transform, lines, raw[piece])
        found[piece, :] = xp.astype(values, wide, copy=False)
    return found


def _prepared_slab(plan: Plan, device: Device, transform: Transform, lines: Lines, raw: np.ndarray) -> Array:
    """Whole rows of B as decomposed; `lines` are those of its columns."""
    values, mask = transform.widen(device, device.to_device(np.ascontiguousarray(raw)), raw.dtype)
    if not transform.by_line:
        return values
    gaps = mask if transform.fills_with_mean else None
    if transform.by_rows:
        sums = LineSums(guess_of_rows(device, values, gaps), plan.cols, axis=0)
        sums.add(device, values, gaps, at=slice(None))
        lines = sums.lines(transform.unit)
    return transform.apply(device, values, gaps, lines)
