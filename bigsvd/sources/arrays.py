"""Arrays in this process as sources: NumPy, memory maps, whatever has ``shape``, ``dtype`` and ``[…]``."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

from bigsvd.chunks import Workspace
from bigsvd.device import as_numpy
from bigsvd.errors import SourceError
from bigsvd.sources.base import ReadCounters, Source, SourceFacts, check_matrix, hashed
from bigsvd.sources.tokens import keep, kept


class ArraySource(Source):
    """An array in this process: NumPy, or anything with ``shape``, ``dtype`` and ``[rows, cols]``."""

    def __init__(self, array: Any) -> None:
        self.counters = ReadCounters()
        self._array = array
        shape = check_matrix(type(array).__name__, tuple(array.shape), np.dtype(array.dtype))
        dtype = np.dtype(array.dtype).newbyteorder("=")
        name = f"<{type(array).__module__.split('.')[0]} array {shape[0]}x{shape[1]} {dtype.name}>"
        self._token = keep(self)
        self.facts = SourceFacts(
            name, shape, dtype.name, _line_chunks(shape, dtype.itemsize), hashed(name), "memory"
        )

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return kept, (self._token,)

    @property
    def in_this_process_only(self) -> bool:
        """True: the array is a reference."""
        return True

    def read(self, rows: slice, cols: slice, space: Workspace | None = None) -> np.ndarray:
        """See `Source.read`; a view where the array allows one."""
        del space
        block = as_numpy(self._array[rows, cols])
        if block.shape != (rows.stop - rows.start, cols.stop - cols.start):
            kind = type(self._array).__name__
            raise SourceError(f"a block of the {kind} has shape {block.shape}", "give a dense array")
        return block if block.dtype.isnative else block.astype(block.dtype.newbyteorder("="))


class MemmapSource(ArraySource):
    """A NumPy memory map of a whole file, which other processes on this machine can map again."""

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        a = self._array
        order = "F" if a.flags.f_contiguous and not a.flags.c_contiguous else "C"
        return _remap, (str(a.filename), a.dtype.str, a.shape, a.offset, order)

    @property
    def in_this_process_only(self) -> bool:
        """False: the file can be mapped again."""
        return False


class XarrayMatrix:
    """A lazily read xarray.DataArray as ``[rows, cols]`` -> NumPy."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.shape = data.shape
        self.dtype = data.dtype

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        return np.asarray(self._data[key].to_numpy())


def maps_whole_file(data: Any) -> bool:
    """Whether its file can be mapped again to the same entries: neither a view nor changed in memory."""
    mapped = isinstance(data, np.memmap) and isinstance(data.base, mmap.mmap)
    return mapped and data.filename is not None and data.mode != "c"


def _line_chunks(shape: tuple[int, int], itemsize: int, target_bytes: int = 2**22) -> tuple[int, int]:
    """Rows of an in-memory array to be handled as one chunk."""
    return min(shape[0], max(1, target_bytes // (shape[1] * itemsize))), shape[1]


def _remap(filename: str, dtype: str, shape: tuple[int, int], offset: int, order: Any) -> Source:
    return MemmapSource(
        np.memmap(filename, dtype=np.dtype(dtype), mode="r", shape=shape, offset=offset, order=order)
    )
