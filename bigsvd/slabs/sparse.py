"""`SparseBlock`: a block that holds the entries that are not 0, and `SparseRows`, some rows of it.

Both are on the host. Rows become dense a piece at a time, where they are used.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, ClassVar

import google_crc32c
import numpy as np

from bigsvd.errors import SourceError
from bigsvd.facts import FEW
from bigsvd.slabs.block import Array, Block

INDEX_DTYPE: np.dtype[Any] = np.dtype(np.int32)  # of places within a block
_WORD = 8  # bytes at which each part of a block's memory begins


@cache
def scipy_sparse() -> Any:
    """The module `scipy.sparse`; `SourceError` where SciPy is not installed."""
    try:
        return importlib.import_module("scipy.sparse")
    except ImportError as error:
        raise SourceError(
            "reading sparse matrices takes SciPy, which is not installed", "pip install 'bigsvd[sparse]'"
        ) from error


def packed_bytes(rows: float, count: float, dtype: np.dtype[Any]) -> float:
    """Bytes of a block of so many rows with so many entries that are stored."""
    return INDEX_DTYPE.itemsize * (rows + count) + dtype.itemsize * count


@dataclass(frozen=True, eq=False)
class SparseBlock:
    """Rows of a matrix in CSR form, or its transpose, in one piece of memory.

    Attributes:
        packed: (1, bytes) uint8: where rows begin (r + 1,), columns (c,) int32, and entries (c,), each part
            from a multiple of 8 bytes on. In each row columns ascend, and each is there once.
        lines: (r, columns) of the rows as they lie in memory. count: entries that are stored.
        dtype: of the entries. flipped: whether the block is the transpose.

    """

    packed: Array
    lines: tuple[int, int]
    count: int
    dtype: np.dtype[Any]
    flipped: bool = False
    stays_on_host: ClassVar[bool] = True

    @classmethod
    def of(cls, matrix: Any, take: Callable[[int], np.ndarray]) -> SparseBlock:
        """A copy of a matrix of SciPy in CSR form; `take` gives so many bytes (uint8) of memory."""
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        made = cls.empty(matrix.shape, matrix.nnz, np.dtype(matrix.dtype), take)
        starts, columns, entries = made.parts
        starts[:], columns[:], entries[:] = matrix.indptr, matrix.indices, matrix.data
        return made

    @classmethod
    def joined(cls, grid: Sequence[Sequence[Any]]) -> Block:
        """Matrices of SciPy that lie beside each other and in rows of such, all in CSR form or all in CSC."""
        by_columns = grid[0][0].format == "csc"
        whole = scipy_sparse().bmat(grid, format="csc" if by_columns else "csr")
        if by_columns:
            return cls.of(whole.T, own_memory).T
        return cls.of(whole, own_memory)

    @classmethod
    def empty(
        cls, lines: tuple[int, int], count: int, dtype: np.dtype[Any], take: Callable[[int], np.ndarray]
    ) -> SparseBlock:
        """One whose `parts` hold anything, for the caller to fill."""
        size = _edges(lines[0], count, dtype)[-1]
        return cls(take(size).reshape(1, size), lines, count, dtype)

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where rows begin (r + 1,), columns (c,) and entries (c,), in the block's memory."""
        flat = self.packed.reshape(-1)
        first, second, last = _edges(self.lines[0], self.count, self.dtype)
        starts = flat[: INDEX_DTYPE.itemsize * (self.lines[0] + 1)].view(INDEX_DTYPE)
        columns = flat[first : first + INDEX_DTYPE.itemsize * self.count].view(INDEX_DTYPE)
        return starts, columns, flat[second:last].view(self.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """See `Block.shape`."""
        return self.lines[::-1] if self.flipped else self.lines

    @property
    def nbytes(self) -> int:
        """See `Block.nbytes`."""
        size: int = self.packed.nbytes
        return size

    def bytes_of(self, itemsize: int) -> int:
        """See `Block.bytes_of`; places lie beside the entries."""
        del itemsize
        return self.nbytes

    @property
    def T(self) -> Block:  # noqa: N802
        """See `Block.T`."""
        return replace(self, flipped=not self.flipped)

    def checksum(self) -> int:
        """See `Block.checksum`; of the entries that are stored, and their places."""
        found = 0
        for part in self.parts:
            found = google_crc32c.extend(found, part.view(np.uint8))
        return found

    def moved(self, move: Callable[[Array], Array]) -> Block:
        """See `Block.moved`."""
        return replace(self, packed=move(self.packed))

    def rows(self, some: slice) -> SparseRows:
        """See `Block.rows`."""
        whole = some.indices(self.shape[0]) == (0, self.shape[0], 1)
        return SparseRows(self.matrix if whole else self.matrix[some])

    @cached_property
    def matrix(self) -> Any:
        """The block as a matrix of SciPy over the same memory."""
        starts, columns, entries = self.parts
        made = scipy_sparse().csr_matrix((entries, columns, starts), shape=self.lines, copy=False)
        made.has_canonical_format = True
        return made.T if self.flipped else made


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Some rows of a matrix, seen as an array of which parts become dense when they are taken."""

    matrix: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.matrix.shape
        return rows, cols

    @property
    def size(self) -> int:
        """Entries, those that are 0 too."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the entries."""
        found: np.dtype[Any] = self.matrix.dtype
        return found

    @property
    def are_few(self) -> bool:
        """Whether so few of their entries are not 0 that products of these alone are faster."""
        count: int = self.matrix.nnz
        return count <= FEW * self.size

    @property
    def in_float64(self) -> Any:
        """The matrix in this precision, in the same form; places are not copied."""
        return with_entries(self.matrix, self.matrix.data.astype(np.float64))

    @property
    def strides(self) -> tuple[int, int]:
        """As of a dense array in C order: pieces are made row by row."""
        return self.shape[1], 1

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        """The entries that a NumPy array of these rows would give for slices, or for one row or column."""
        key = tuple(part for part in key if part is not ...)
        rows, cols = (*key, slice(None))[:2]
        if isinstance(rows, int):
            return np.asarray(_dense(self.matrix[[rows]])[0, cols])
        if isinstance(cols, int):
            return _dense(self.matrix[rows, [cols]])[:, 0]
        return _dense(self.matrix[rows, cols])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of them."""
        del copy
        return np.asarray(_dense(self.matrix), dtype)


def _dense(matrix: Any) -> np.ndarray:
    found: np.ndarray = matrix.toarray()
    return found


def with_entries(matrix: Any, entries: np.ndarray) -> Any:
    """A matrix of SciPy with other entries (c,) at the same places, which are not copied."""
    return type(matrix)((entries, matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)


def own_memory(size: int) -> np.ndarray:
    """So many bytes."""
    return np.empty(size, np.uint8)


def _edges(rows: int, count: int, dtype: np.dtype[Any]) -> tuple[int, int, int]:
    """Where columns and entries begin in the memory of a block, and where it ends."""
    first = _whole_words(INDEX_DTYPE.itemsize * (rows + 1))
    second = _whole_words(first + INDEX_DTYPE.itemsize * count)
    return first, second, second + dtype.itemsize * count


def _whole_words(size: int) -> int:
    return -(-size // _WORD) * _WORD
