"""A source that lives only here: a matrix computed from its indices.

It shows what a new source takes: this file, and a subclass of its laws.
"""

from __future__ import annotations

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.counters import Counters
from bigsvd.facts import SourceFacts
from bigsvd.sources.base import Source


class HilbertSource(Source):
    """A[i, j] = 1/(i + 2j + 1), which is stored nowhere."""

    def __init__(self, rows: int, cols: int, chunks: tuple[int, int]) -> None:
        name = f"<Hilbert matrix {rows}x{cols}>"
        self.counters = Counters()
        self.facts = SourceFacts(name, (rows, cols), "float64", chunks, fingerprint=name)

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`."""
        del space
        i, j = np.arange(rows.start, rows.stop), np.arange(cols.start, cols.stop)
        return 1.0 / (i[:, np.newaxis] + 2.0 * j + 1.0)
