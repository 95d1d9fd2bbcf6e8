"""`Standardization`: what makes slabs of entries in one lane, (A − mean)/divisor with gaps at the mean.

The kinds here write the result out, entry by entry and in float64: a large mean then costs no accuracy. Where
nothing is subtracted or divided, entries are taken as they are.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bigsvd.devices.base import Array
from bigsvd.scratch import Scratch
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.slab import DenseSlab, Slab
from bigsvd.slabs.transform import ColumnMoments, MeansAndDivisors, Transform, guess_of_rows


class Standardization(Protocol):
    """What a pass does with the means and divisors of A's columns.

    Laws: a slab has the entries of the matrix as decomposed at its place, however B is cut into slabs and
    tiles.
    """

    looks_first: bool  # whether tiles of whole rows are to be shown to `look` before slabs are made of them

    def begin_panel(self) -> None:
        """Forget the rows of the panel before."""

    def look(self, entries: Entries) -> None:
        """Take in a tile of some rows."""

    def slab(self, entries: Entries) -> Slab:
        """The slab of these entries."""


class AsStored:
    """Neither means nor divisors: the matrix is decomposed as its numbers are."""

    looks_first = False

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype

    def begin_panel(self) -> None:
        """Nothing is remembered."""

    def look(self, entries: Entries) -> None:
        """Never called."""

    def slab(self, entries: Entries) -> Slab:
        """See `Standardization.slab`."""
        return DenseSlab.of(entries, entries.values, self._dtype)


class ByColumns(AsStored):
    """Means and divisors of the columns of B, which are known, or estimated, when the pass begins."""

    def __init__(self, dtype: str, lines: MeansAndDivisors) -> None:
        super().__init__(dtype)
        self._lines = lines

    def slab(self, entries: Entries) -> Slab:
        """See `Standardization.slab`."""
        values = _applied(entries, self._lines.part(entries.cols))
        return DenseSlab.of(entries, values, self._dtype)


class ByWholeRows(AsStored):
    """Means and divisors of the rows of B, learned from each slab of whole rows."""

    def slab(self, entries: Entries) -> Slab:
        """See `Standardization.slab`."""
        sums = ColumnMoments(_guess(entries), entries.values.shape[1], axis=0)
        sums.add(entries.device, entries.values, entries.gaps, at=slice(None))
        values = _applied(entries, sums.lines(entries.transform.unit))
        return DenseSlab.of(entries, values, self._dtype, sums)


class ByTiledRows:
    """Means and divisors of the rows of B, learned from all tiles of them before slabs are made of these."""

    looks_first = True

    def __init__(self, dtype: str, cols: int) -> None:
        self._dtype = dtype
        self._cols = cols
        self._sums: dict[int, ColumnMoments] = {}

    def begin_panel(self) -> None:
        """See `Standardization.begin_panel`."""
        self._sums.clear()

    def look(self, entries: Entries) -> None:
        """See `Standardization.look`."""
        guess = _guess(entries)
        sums = self._sums.setdefault(entries.rows.start, ColumnMoments(guess, self._cols, axis=0))
        sums.shift_unobserved(guess)
        sums.add(entries.device, entries.values, entries.gaps, at=slice(None))

    def slab(self, entries: Entries) -> Slab:
        """See `Standardization.slab`."""
        sums = self._sums[entries.rows.start]
        values = _applied(entries, sums.lines(entries.transform.unit))
        return DenseSlab.of(entries, values, self._dtype, sums if entries.cols.start == 0 else None)


def written_out(
    transform: Transform, dtype: str, lines: MeansAndDivisors, shape: tuple[int, int], *, tiled: bool
) -> Standardization:
    """The standardisation that a transform asks for of B (M, N), read whole rows at a time or in tiles."""
    if not transform.standardized:
        return AsStored(dtype)
    if transform.by_columns:
        return ByColumns(dtype, lines)
    return ByTiledRows(dtype, shape[1]) if tiled else ByWholeRows(dtype)


def lines_in(scratch: Scratch, name: str | None, count: int) -> MeansAndDivisors:
    """Means and divisors of B's columns that a pass was given in scratch; neutral where it was given none."""
    return MeansAndDivisors.neutral(count) if name is None else MeansAndDivisors(*scratch.read(name))


def _guess(entries: Entries) -> np.ndarray:
    return guess_of_rows(entries.device, entries.values, entries.gaps)


def _applied(entries: Entries, lines: MeansAndDivisors) -> Array:
    return entries.transform.apply(entries.device, entries.values, entries.gaps, lines)
