"""`Block`: what one read of a source gave, before anything is made of it.

It knows how large it is, how it lies in memory and how it is cut into slabs, so that those who keep, copy or
send it need not know what kind of block it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import google_crc32c
import numpy as np

Array = Any


class Block(Protocol):
    """A rectangle of a matrix as it was read; nobody writes into it.

    Laws: `T` has the rows of the transpose and the same memory; a block that was moved has the same rows.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes on the host."""

    def bytes_of(self, itemsize: int) -> int:
        """Bytes that it takes wherever it lies, of entries of so many bytes each."""

    @property
    def stays_on_host(self) -> bool:
        """Whether a device gets its rows, made dense, slab by slab, and never the block itself."""

    @property
    def T(self) -> Block:  # noqa: N802
        """The transpose; nothing is copied."""

    def checksum(self) -> int:
        """CRC-32C of its entries in the order in which they lie in memory."""

    def moved(self, move: Callable[[Array], Array]) -> Block:
        """The block with its memory elsewhere: `move` copies each array of it, as it lies in memory."""

    def rows(self, some: slice) -> Array:
        """The entries of some rows, where the block lies."""


@dataclass(frozen=True, eq=False)
class DenseBlock:
    """A block that holds every entry: an array (r, c), or its transpose where that was read."""

    array: Array
    flipped: bool = False
    stays_on_host: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        """See `Block.shape`."""
        rows, cols = self._turned.shape
        return rows, cols

    @property
    def nbytes(self) -> int:
        """See `Block.nbytes`."""
        size: int = self.array.nbytes
        return size

    def bytes_of(self, itemsize: int) -> int:
        """See `Block.bytes_of`."""
        rows, cols = self.shape
        return rows * cols * itemsize

    @property
    def T(self) -> Block:  # noqa: N802
        """See `Block.T`."""
        return replace(self, flipped=not self.flipped)

    def checksum(self) -> int:
        """See `Block.checksum`."""
        found: int = google_crc32c.value(np.ascontiguousarray(self.array))
        return found

    def moved(self, move: Callable[[Array], Array]) -> Block:
        """See `Block.moved`."""
        return replace(self, array=move(self.array))

    def rows(self, some: slice) -> Array:
        """See `Block.rows`."""
        return self._turned[some, :]

    @property
    def _turned(self) -> Array:
        return self.array.T if self.flipped else self.array
