"""A 2-D Dask array as a source."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigsvd.chunks import Workspace
from bigsvd.device import as_numpy
from bigsvd.sources.base import ReadCounters, Source, SourceFacts, check_matrix, hashed


class DaskSource(Source):
    """A 2-D Dask array; a rectangle is computed where it is needed, in the calling thread."""

    def __init__(self, array: Any) -> None:
        self.counters = ReadCounters()
        self._array = array
        shape = check_matrix("the Dask array", tuple(array.shape), np.dtype(array.dtype))
        dtype = np.dtype(array.dtype).newbyteorder("=")
        chunks = (max(array.chunks[0]), max(array.chunks[1]))
        self.facts = SourceFacts(f"<dask array {array.name}>", shape, dtype.name, chunks, hashed(array.name))

    def __reduce__(self) -> tuple[type[DaskSource], tuple[Any]]:
        return DaskSource, (self._array,)

    def read(self, rows: slice, cols: slice, space: Workspace | None = None) -> np.ndarray:
        """See `Source.read`."""
        del space
        block = as_numpy(self._array[rows, cols].compute(scheduler="synchronous"))
        return block if block.dtype.isnative else block.astype(block.dtype.newbyteorder("="))
