"""`Standardization`: what makes slabs of entries in one lane, (A − mean)/divisor with gaps at the mean.

The kinds here write the result out, entry by entry, in the precision of the products and in pieces that stay
in the processor's cache; see `Standardizer` for why a large mean costs no accuracy. On eight million entries
that takes 5 ms beside 40 ms of products, so that little would be gained by multiplying entries as they are
stored and correcting the products. Where nothing is subtracted or divided, entries are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bigsvd.devices.base import Array, Space
from bigsvd.orientation import Rows
from bigsvd.scratch import Scratch
from bigsvd.slabs.entries import Entries, Looker, Piece
from bigsvd.slabs.moments import ColumnMoments
from bigsvd.slabs.slab import DenseSlab, Slab
from bigsvd.slabs.standardizer import Standardizer
from bigsvd.slabs.transform import MeansAndDivisors, Transform


class Standardization(Protocol):
    """What a pass does with the means and divisors of A's columns.

    Laws: a slab has the entries of the matrix as decomposed at its place, however B is cut into slabs and
    tiles, until the next one is made.
    """

    @property
    def lookers(self) -> Sequence[Looker]:
        """Those that all entries of some rows are shown to before slabs are made of them: itself, or none."""

    def begin_panel(self, rows: slice) -> None:
        """Forget the panel before; these rows of B come next."""

    def slab(self, entries: Entries, lookers: Sequence[Looker] = ()) -> Slab:
        """The slab of these entries, which some look at before anything is made of them."""


class AsStored:
    """Neither means nor divisors: the matrix is decomposed as its numbers are."""

    def __init__(self, dtype: str, space: Space) -> None:
        self._dtype = dtype
        self._space = space

    @property
    def lookers(self) -> Sequence[Looker]:
        """None."""
        return ()

    def begin_panel(self, rows: slice) -> None:
        """Nothing is remembered."""

    def slab(self, entries: Entries, lookers: Sequence[Looker] = ()) -> Slab:
        """See `Standardization.slab`."""
        if entries.stored == np.dtype(self._dtype) and entries.transform.takes_as_stored:
            entries.show(lookers)
            return DenseSlab(entries, entries.raw)
        return DenseSlab(entries, self._written(entries, lookers, None))

    def _standardizer(self, entries: Entries, lines: MeansAndDivisors) -> Standardizer:
        """What standardises such entries by these lines."""
        return Standardizer.of(entries.device, entries.transform, lines, entries.stored, self._dtype)

    def _written(
        self, entries: Entries, lookers: Sequence[Looker], standardizer: Standardizer | None
    ) -> Array:
        """The entries, standardised if they are to be, in this lane's memory; some look at them first."""
        xp = entries.device.xp
        dtype = getattr(xp, self._dtype)

        def standardised(piece: Piece) -> Array:
            values = piece.values
            if standardizer is not None:
                part = standardizer.part(piece.rows, piece.cols)
                values = part.apply(values, entries.gaps(piece))
            return xp.astype(values, dtype, copy=False)

        array = None
        for piece in entries.pieces(lookers):
            values = standardised(piece)
            if values.shape == entries.shape:
                return values
            array = self._space.take(entries.raw, self._dtype) if array is None else array
            array[piece.rows, piece.cols] = values
            del piece, values  # before the next are made
        return array


class ByColumns(AsStored):
    """Means and divisors of the columns of B, which are known, or estimated, when the pass begins."""

    def __init__(self, dtype: str, space: Space, lines: MeansAndDivisors) -> None:
        super().__init__(dtype, space)
        self._lines = lines
        self._by_tile: dict[int, Standardizer] = {}

    def slab(self, entries: Entries, lookers: Sequence[Looker] = ()) -> Slab:
        """See `Standardization.slab`."""
        tile = entries.cols.start
        if tile not in self._by_tile:
            self._by_tile[tile] = self._standardizer(entries, self._lines.part(entries.cols))
        return DenseSlab(entries, self._written(entries, lookers, self._by_tile[tile]))


class ByKnownRows(AsStored):
    """Means and divisors of the rows of B, which an earlier pass has left in scratch."""

    def __init__(self, dtype: str, space: Space, lines: Rows) -> None:
        super().__init__(dtype, space)
        self._lines = lines
        self._panel = slice(0, 0)
        self._of_panel: Standardizer | None = None

    def begin_panel(self, rows: slice) -> None:
        """See `Standardization.begin_panel`."""
        self._panel, self._of_panel = rows, None

    def slab(self, entries: Entries, lookers: Sequence[Looker] = ()) -> Slab:
        """See `Standardization.slab`."""
        if self._of_panel is None:
            self._of_panel = self._standardizer(entries, MeansAndDivisors(*self._lines[self._panel].T))
        first = self._panel.start
        here = slice(entries.rows.start - first, entries.rows.stop - first)
        return DenseSlab(entries, self._written(entries, lookers, self._of_panel.part(here, slice(None))))


class ByRows(AsStored):
    """Means and divisors of the rows of B, learned from all entries of them before slabs are made."""

    def __init__(self, dtype: str, space: Space, cols: int) -> None:
        super().__init__(dtype, space)
        self._cols = cols
        self._sums: dict[int, ColumnMoments] = {}

    def begin_panel(self, rows: slice) -> None:
        """See `Standardization.begin_panel`."""
        del rows
        self._sums.clear()

    @property
    def lookers(self) -> Sequence[Looker]:
        """Itself."""
        return (self,)

    def look(self, entries: Entries, piece: Piece) -> None:
        """Take in a piece of some rows."""
        start = entries.rows.start
        if start not in self._sums:
            whole = entries.transform.keeps_whole(entries.stored)
            self._sums[start] = ColumnMoments(np.zeros(entries.shape[0]), self._cols, axis=0, whole=whole)
        self._sums[start].learn(entries.device, piece.values, entries.gaps(piece), at=piece.rows)

    def slab(self, entries: Entries, lookers: Sequence[Looker] = ()) -> Slab:
        """See `Standardization.slab`."""
        sums = self._sums[entries.rows.start]
        standardizer = self._standardizer(entries, sums.lines(entries.transform.unit))
        array = self._written(entries, lookers, standardizer)
        if entries.cols.start > 0:  # they are of the first tile already
            return DenseSlab(entries, array)
        return DenseSlab(entries, array, sums)


def written_out(
    transform: Transform,
    dtype: str,
    space: Space,
    cols: int,
    lines: MeansAndDivisors,
    row_lines: Rows | None,
) -> Standardization:
    """The standardisation that a transform asks for of B with so many columns.

    `lines` are those of B's columns, `row_lines` (M, 3) those of its rows; where they are not known, each
    panel shows its own.
    """
    if not transform.standardized:
        return AsStored(dtype, space)
    if transform.by_columns:
        return ByColumns(dtype, space, lines)
    if row_lines is not None:
        return ByKnownRows(dtype, space, row_lines)
    return ByRows(dtype, space, cols)


def row_lines_in(scratch: Scratch, name: str | None) -> Rows | None:
    """Means and divisors of B's rows that an earlier pass has left in scratch, if one has."""
    if name is None:
        return None
    return Rows(scratch.open(name), 1)


def lines_in(scratch: Scratch, name: str | None, count: int) -> MeansAndDivisors:
    """Means and divisors of B's columns that a pass was given in scratch; neutral where it was given none."""
    return MeansAndDivisors.neutral(count) if name is None else MeansAndDivisors(*scratch.read(name))
