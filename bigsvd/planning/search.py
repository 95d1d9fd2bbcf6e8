"""The search for the orientation, the panels and the block widths of a plan: pure arithmetic.

B is the matrix as it is streamed: A, or Aᵀ when `transposed`; it is M×N, panels are rows of B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bigsvd.errors import RankError
from bigsvd.facts import SourceFacts
from bigsvd.planning.demands import Question
from bigsvd.planning.layout import Layout
from bigsvd.planning.memory import device_terms, memory_terms
from bigsvd.request import Request

# Triplets that the first block is sized for where a rank rule is to choose their number.
_AUTO_WIDTH_K = 64
# Bytes of a panel that are aimed at, on the host and for a GPU, where a copy and a product have to be worth
# the time they take to begin; and how many panels a pass has at least, where the data suffice for them.
# Chosen, not measured.
_PANEL_BYTES = 32 * 2**20
_DEVICE_PANEL_BYTES = 128 * 2**20
_PANELS = 64
# Columns of all blocks together that are held where the budget allows, before the basis is restarted.
_MAX_DENSE_WIDTH = 768


def choose_layout(question: Question) -> tuple[Layout, int]:
    """The layout that reads least, then has the smaller basis; and how many lanes of it fit at a time.

    What one lane with one reader allows decides orientation and tiling, so that they do not depend on the
    number of threads; more of either are then taken as memory allows.
    """
    machine = question.machine
    alone = question.on(replace(machine, threads=1, readers=1))
    single = min(
        (_lay_out(alone, transposed=transposed) for transposed in _orientations(question.facts)),
        key=lambda layout: (not layout.fits, layout.reads_per_pass, layout.N),
    )
    for threads in range(machine.threads, 0, -1):
        for readers in _halvings(machine.readers):
            more = question.on(replace(machine, threads=threads, readers=readers))
            layout = _lay_out(more, transposed=single.transposed)
            if layout.fits and layout.tiled == single.tiled:
                return layout, threads
    return single, 1


def _orientations(facts: SourceFacts) -> tuple[bool, ...]:
    """Whether B may be A, and whether Aᵀ; of sparse A that which has its lines as rows."""
    if facts.is_sparse:
        return (facts.lines_axis == 1,)
    return False, True


def _lay_out(question: Question, *, transposed: bool) -> Layout:
    """The first candidate of this orientation that fits, else the one that needs least."""
    machine, tried = question.machine, []
    for layout in _candidates(question, transposed=transposed):
        needed = sum(memory_terms(question, layout).values())
        on_device = sum(device_terms(question, layout).values())
        lacking = max(0, needed - machine.budget_bytes) + max(0, on_device - machine.device_budget_bytes)
        if lacking == 0:
            return layout
        tried.append((lacking, needed, layout))
    _, _, least = min(tried, key=lambda found: found[:2])
    return replace(least, fits=False)


def _candidates(question: Question, *, transposed: bool) -> Iterator[Layout]:
    """Panels of whole rows, large ones first, then tiles; each with a large basis before a small one.

    The last of each kind do not depend on the budget: a larger one refuses nothing that a smaller accepts.
    """
    request, facts, machine = question.request, question.facts, question.machine
    M, N = _turned(facts.shape, transposed=transposed)
    unit_rows, unit_cols = _turned(facts.chunks, transposed=transposed)
    piece = _turned(facts.piece if any(facts.piece) else facts.chunks, transposed=transposed)
    k = _wanted_rank(request, (M, N), question.dtype)
    width, narrow = question.method.block_widths(k, N)
    basis_share = int(0.3 * machine.budget_bytes / (16 * N))
    least_width = min(N, 2 * width)
    most_width = min(N, max(4 * width, _MAX_DENSE_WIDTH), max(2 * width, basis_share))
    between = (most_width - least_width) // 3
    max_widths = (most_width, least_width + 2 * between, least_width + between, least_width)
    features_axis = facts.samples_axis if transposed else facts.features_axis
    base = Layout(
        transposed, features_axis, M, N, k, facts.entry_bytes, unit_rows, unit_cols, M, N, 1, width, narrow,
        least_width,
        facts.stored_bytes, facts.reader, piece, facts.spare_bytes, facts.spare_ratio, facts.held_bytes,
        facts.packing, machine.readers, machine.has_own_memory, fits=True,
    )  # fmt: skip
    panel_bytes = _DEVICE_PANEL_BYTES if base.has_own_memory else _PANEL_BYTES
    wanted = min(int(panel_bytes / (N * facts.entry_bytes)) + 1, -(-M // _PANELS))
    for max_width in dict.fromkeys(max_widths):
        for units in _halvings(max(1, wanted // unit_rows)):
            yield replace(base, panel_rows=min(M, units * unit_rows), max_width=max_width)
    if not question.method.takes_tiles:
        return
    reads = 2 + (base.features_axis == 0 and request.standardized)
    tiled = replace(base, panel_rows=min(M, unit_rows), reads_per_pass=reads)
    for max_width in dict.fromkeys(max_widths):
        for units in _halvings(-(-N // unit_cols) // 2):
            yield replace(tiled, tile_cols=units * unit_cols, max_width=max_width)


def _turned(pair: tuple[int, int], *, transposed: bool) -> tuple[int, int]:
    """Rows and columns of A as those of B."""
    return (pair[1], pair[0]) if transposed else pair


def _wanted_rank(request: Request, shape: tuple[int, int], dtype: str) -> int:
    """k, or for ``k="auto"`` what the block is sized for."""
    if isinstance(request.k, int):
        return request.k
    if request.max_bytes is None:
        return min(_AUTO_WIDTH_K, *shape)
    one = np.dtype(dtype).itemsize * sum(shape) + 8
    k = min(*shape, request.max_bytes // one)
    if k == 0:
        raise RankError(
            f"max_bytes={request.max_bytes} holds no triplet: one takes {one} bytes", "allow at least that"
        )
    return k


def _halvings(count: int) -> list[int]:
    """count, count/2, ..., 1; nothing for 0."""
    return [count >> shift for shift in range(count.bit_length())]
