"""A rehearsal: one panel of a source that another library reads, before the plan is believed.

What a Dask graph or a lazily opened array holds while a panel of it is read, nobody knows beforehand: a chunk
of the result may need every chunk of the data.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from bigsvd.errors import travels
from bigsvd.execution.executor import Call, Executor, results_of, with_source
from bigsvd.planning.plan import Plan
from bigsvd.sources.base import Rectangle, Rehearsal, Source
from bigsvd.sources.transposed import streamed


def rehearse(plan: Plan, source: Source, executor: Executor) -> None:
    """Let the source's facts say what reading a panel of the plan takes, where its metadata do not tell.

    Raises:
        MemoryBudgetError: not even one chunk's rows can be read within the budget.

    """
    seen, tile = streamed(source, transposed=plan.transposed), slice(0, min(plan.cols, plan.tile_cols))
    heights = dict.fromkeys((min(seen.facts.chunks[0], plan.rows), plan.panel_rows))
    rectangles = [(slice(0, rows), tile) for rows in heights]
    part = executor.part(seen, rectangles)
    reading = Call(with_source, (read_once, part.source, part.values, rectangles, plan.budget_bytes))
    source.adopt(*results_of(executor, [reading]))


@travels
def read_once(source: Source, rectangles: list[Rectangle], budget_bytes: int) -> Rehearsal:
    """What reading one rectangle, and a larger one if there are two, takes besides the result itself."""
    own = source.limited(budget_bytes)
    own.read(*rectangles[0])  # what is made once, such as a mean of all data, is made here
    taken = [_taken(own, rectangle) for rectangle in rectangles]
    (size, spare), (larger_size, larger_spare) = taken[0], taken[-1]
    ratio = (larger_spare - spare) / (larger_size - size) if larger_size > size else 0.0
    ratio = max(0.0, ratio)
    return Rehearsal(
        spare_bytes=max(0, spare - int(ratio * size)),
        spare_ratio=ratio,
        held_bytes=own.held_bytes,
        masked=own.met_masks,
        shared=dict(own.shared),
    )


def _taken(source: Source, rectangle: Rectangle) -> tuple[int, int]:
    """Bytes of a rectangle, and the most that reading it took at a time besides."""
    with _traced():
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        size = source.read(*rectangle).nbytes
        peak = tracemalloc.get_traced_memory()[1] - before
    return size, max(0, peak - size)


@contextmanager
def _traced() -> Iterator[None]:
    """While this lasts, Python and NumPy count what they allocate."""
    if tracemalloc.is_tracing():
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
