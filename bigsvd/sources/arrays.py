"""Arrays of this process as sources: NumPy's, memory maps, and any with ``shape``, ``dtype`` and ``[…]``."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.counters import Counters
from bigsvd.errors import SourceError
from bigsvd.facts import SourceFacts
from bigsvd.sources.base import Source, check_matrix, hashed, line_chunks, reading_errors
from bigsvd.sources.blocks import MASK_CURE, Reader, dtype_with_nan
from bigsvd.sources.tokens import keep, kept


class ArraySource(Source):
    """A NumPy array in this process, read where it lies; a masked one needs `missing`."""

    def __init__(self, array: Any, missing: str = "none", reader: str = "memory") -> None:
        self.counters = Counters()
        self._array = array
        given = getattr(array, "given", type(array))  # the caller's type, not that of a shell of ours
        kind = given.__name__
        shape = check_matrix(kind, array.shape, array.dtype)
        dtype = np.dtype(array.dtype).newbyteorder("=")
        masked = isinstance(array, np.ma.MaskedArray) and bool(np.any(np.ma.getmaskarray(array)))
        if masked and missing == "none":
            raise SourceError(f"the masked array of shape {shape} hides entries", MASK_CURE)
        if masked:
            dtype, reader = dtype_with_nan(dtype), "foreign"
        name = f"<{given.__module__.split('.')[0]} array {shape[0]}x{shape[1]} {dtype.name}>"
        self._token = keep(self)
        self._reader = Reader(f"the {kind}", dtype, missing)
        chunks = _known_chunks(array, shape) or line_chunks(shape, dtype.itemsize)
        self.facts = SourceFacts(name, shape, dtype.name, chunks, hashed(name), reader, masked=masked)

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return kept, (self._token,)

    @property
    def in_this_process_only(self) -> bool:
        """True: what travels is a reference to the array."""
        return True

    @property
    def met_masks(self) -> bool:
        """See `Source.met_masks`."""
        return self._reader.masked

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`; the result is a view if the array allows one."""
        del space
        with reading_errors(self.facts.name, rows, cols):
            found = self._array[rows, cols]
            return self._reader.block(found, (rows.stop - rows.start, cols.stop - cols.start))


class ForeignSource(ArraySource):
    """An array that another library reads when it is sliced: h5py, lazily opened xarray, older zarr, …"""

    def __init__(self, array: Any, missing: str = "none") -> None:
        super().__init__(array, missing, "foreign")


class MemmapSource(ArraySource):
    """A NumPy memory map of a whole file, which other processes on this machine can map again."""

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        a = self._array
        order = "C"
        if a.flags.f_contiguous and not a.flags.c_contiguous:
            order = "F"
        return _remap, (str(a.filename), a.dtype.str, a.shape, a.offset, order)

    @property
    def in_this_process_only(self) -> bool:
        """False: the file can be mapped again."""
        return False

    @property
    def places(self) -> tuple[Path, ...]:
        """The file."""
        return (Path(self._array.filename),)


class XarrayMatrix:
    """A lazily read xarray.DataArray as ``[rows, cols]`` -> NumPy."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.given = type(data)
        self.shape = data.shape
        self.dtype = data.dtype
        stored: Mapping[Any, int] = data.encoding.get("preferred_chunks", {})
        self.chunks: tuple[int, ...] = ()
        if all(name in stored for name in data.dims):
            self.chunks = tuple(stored[name] for name in data.dims)

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        return self._data[key].to_numpy()


def maps_whole_file(data: Any) -> bool:
    """Whether its file can be mapped again to the same entries: it is no view, and not changed in memory."""
    mapped = isinstance(data, np.memmap) and isinstance(data.base, mmap.mmap)
    return mapped and data.filename is not None and data.mode != "c"


def _known_chunks(array: Any, shape: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns of the largest chunk along each axis; None if the array does not say."""
    chunks = getattr(array, "chunks", None)
    try:
        rows, cols = (int(np.max(lengths)) for lengths in chunks or ())
    except (TypeError, ValueError):
        return None
    if min(rows, cols) < 1:
        return None
    return min(rows, shape[0]), min(cols, shape[1])


def _remap(filename: str, dtype: str, shape: tuple[int, int], offset: int, order: Any) -> Source:
    return MemmapSource(
        np.memmap(filename, dtype=np.dtype(dtype), mode="r", shape=shape, offset=offset, order=order)
    )
