"""`Source`: an m×n matrix on some medium that can be read in rectangles, and what is known of it beforehand.

A `Source` travels to workers by pickle and reopens itself there.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.chunks import Workspace
from bigsvd.errors import BigsvdError, DtypeError, ShapeError, SourceError, StorageError, first_line
from bigsvd.sentinels import Number

_PAIRS = ("shape", "chunks", "piece")
Rectangle = tuple[slice, slice]


@dataclass(frozen=True)
class Packing:
    """How stored entries stand for numbers: number = stored · scale + offset (CF conventions, section 8.1).

    Attributes:
        scale, offset: CF's `scale_factor` and `add_offset`.
        fills: stored values that stand for no number at all (CF's `_FillValue` and `missing_value`).

    """

    scale: float = 1.0
    offset: float = 0.0
    fills: tuple[Number, ...] = ()

    @property
    def packed(self) -> bool:
        """Whether a stored entry and its number differ."""
        return self.scale != 1.0 or self.offset != 0.0

    def __str__(self) -> str:
        parts = [f"stored · {self.scale:g} + {self.offset:g}"] if self.packed else []
        if self.fills:
            parts.append(f"{' and '.join(f'{fill:g}' for fill in self.fills)} for no value")
        return ", ".join(parts)


AS_STORED = Packing()


@dataclass(frozen=True)
class SourceFacts:
    """What is known of A before any of it is read.

    Attributes:
        name: path, URL or description.
        shape: (m, n).
        dtype: NumPy name of the element type, in native byte order.
        chunks: rows and columns that are stored, and so best read, together (the shard where there is one).
        fingerprint: hash of the metadata; two sources that differ in it are different sources.
        reader: "memory" where reading is a view, "direct" where chunks are decoded one after another straight
            into place (`ChunkReader`), "pipeline" where another library decodes several at a time. "foreign"
            where another library reads or computes them in memory that nobody knows beforehand, "measured"
            once a `Rehearsal` has told.
        stored_bytes: of a chunk or shard, decoded, which may reach beyond the matrix; 0 if that is `chunks`.
        piece: rows and columns of a chunk, also where it lies in a shard; (0, 0) if that is `chunks`.
        spare_bytes: what this reader takes for a chunk besides: copies that stores and codecs make. Where it
            is "measured", what it takes besides the result for any rectangle, and
        spare_ratio: for each byte of the result in addition.
        held_bytes: what a process holds all the time to read at all.
        masked: whether masked entries were turned into NaN, which then mean missing.
        packing: how stored entries stand for the numbers of A.

    """

    name: str
    shape: tuple[int, int]
    dtype: str
    chunks: tuple[int, int]
    fingerprint: str
    reader: str = "pipeline"
    stored_bytes: int = 0
    piece: tuple[int, int] = (0, 0)
    spare_bytes: int = 0
    spare_ratio: float = 0.0
    held_bytes: int = 0
    masked: bool = False
    packing: Packing = AS_STORED

    @property
    def marks_gaps(self) -> bool:
        """Whether the source itself says which entries have no value."""
        return self.masked or bool(self.packing.fills)

    @property
    def itemsize(self) -> int:
        """Bytes of one entry."""
        return np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of A, uncompressed."""
        return self.shape[0] * self.shape[1] * self.itemsize

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        lists = {name: list(getattr(self, name)) for name in _PAIRS}
        packing = asdict(self.packing) | {"fills": list(self.packing.fills)}
        return asdict(self) | lists | {"packing": packing}

    def same_data(self, other: SourceFacts) -> bool:
        """Whether both are of the same data, however much memory reading it was measured to take."""
        return self._as_opened() == other._as_opened()

    def _as_opened(self) -> SourceFacts:
        """The facts as they were before a rehearsal."""
        if self.reader != "measured":
            return replace(self, masked=False)
        return replace(self, reader="foreign", spare_bytes=0, spare_ratio=0.0, held_bytes=0, masked=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SourceFacts:
        """The inverse of `to_dict`."""
        pairs = {name: tuple(values[name]) for name in _PAIRS}
        packing = values.get("packing", {})
        packing = Packing(**{**packing, "fills": tuple(packing.get("fills", ()))})
        return cls(**{**values, **pairs, "packing": packing})


@dataclass
class ReadCounters:
    """What a source has read since it was opened: encoded bytes, absent chunks taken as fill, retries."""

    encoded_bytes: int = 0
    filled_chunks: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Rehearsal:
    """What reading rectangles before a run has told of a source.

    Attributes:
        spare_bytes, spare_ratio, held_bytes, masked: as in `SourceFacts`.
        shared: intermediate results that several rectangles need, by their names.

    """

    spare_bytes: int
    spare_ratio: float
    held_bytes: int
    masked: bool
    shared: dict[Any, Any]


class Source(ABC):
    """An m×n matrix on some medium.

    Laws: `read` returns the same entries as ``np.asarray(A)[rows, cols]``; a pickled copy reads the same.
    """

    facts: SourceFacts
    counters: ReadCounters

    @abstractmethod
    def read(self, rows: slice, cols: slice, space: Workspace | None = None) -> np.ndarray:
        """The entries of a rectangle, native byte order; the caller must not write into it.

        With `space` they may lie in its memory, and then until it is used again. One thread
        at a time: each takes a `fresh` source.
        """

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """What changes when somebody writes into the rectangle, as far as is known without reading it."""
        del rows, cols
        return None

    @property
    def on_disk(self) -> bool:
        """Whether its chunks are files here that are read by this module, past the page cache if asked."""
        return False

    @property
    def places(self) -> tuple[Path, ...]:
        """Files and folders of this machine that hold the entries, as far as known; no run deletes them."""
        return ()

    def fresh(self) -> Source:
        """The same source with counters of its own, for one lane."""
        other = object.__new__(type(self))  # copy.copy would go through __reduce__, and so to the original
        other.__dict__.update(self.__dict__)
        other.counters = ReadCounters()
        return other

    @property
    def in_this_process_only(self) -> bool:
        """Whether a worker in another process could not reach the data."""
        return False

    def sent(self) -> Source:
        """The source as it can be sent to other processes; `SourceError` where it cannot."""
        if self.in_this_process_only:
            raise SourceError(
                f"{self.facts.name} lives in this process, where the cluster's workers cannot read it",
                "store it as Zarr, or run without a client",
            )
        return self

    def part(self, rectangles: list[Rectangle]) -> Source:
        """The source as far as these rectangles need it, where sending all of it would be much."""
        del rectangles
        return self

    def persisted(self, rectangles: list[Rectangle]) -> dict[Any, Any]:
        """Futures of Dask, by name, of what a `part` needs besides: their values are for its `given`."""
        del rectangles
        return {}

    def given(self, values: dict[Any, Any]) -> Source:
        """The source with the values of its `persisted`."""
        del values
        return self

    @property
    def carried_bytes(self) -> int:
        """Bytes that are sent with it, where that may be much."""
        return 0

    def limited(self, limit_bytes: int) -> Source:
        """A fresh one that raises `MemoryBudgetError` where it sees itself holding more than that."""
        del limit_bytes
        return self.fresh()

    @property
    def shared(self) -> dict[Any, Any]:
        """Intermediate results that are kept because several rectangles need them, by their names."""
        return {}

    @property
    def awaited(self) -> list[Any]:
        """Futures of a Dask client that reading waits for."""
        return []

    @property
    def met_masks(self) -> bool:
        """Whether masked entries were met, and turned into NaN, where nothing had announced them."""
        return False

    @property
    def held_bytes(self) -> int:
        """Bytes that are held all the time to read at all, once it has read."""
        return 0

    def adopt(self, rehearsal: Rehearsal) -> None:
        """Take in what a rehearsal has told."""
        self.facts = replace(
            self.facts,
            reader="measured",
            spare_bytes=rehearsal.spare_bytes,
            spare_ratio=rehearsal.spare_ratio,
            held_bytes=rehearsal.held_bytes,
            masked=self.facts.masked or rehearsal.masked,
        )


class _Elsewhere(Source):
    """Stands for a source that is sent apart from what needs it."""

    def read(self, rows: slice, cols: slice, space: Workspace | None = None) -> np.ndarray:
        """Never called."""
        raise NotImplementedError


ELSEWHERE = _Elsewhere()


@contextmanager
def reading_errors(name: str, rows: slice, cols: slice) -> Iterator[None]:
    """Name the rectangle, and the type and text of whatever another library raises while it is read."""
    try:
        yield
    except BigsvdError:
        raise
    except Exception as error:
        where = f"rows {rows.start}:{rows.stop}, columns {cols.start}:{cols.stop} of {name}"
        said = f"reading {where} raised {type(error).__name__}: {first_line(error)}"
        if isinstance(error, OSError):
            raise StorageError(said, "remove the cause and run again to resume") from error
        raise SourceError(said, "mend what it is read with, or store it as Zarr first") from error


def check_matrix(name: str, shape: Iterable[Any], dtype: Any) -> tuple[int, int]:
    """The shape as (m, n) of Python's integers; `ShapeError` or `DtypeError` for what is no real matrix."""
    lengths = _lengths(name, shape)
    if len(lengths) > 2:
        raise ShapeError(
            f"{name} has shape {lengths}",
            f"give a matrix (two axes): {flattening(lengths)}",
        )
    if len(lengths) == 1:
        raise ShapeError(f"{name} has shape {lengths}", "give a matrix (two axes); sparse is not read yet")
    if len(lengths) != 2 or min(lengths) < 1:
        raise ShapeError(f"{name} has shape {lengths}", "give a matrix (two axes) with at least one entry")
    dtype = numpy_dtype(name, dtype)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DtypeError(
            f"{name} has dtype {dtype}, not bool, int8..int64, uint8..uint64 or float16/32/64",
            _advice(dtype),
        )
    return lengths[0], lengths[1]


def numpy_dtype(name: str, dtype: Any) -> np.dtype[Any]:
    """An element type as NumPy's; `DtypeError` where NumPy has none such."""
    try:
        if dtype is not None:  # of which NumPy would make float64
            known: np.dtype[Any] = np.dtype(dtype)
            return known
    except TypeError:
        pass
    raise DtypeError(
        f"{name} has dtype {dtype}, which is none of NumPy's",
        "give it as a NumPy array, such as numpy.asarray(x)",
    )


def _lengths(name: str, shape: Iterable[Any]) -> tuple[int, ...]:
    """The lengths of the axes as Python's integers."""
    try:
        return tuple(index(length) for length in shape)
    except TypeError as error:
        raise ShapeError(
            f"{name} has shape {shape}, which is not of integers", "give a matrix whose size is known"
        ) from error


def flattening(lengths: tuple[int, ...]) -> str:
    """How an array of more axes becomes a matrix."""
    joined = f"dask.array.from_zarr(path).reshape({lengths[0]}, {math.prod(lengths[1:])})"
    return f"join all axes but one by {joined} or xarray's stack, or take a slice"


def _advice(dtype: np.dtype[Any]) -> str:
    """What to do with entries of a type that has no arithmetic here."""
    if dtype.kind == "c":
        return "decompose the real [[Re, -Im], [Im, Re]] with twice the k: it has each singular value twice"
    if dtype.kind in "mM":
        return "convert times to numbers of one unit first, such as seconds since the first"
    if dtype.kind == "f":
        return "convert it to float64 first"
    return "convert it to numbers first"


def hashed(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
