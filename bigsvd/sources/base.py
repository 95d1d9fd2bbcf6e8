"""`Source`: an m×n matrix on some medium that can be read in rectangles, and what is known of it beforehand.

A `Source` travels to workers by pickle and reopens itself there.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.counters import Counters
from bigsvd.errors import (
    BigsvdError,
    DtypeError,
    RequestError,
    ShapeError,
    SourceError,
    StorageError,
    first_line,
)
from bigsvd.facts import ALLELES, SourceFacts
from bigsvd.orientation import BY_ROWS, Orientation
from bigsvd.slabs.block import Block, DenseBlock

# Bytes of the rows that are treated as one chunk if an array has no chunks; chosen, not measured.
_CHUNK_BYTES = 2**22

Rectangle = tuple[slice, slice]
KeptLines = tuple[np.ndarray | None, np.ndarray | None]  # ids of rows and columns; None is all


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


SIDES = ("rows", "columns")  # what the samples of a matrix may be called


@dataclass(frozen=True)
class Axes:
    """What a request says of the axes of its source.

    Attributes:
        samples: "rows" or "columns" of a matrix, or the name of an axis.
        dim: the axis that numbers the samples, by name or number; the others are stacked to features.
        sum: the last axis, by name or number, where it is to be summed over.

    """

    samples: str = "rows"
    dim: str | int | None = None
    sum: str | int | None = None

    @property
    def of_samples(self) -> str | int | None:
        """The axis of the samples, where the request names it: as `dim`, or by the name of `samples`."""
        if self.dim is not None or self.samples in SIDES:
            return self.dim
        return self.samples


AS_A_MATRIX = Axes()


@dataclass(frozen=True)
class Reading:
    """What a request says of how its source is read, but for the lines that are taken of it.

    Attributes:
        axes: what the axes of the array are.
        decode: whether CF attributes are applied.
        missing: the rule for missing entries; unless it is "none" masked ones are read as NaN.
        fill_missing: whether chunks that do not exist are read as the fill value.

    """

    axes: Axes = AS_A_MATRIX
    decode: bool = True
    missing: str = "none"
    fill_missing: bool = False


class Source(ABC):
    """An m×n matrix on some medium.

    Laws: `read` returns the same entries as ``np.asarray(A)[rows, cols]``; a pickled copy reads the same.
    """

    facts: SourceFacts
    counters: Counters

    @abstractmethod
    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """The entries of a rectangle, native byte order; the caller must not write into it.

        With `space` they may lie in its memory, and then until it is used again. One thread
        at a time: each takes a `fresh` source.
        """

    def block(self, rows: slice, cols: slice, space: ReadBuffers) -> Block:
        """The same as a block, in the form in which this source has it."""
        array = self.read(rows, cols, space)
        if array.flags.f_contiguous and not array.flags.c_contiguous:
            return DenseBlock(array.T).T
        return DenseBlock(array)

    @property
    def orientation(self) -> Orientation:
        """What its rows and columns are in the matrix that a run was given."""
        return BY_ROWS

    @property
    def kept(self) -> KeptLines:
        """Which rows and columns of a larger matrix it has, ascending (c,) int64; None where it has all."""
        return None, None

    @property
    def asked_order(self) -> KeptLines:
        """Where each of its rows and columns is among those that were asked for; None if in that order."""
        return None, None

    def where(self, row: int, column: int) -> str:
        """Where an entry is, in the words of whoever gave the data."""
        return self.facts.place(row, column)

    def wanting(self, rows: np.ndarray | None, cols: np.ndarray | None) -> Source:
        """The same source, told that only these lines of it, ascending, are of use; None for all.

        Of a chunk that several rectangles have parts of it then knows which of them is to count it.
        """
        del rows, cols
        return self

    def as_floats(self) -> Source:
        """The same source, where it can be with entries that are read as float32, or float64 if they are."""
        return self

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """What changes when somebody writes into the rectangle, as far as is known without reading it."""
        del rows, cols
        return None

    def absent_chunks(self, rows: slice, cols: slice) -> int:
        """How many chunks of the rectangle do not exist, where a look at folders tells; else 0.

        `ChunkMissingError` unless such chunks are to be read as the fill value.
        """
        del rows, cols
        return 0

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
        other.counters = Counters()
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

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
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


def lengths_of(name: str, shape: Iterable[Any]) -> tuple[int, ...]:
    """The lengths of the axes as Python's integers."""
    try:
        return tuple(index(length) for length in shape)
    except TypeError as error:
        raise ShapeError(
            f"{name} has shape {shape}, which is not of integers", "give a matrix whose size is known"
        ) from error


def advice_on(dtype: np.dtype[Any]) -> str:
    """What to do with entries of a type that has no arithmetic here."""
    if dtype.kind == "c":
        return "decompose the real [[Re, -Im], [Im, Re]] with twice the k: it has each singular value twice"
    if dtype.kind in "mM":
        return "convert times to numbers of one unit first, such as seconds since the first"
    if dtype.kind == "f":
        return "convert it to float64 first"
    return "convert it to numbers first"


def line_chunks(shape: tuple[int, int], itemsize: int) -> tuple[int, int]:
    """The whole rows of an array without chunks that are treated as one chunk."""
    rows = _CHUNK_BYTES // (shape[1] * itemsize)
    return min(shape[0], max(1, rows)), shape[1]


def stamp_of(file: Path | str) -> Hashable:
    """Size and time of last change of a file, which change when somebody writes into it."""
    try:
        status = os.stat(file)  # noqa: PTH116 - of many files, by name
    except OSError:
        return (-1, 0, 0)
    return (status.st_size, status.st_mtime_ns, status.st_ino)


def hashed(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def axis_of(name: str, asked: str | int, lengths: Sequence[int], names: Sequence[str]) -> int:
    """The number of an axis that is asked for by name or number; `RequestError` where there is none such."""
    if not isinstance(asked, (str, int, np.integer)):
        raise RequestError(
            f"an axis of {name} is asked for by a {type(asked).__name__}",
            f"give one by its name or number: {axis_names(lengths, names)}",
        )
    if asked in names:
        return list(names).index(str(asked))
    try:
        number = int(asked)  # on the command line a number is a text
    except ValueError:
        number = len(lengths)
    if -len(lengths) <= number < len(lengths):
        return number % len(lengths)
    raise RequestError(
        f"{name} has no axis {asked!r}; its shape is {tuple(lengths)}", f"give {axis_names(lengths, names)}"
    )


def has_alleles(names: Sequence[str]) -> bool:
    """Whether the last axis is that of the alleles of genotypes."""
    return list(names[-1:]) == [ALLELES]


def axis_names(lengths: Sequence[int], names: Sequence[str]) -> str:
    """What the axes of an array can be called by, in words."""
    known = [name for name in names if name] or list(map(str, range(len(lengths))))
    return " or ".join([", ".join(known[:-1]), known[-1]])
