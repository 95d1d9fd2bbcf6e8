"""How the streamed matrix B stands to A, and which factor of A is then the long one.

B is A, or Aᵀ where a plan streams A's columns. B ≈ L·diag(s)·Sᵀ has a long factor L with a row for each row
of B and a short one S with a row for each of its columns: U and V of A, or V and U. Everything between the
plan and the published factors speaks of B. The few places where A matters ask the source's `Orientation`.

Either axis of A may number the samples: `SourceFacts.samples_axis` says which. The lines of A along the other
are its features, which have means and divisors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


class Rows:
    """An array seen as one with a row for each of its lines along `axis`; U by axis 0, Vt by axis 1."""

    def __init__(self, array: Any, axis: int) -> None:
        self.array = array
        self._axis = axis

    def __len__(self) -> int:
        length: int = self.array.shape[self._axis]
        return length

    @property
    def chunk(self) -> int:
        """Rows of a stored chunk."""
        size: int = self.array.chunks[self._axis]
        return size

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.moveaxis(np.asarray(self.array[self._key(rows)]), self._axis, 0)

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        self.array[self._key(rows)] = np.moveaxis(values, 0, self._axis)

    def _key(self, rows: slice) -> tuple[slice, ...]:
        return (slice(None),) * self._axis + (rows,)


@dataclass(frozen=True)
class Side:
    """One of A's factors as it is stored: its `name`, and the axis along which its lines of A lie."""

    name: str
    axis: int

    def of(self, factors: Any) -> Rows:
        """That factor of published ones."""
        return Rows(getattr(factors, self.name), self.axis)


def informed(
    shape: tuple[int, int],
    features_axis: int,
    empty: np.ndarray | None,
    factor: np.ndarray | None,
    across: np.ndarray | None,
) -> tuple[int, int]:
    """The shape of A without features that are missing throughout and lines that are multiplied by 0.

    Those are 0 in B whatever the data. Noise has no part in them: its law is that of a matrix of this shape.

    Args:
        shape: of A.
        features_axis: the axis of A that numbers the features.
        empty: numbers of the features that are missing throughout, (c,).
        factor: by what each feature is multiplied.
        across: the same of each sample.

    """
    part = np.ones(shape[features_axis], dtype=bool)
    if empty is not None:
        part[empty] = False
    if factor is not None:
        part &= np.asarray(factor) != 0
    found = list(shape)
    found[features_axis] = max(1, int(np.sum(part)))
    if across is not None:
        found[1 - features_axis] = max(1, int(np.count_nonzero(across)))
    return found[0], found[1]


LEFT, RIGHT = Side("U", 0), Side("Vt", 1)


@dataclass(frozen=True)
class Orientation:
    """What the rows and columns of B are in A.

    Attributes:
        row, column: what a row and a column of B are called in A.
        long, short: the factor of A with a row for each row of B, and for each column of B.

    """

    row: str
    column: str
    long: Side
    short: Side

    @property
    def flipped(self) -> Orientation:
        """That of Bᵀ."""
        return Orientation(self.column, self.row, self.short, self.long)


BY_ROWS = Orientation("row", "column", LEFT, RIGHT)


def largest_entries(vectors: np.ndarray) -> np.ndarray:
    """The entry of largest magnitude in each column, with its sign; the first of several (c,).

    Those of blocks of rows, stacked in their order, have the same largest entries as the whole.
    """
    return np.asarray(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(vectors.shape[1])])


def signs(largest_of_components: np.ndarray) -> np.ndarray:
    """±1 for each triplet, which give both its vectors the contract's sign (k,).

    The contract: the largest entry of each component is positive, of the rows of Vt where A's rows are the
    samples. `largest_of_components` are these entries of the vectors as they were computed.
    """
    return np.where(largest_of_components < 0, -1.0, 1.0)
