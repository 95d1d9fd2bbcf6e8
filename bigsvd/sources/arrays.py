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
from bigsvd.sources.base import AS_A_MATRIX, Axes, Source, hashed, line_chunks, reading_errors
from bigsvd.sources.blocks import MASK_CURE, Reader, dtype_with_nan
from bigsvd.sources.stacking import stacked
from bigsvd.sources.tokens import keep, kept


class ArraySource(Source):
    """A NumPy array in this process, read where it lies; a masked one needs `missing`.

    One of more axes than two is read where it lies too if its rows, or its columns, follow each other there.
    """

    _reader_kind = "memory"
    _called = ""  # what it is read from, where that has a name

    def __init__(
        self, array: Any, missing: str = "none", axes: Axes = AS_A_MATRIX, dims: tuple[str, ...] = ()
    ) -> None:
        self.counters = Counters()
        self._array = array
        given = getattr(array, "given", type(array))  # the caller's type, not that of a shell of ours
        kind = given.__name__
        self._stacking = stacked(self._called or kind, array.shape, array.dtype, axes, dims)
        self._asked = (axes, dims)
        shape, reader = self._stacking.lengths, self._reader_kind
        if not (self._stacking.is_matrix or _in_order(array, self._stacking.keeps_order)):
            reader = "foreign"
        dtype = np.dtype(array.dtype).newbyteorder("=")
        masked = isinstance(array, np.ma.MaskedArray) and bool(np.any(np.ma.getmaskarray(array)))
        if masked and missing == "none":
            raise SourceError(f"the masked array of shape {shape} hides entries", MASK_CURE)
        if masked:
            dtype, reader = dtype_with_nan(dtype), "foreign"
        name = f"<{given.__module__.split('.')[0]} array {'x'.join(map(str, shape))} {dtype.name}>"
        self._token = keep(self)
        self._reader = Reader(f"the {kind}", dtype, missing)
        known = _known_chunks(array, shape)
        matrix = self._stacking.shape
        chunks = self._stacking.unit(known) if known else line_chunks(matrix, dtype.itemsize)
        self.facts = SourceFacts(
            name, matrix, dtype.name, chunks, hashed(name), reader, masked=masked, dims=dims,
            array_shape=() if self._stacking.is_matrix else shape, array_axis=self._stacking.axis,
        )  # fmt: skip

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
            box = self._stacking.box(rows, cols)
            found = self._reader.block(self._array[box], tuple(side.stop - side.start for side in box))
            return self._stacking.lay(found, rows, cols)


class ForeignSource(ArraySource):
    """An array that another library reads when it is sliced: h5py, lazily opened xarray, older zarr, …"""

    _reader_kind = "foreign"


class MemmapSource(ArraySource):
    """A NumPy memory map of a whole file, which other processes on this machine can map again."""

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        a = self._array
        order = "C"
        if a.flags.f_contiguous and not a.flags.c_contiguous:
            order = "F"
        return _remap, (str(a.filename), a.dtype.str, a.shape, a.offset, order, *self._asked)

    @property
    def in_this_process_only(self) -> bool:
        """False: the file can be mapped again."""
        return False

    @property
    def places(self) -> tuple[Path, ...]:
        """The file."""
        return (Path(self._array.filename),)


class XarrayMatrix:
    """A lazily read xarray.DataArray as ``[slices]`` -> NumPy."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.given = type(data)
        self.shape = data.shape
        self.dtype = data.dtype
        stored: Mapping[Any, int] = data.encoding.get("preferred_chunks", {})
        self.chunks: tuple[int, ...] = ()
        if all(name in stored for name in data.dims):
            self.chunks = tuple(stored[name] for name in data.dims)

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        return self._data[key].to_numpy()


def maps_whole_file(data: Any) -> bool:
    """Whether its file can be mapped again to the same entries: it is no view, and not changed in memory."""
    mapped = isinstance(data, np.memmap) and isinstance(data.base, mmap.mmap)
    return mapped and data.filename is not None and data.mode != "c"


def _known_chunks(array: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The largest chunk along each axis; None if the array does not say."""
    chunks = getattr(array, "chunks", None)
    try:
        sides = tuple(int(np.max(lengths)) for lengths in chunks or ())
    except (TypeError, ValueError):
        return None
    if len(sides) != len(shape) or min(sides) < 1:
        return None
    return tuple(map(min, sides, shape))


def _in_order(array: Any, keeps_order: bool) -> bool:
    """Whether boxes of an array can be seen as rectangles where they lie."""
    return isinstance(array, np.ndarray) and array.flags.c_contiguous and keeps_order


def _remap(
    filename: str,
    dtype: str,
    shape: tuple[int, ...],
    offset: int,
    order: Any,
    axes: Axes,
    dims: tuple[str, ...],
) -> Source:
    mapped = np.memmap(filename, dtype=np.dtype(dtype), mode="r", shape=shape, offset=offset, order=order)
    return MemmapSource(mapped, axes=axes, dims=dims)
