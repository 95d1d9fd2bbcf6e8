"""Which panels the warm start's sample has: pure arithmetic."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from bigsvd.planning.layout import Layout
from bigsvd.request import Request

# Share of the panels in the sample, and the most that it may be where the data are small. Chosen, like the
# following, on the families of `benchmarks passes` (benchmarks/results/passes-small.md).
SAMPLE_SHARE = 0.1
_LARGEST_SAMPLE_SHARE = 1 / 3
# Rows of the sample for each column of the first block, with which it shows the leading directions well.
_SAMPLE_ROWS_A_COLUMN = 160
# Panels that there must be for a sample of them to save anything, and that a sample has at least.
_PANELS_WORTH_SAMPLING = 8
_LEAST_SAMPLE_PANELS = 4


def sample_panels(request: Request, layout: Layout, kept_bytes: int) -> tuple[int, ...]:
    """Panels for the warm start, one at random from each of as many equal stretches; none of a few panels.

    A tenth of the data, and of small data up to a third: how well a sample shows directions depends on its
    rows, not on their share. No more than a tenth where that cannot be kept: it is gone over several times.
    """
    panels = -(-layout.M // layout.panel_rows)
    if panels < _PANELS_WORTH_SAMPLING or layout.tiled or layout.width >= layout.N:
        return ()
    panel_bytes = layout.panel_rows * layout.N * layout.itemsize
    kept = panels if layout.reader == "memory" else int(kept_bytes // panel_bytes)
    enough = -(-_SAMPLE_ROWS_A_COLUMN * layout.narrow // layout.panel_rows)
    wanted = max(math.ceil(SAMPLE_SHARE * panels), min(enough, int(_LARGEST_SAMPLE_SHARE * panels)))
    least = max(math.ceil(SAMPLE_SHARE * panels), min(_LEAST_SAMPLE_PANELS, panels // 2))
    count = max(least, min(wanted, kept))
    edges = [panels * i // count for i in range(count + 1)]
    random = np.random.default_rng([request.seed, 1])
    return tuple(int(random.integers(first, last)) for first, last in pairwise(edges))


def share_of(sample: tuple[int, ...], layout: Layout) -> float:
    """Rows of these panels, of all."""
    return min(1.0, len(sample) * layout.panel_rows / layout.M)
