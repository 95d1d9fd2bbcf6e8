"""What it costs to make slabs of entries, measured by doing so."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bigsvd.devices.base import Device
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.slab import Slab
from bigsvd.slabs.sparse import SparseRows
from bigsvd.slabs.standardize import written_out
from bigsvd.slabs.statistics import ColumnStatistics, Statistics, StatisticsKernel
from bigsvd.slabs.transform import NOTHING, MeansAndDivisors, Transform

_REPEATS = 3


class Making:
    """Slabs made of entries `raw` (r, c) of A, as they are stored, for products in `dtype`.

    They are standardised by means 0 and divisors 1, which takes as long as by others.
    """

    def __init__(
        self, device: Device, transform: Transform, raw: np.ndarray | SparseRows, dtype: str
    ) -> None:
        rows, cols = (slice(0, length) for length in raw.shape)
        lines = MeansAndDivisors.neutral(raw.shape[1])
        kernel = StatisticsKernel(transform, (raw.shape[0], raw.shape[1]), raw.dtype)
        self._nothing = np.zeros((raw.shape[1], 0), dtype)
        self._entries = Entries(device, transform, raw, raw.dtype, rows, cols)
        # A first pass has found that no entry is missing, where nothing is to fill such.
        self._later = replace(self._entries, transform=transform.settled)
        self._standardization = written_out(transform, dtype, device.space(), raw.shape[1], lines, None)
        self._statistics = (
            ColumnStatistics(kernel, None, lines, NOTHING)
            if transform.by_columns
            else Statistics(kernel, None)
        )

    def seconds(self) -> float:
        """Seconds an entry without statistics."""
        return self._least(lambda: self._ready(self._standardization.slab(self._later)))

    def seconds_with_statistics(self) -> float:
        """Seconds an entry in a first pass."""
        return self._least(self._first)

    def _first(self) -> None:
        slab = self._standardization.slab(self._entries, (self._statistics,))
        self._ready(slab)
        self._statistics.forward(slab)

    def _ready(self, slab: Slab) -> None:
        """See that a slab that waits for products is made."""
        slab.times(self._nothing)

    def _least(self, do: Callable[[], object]) -> float:
        """The least that it took, a few times after one that is not counted: others may use this machine."""
        with np.errstate(all="ignore"):
            least = min([_timed(do) for _ in range(1 + _REPEATS)][1:])
        return least / math.prod(self._entries.shape)


def _timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start
