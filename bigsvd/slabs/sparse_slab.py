"""`SparseSlab`: a slab of sparse rows whose products take time only for entries that are not 0.

B = diag(l)·(S − u·vᵀ)·diag(r) for sparse S: means and divisors are corrections of the products. These are in
float64, so that what a mean takes away leaves more digits than float32 has, whatever precision is asked for.
Where entries are many, changed as they are read, or hardly more than their means, rows are made dense, a part
at a time, and so they are for BᵀB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bigsvd.devices.base import Array
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.moments import ColumnMoments
from bigsvd.slabs.sparse import with_entries
from bigsvd.slabs.standardizer import Standardizer

# Bytes of rows that are dense at a time: they stay in the cache that cores share.
_PART_BYTES = 8 * 2**20
_LEAST_ROWS = 16
# Bytes of a block that sparse entries multiply at a time: rows of a larger one are fetched from memory again
# for each entry. Of 30,000 rows and 60 columns, all at once took 1.6 ns a product, eight at a time 0.9.
_BLOCK_BYTES = 2 * 2**20
_LEAST_COLUMNS = 8
# The part of ‖S‖² that has to be left of it when means are taken away: of less, rounding would show.
_LEAST_LEFT = {"float32": 2.0**-40, "float64": 2.0**-6}


@dataclass(frozen=True, eq=False)
class DenseParts:
    """Rows (r, c) of B of which some are dense at a time.

    Attributes:
        shape: r and c. dtype: of the products. dense: some of them, gone when others are made.

    """

    shape: tuple[int, int]
    dtype: str
    dense: Callable[[slice], Array]

    def times(self, Q: Array) -> Array:
        """B·Q (r, k)."""
        return np.concatenate([part @ Q for _, part in self.each()])

    def adjoint_times(self, Y: Array) -> Array:
        """Bᵀ·Y (c, k), summed in float64."""
        total = np.zeros((Y.shape[1], self.shape[1]))
        for rows, part in self.each():
            total += Y[rows].T @ part
        return total.T

    def gram(self) -> Array:
        """BᵀB (c, c), summed in float64."""
        total = np.zeros((self.shape[1], self.shape[1]))
        for _, part in self.each():
            total += part.T @ part
        return total

    def each(self) -> Iterator[tuple[slice, Array]]:
        """Some rows after the others, and which they are."""
        count, width = self.shape
        step = max(_LEAST_ROWS, _PART_BYTES // (width * np.dtype(self.dtype).itemsize))
        if count <= step:
            yield slice(0, count), self._whole
            return
        for start in range(0, count, step):
            rows = slice(start, min(count, start + step))
            yield rows, self.dense(rows)

    @cached_property
    def _whole(self) -> Array:
        """All of them, made once: no others follow."""
        return self.dense(slice(0, self.shape[0]))


@dataclass(frozen=True, eq=False)
class Corrected:
    """diag(left)·(S − u·vᵀ)·diag(right) for S (r, c) in a form of SciPy; all float64.

    Attributes:
        u, left: (r, 1). v, right: (1, c).

    """

    S: Any
    u: np.ndarray
    v: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, S: Any, standardizer: Standardizer | None) -> Corrected:
        """What a standardizer of float64 makes of S, if any does."""
        rows, cols = np.ones((S.shape[0], 1)), np.ones((1, S.shape[1]))
        if standardizer is None:
            return cls(S, rows, 0 * cols, rows, cols)
        shift, gain, across = standardizer.shift, standardizer.gain, standardizer.crossing
        if standardizer.axis == 1:
            return cls(S, rows, shift * cols, across * rows, gain * cols)
        return cls(S, shift * rows, cols, gain * rows, across * cols)

    def times(self, Q: Array) -> Array:
        """B·Q (r, k)."""
        scaled = self.right.T * Q
        found = multiplied(self.S, scaled)
        found -= self.u * (self.v @ scaled)
        found *= self.left
        return found

    def adjoint_times(self, Y: Array) -> Array:
        """Bᵀ·Y (c, k)."""
        scaled = self.left * Y
        found = multiplied(self.S.T, scaled)
        found -= self.v.T * (self.u.T @ scaled)
        found *= self.right.T
        return found

    def keeps(self, least: float) -> bool:
        """Whether at least such a part of ‖S‖² + ‖u·vᵀ‖², rows and columns multiplied, is left in ‖B‖²."""
        rows, cols = self.left**2, self.right.T**2
        squares = float((rows.T @ (with_entries(self.S, self.S.data**2) @ cols))[0, 0])
        outer = float(np.sum(rows * self.u**2) * np.sum(cols * self.v.T**2))
        cross = float(((rows * self.u).T @ (self.S @ (cols * self.v.T)))[0, 0])
        return squares + outer - 2 * cross >= least * (squares + outer)


def multiplied(S: Any, block: np.ndarray) -> np.ndarray:
    """S·block (r, k), some columns of the block after the others, which does not change its bits."""
    columns = max(_LEAST_COLUMNS, _BLOCK_BYTES // (max(S.shape) * block.itemsize))
    found = np.empty((S.shape[0], block.shape[1]))
    for start in range(0, block.shape[1], columns):
        some = slice(start, start + columns)
        found[:, some] = S @ np.ascontiguousarray(block[:, some])
    return found


@dataclass(frozen=True, eq=False)
class SparseSlab:
    """A slab of `SparseRows`.

    Attributes:
        parts: its rows, dense. by: what standardises them in a precision; None where nothing does.
        sums: as of `DenseSlab`. finely: its squared norm.

    """

    entries: Entries
    parts: DenseParts
    by: Callable[[str], Standardizer | None]
    finely: Callable[[], float]
    sums: ColumnMoments | None = None

    @property
    def rows(self) -> slice:
        """See `Slab.rows`."""
        return self.entries.rows

    @property
    def cols(self) -> slice:
        """See `Slab.cols`."""
        return self.entries.cols

    @cached_property
    def _products(self) -> DenseParts | Corrected:
        """What is multiplied: the entries that are stored, where that is as exact, and faster."""
        raw, transform = self.entries.raw, self.entries.transform
        if not (raw.are_few and transform.takes_as_stored):
            return self.parts
        S = raw.in_float64
        if transform.awaits_nan and np.isnan(S.data).any():
            return self.parts
        found = Corrected.of(S, self.by("float64"))
        return found if found.keeps(_LEAST_LEFT[self.parts.dtype]) else self.parts

    def times(self, Q: Array) -> Array:
        """See `Slab.times`."""
        return self._products.times(Q)

    def adjoint_times(self, Y: Array) -> Array:
        """See `Slab.adjoint_times`."""
        return self._products.adjoint_times(Y)

    def transposed_adjoint_times(self, Y: Array) -> Array:
        """See `Slab.transposed_adjoint_times`."""
        return self.adjoint_times(Y).T

    def gram(self) -> Array:
        """See `Slab.gram`."""
        return self.parts.gram()

    def squares(self) -> float:
        """See `Slab.squares`."""
        return self.finely()

    def to_array(self) -> Array:
        """See `Slab.to_array`; in memory of its own."""
        return np.concatenate([part.copy() for _, part in self.parts.each()])
