"""`Standardization`: what makes slabs of entries in one lane, (A − mean)/divisor with gaps at the mean.

The kinds here write the result out, entry by entry, in the precision of the products and in pieces that stay
in the processor's cache; see `Standardizer` for why a large mean costs no accuracy. On eight million entries
that takes 5 ms beside 40 ms of products, so that little would be gained by multiplying dense entries as they
are stored and correcting the products; of sparse ones see `sparse_slab`.
Where nothing is subtracted or divided, entries are taken as they are.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from bigsvd.devices.base import Array, Space
from bigsvd.orientation import Rows
from bigsvd.scratch import Scratch
from bigsvd.slabs.entries import Entries, Looker, Piece
from bigsvd.slabs.moments import ColumnMoments
from bigsvd.slabs.slab import DenseSlab, Slab
from bigsvd.slabs.sparse import SparseRows
from bigsvd.slabs.sparse_slab import DenseParts, SparseSlab
from bigsvd.slabs.standardizer import Standardizer
from bigsvd.slabs.transform import GIVEN, NOTHING, Given, MeansAndDivisors, Transform


class Standardization(Protocol):
    """What a pass does with the means and divisors of features.

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
        if isinstance(entries.raw, SparseRows):
            return self._sparse(entries, lookers, _nothing, partial(_squares_of_stored, entries))
        if entries.stored == np.dtype(self._dtype) and entries.transform.takes_as_stored:
            if not entries.show_finding_gaps(lookers):
                return DenseSlab(entries, entries.raw)
            lookers = ()
        array = self._written(entries, lookers, None)
        if self._dtype == "float64" or entries.transform.holds_exactly(entries.stored):
            return DenseSlab(entries, array)
        return DenseSlab(entries, array, finely=partial(_squares_of_numbers, entries))

    def _made(
        self,
        entries: Entries,
        lookers: Sequence[Looker],
        by: Callable[[str], Standardizer],
        finely: Callable[[], float],
        sums: ColumnMoments | None = None,
    ) -> Slab:
        """The slab of entries standardised `by` what suits a precision, which some look at first."""
        if isinstance(entries.raw, SparseRows):
            return self._sparse(entries, lookers, by, finely, sums)
        return DenseSlab(entries, self._written(entries, lookers, by(self._dtype)), sums, finely)

    def _sparse(
        self,
        entries: Entries,
        lookers: Sequence[Looker],
        by: Callable[[str], Standardizer | None],
        finely: Callable[[], float],
        sums: ColumnMoments | None = None,
    ) -> Slab:
        """The same of sparse rows."""
        entries.show(lookers)
        dense = partial(self._some_rows, entries, by(self._dtype))
        return SparseSlab(entries, DenseParts(entries.shape, self._dtype, dense), by, finely, sums)

    def _some_rows(self, entries: Entries, standardizer: Standardizer | None, rows: slice) -> Array:
        """Some rows of a slab, dense, in this lane's memory."""
        start, part = entries.rows.start, standardizer
        if standardizer is not None:
            part = standardizer.part(rows, slice(None))
        there = slice(start + rows.start, start + rows.stop)
        return self._written(replace(entries, raw=entries.raw[rows, :], rows=there), (), part)

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

        array = self._space.take(entries.raw, self._dtype) if self._space.takes_parts else None
        fills = standardizer is not None and standardizer.fills and entries.transform.hands_on_gaps
        for piece in entries.pieces(lookers, array, cleared=bool(lookers) or not fills):
            values = standardised(piece)
            if array is None and values.shape == entries.shape:
                return values
            if array is None:
                array = self._space.take(entries.raw, self._dtype)
            if values is not piece.into:
                array[piece.rows, piece.cols] = values
            del piece, values  # before the next are made
        return array


class ByKnown(AsStored):
    """Lines that are known, or estimated, when a panel begins."""

    def __init__(self, dtype: str, space: Space, given: Given) -> None:
        super().__init__(dtype, space)
        self._given = given
        self._panel = slice(0, 0)
        self._of_panel: Standardizer | None = None

    def begin_panel(self, rows: slice) -> None:
        """See `Standardization.begin_panel`."""
        self._panel, self._of_panel = rows, None

    def slab(self, entries: Entries, lookers: Sequence[Looker] = ()) -> Slab:
        """See `Standardization.slab`."""
        if self._of_panel is None:
            self._of_panel = self._standardizer(entries, self._dtype)
        here = _within(entries.rows, self._panel), entries.cols
        known = self._of_panel

        def by(dtype: str) -> Standardizer:
            whole = known if dtype == self._dtype else self._standardizer(entries, dtype)
            return whole.part(*here)

        return self._made(entries, lookers, by, partial(self._squares, entries, here))

    @abstractmethod
    def _standardizer(self, entries: Entries, dtype: str) -> Standardizer:
        """That of the whole panel, for products in `dtype`."""

    def _squares(self, entries: Entries, here: tuple[slice, slice]) -> float:
        return _squares(entries, self._standardizer(entries, "float64").part(*here))


class ByColumns(ByKnown):
    """Lines that are columns of B."""

    def __init__(self, dtype: str, space: Space, lines: MeansAndDivisors, given: Given) -> None:
        super().__init__(dtype, space, given)
        self._lines = lines

    def begin_panel(self, rows: slice) -> None:
        """See `Standardization.begin_panel`; but for the weights of rows, all panels have the same."""
        self._panel = rows
        if self._given.across is not None:
            self._of_panel = None

    def _standardizer(self, entries: Entries, dtype: str) -> Standardizer:
        made = _standardizer(entries, self._lines, dtype, self._given, slice(None))
        return made.crossed(self._given.across_part(self._panel))


class ByKnownRows(ByKnown):
    """Lines that are rows of B, which an earlier pass has left in scratch, or that need none of their own."""

    def __init__(self, dtype: str, space: Space, lines: Rows | None, given: Given) -> None:
        super().__init__(dtype, space, given)
        self._lines = lines

    def _standardizer(self, entries: Entries, dtype: str) -> Standardizer:
        lines = MeansAndDivisors.neutral(self._panel.stop - self._panel.start)
        if self._lines is not None:
            lines = MeansAndDivisors(*self._lines[self._panel].T)
        made = _standardizer(entries, lines, dtype, self._given, self._panel)
        return made.crossed(self._given.across_part(slice(None)))


class ByRows(AsStored):
    """Means and divisors of the rows of B, learned from all entries of them before slabs are made."""

    def __init__(self, dtype: str, space: Space, cols: int, given: Given) -> None:
        super().__init__(dtype, space)
        self._cols, self._given = cols, given
        self._across = given.across_part(slice(None))
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
        sums, finely = self._sums[entries.rows.start], partial(self._squares, entries)
        of_first = sums if entries.cols.start == 0 else None  # later tiles have none of their own
        return self._made(entries, lookers, partial(self._standardizer, entries), finely, of_first)

    def _standardizer(self, entries: Entries, dtype: str) -> Standardizer:
        given = self._given.lines(entries.transform, entries.rows)
        lines = self._sums[entries.rows.start].lines(entries.transform, given)
        made = _standardizer(entries, lines, dtype, self._given, entries.rows)
        return made.crossed(self._across).part(slice(None), entries.cols)

    def _squares(self, entries: Entries) -> float:
        return _squares(entries, self._standardizer(entries, "float64"))


def _nothing(dtype: str) -> None:
    """What standardises entries that are decomposed as they are."""
    del dtype


def _squares_of_stored(entries: Entries) -> float:
    """The same of sparse rows: of what is stored alone, where that are the numbers."""
    if not entries.transform.takes_as_stored:
        return _squares_of_numbers(entries)
    found = entries.device.sum_of_squares(entries.raw.matrix.data[np.newaxis])
    return _squares_of_numbers(entries) if math.isnan(found) else found  # NaN may be gaps


def _squares_of_numbers(entries: Entries) -> float:
    """‖·‖²_F of the numbers that entries stand for, which float32 would round, many of them alike."""
    return sum(float(entries.device.sum_of_squares(piece.values)) for piece in entries.pieces())


def _squares(entries: Entries, standardizer: Standardizer) -> float:
    """‖·‖²_F of the entries as they are standardised in float64."""
    total = 0.0
    for piece in entries.pieces():
        part = standardizer.part(piece.rows, piece.cols)
        total += entries.device.sum_of_squares(part.apply(piece.values, entries.gaps(piece)))
        del piece, part  # before the next are made
    return total


def _standardizer(
    entries: Entries, lines: MeansAndDivisors, dtype: str, given: Given, some: slice
) -> Standardizer:
    """What standardises such entries by `some` lines of B and what was given for them."""
    transform = entries.transform
    return Standardizer.of(
        entries.device, transform, lines, entries.stored, dtype, given.lines(transform, some)
    )


def _within(rows: slice, panel: slice) -> slice:
    """Rows of B counted from the first of a panel."""
    return slice(rows.start - panel.start, rows.stop - panel.start)


def written_out(
    transform: Transform,
    dtype: str,
    space: Space,
    cols: int,
    lines: MeansAndDivisors,
    row_lines: Rows | None,
    given: Given = NOTHING,
) -> Standardization:
    """The standardisation that a transform asks for of B with so many columns.

    `lines` are those of B's columns, `row_lines` (M, 3) those of its rows; where they are not known, each
    panel shows its own.
    """
    if not (transform.standardized or transform.scales_by_given):
        return AsStored(dtype, space)
    if transform.axis == 1:
        return ByColumns(dtype, space, lines, given)
    if row_lines is not None or not transform.standardized:
        return ByKnownRows(dtype, space, row_lines, given)
    return ByRows(dtype, space, cols, given)


def row_lines_in(scratch: Scratch, name: str | None) -> Rows | None:
    """Means and divisors of B's rows that an earlier pass has left in scratch, if one has."""
    if name is None:
        return None
    return Rows(scratch.open(name), 1)


def given_in(scratch: Scratch, transform: Transform) -> Given:
    """The vectors that were given, as a run has left them in scratch."""
    found: Any = {name: scratch.open(f"{GIVEN}/{name}") for name in transform.given}
    return Given(**found)


def totals_in(scratch: Scratch, transform: Transform) -> Any:
    """The totals of all samples of B, as a run has left them in scratch; None where it has not."""
    return scratch.open(f"{GIVEN}/totals") if transform.totals_apart else None


def lines_in(scratch: Scratch, name: str | None, count: int) -> MeansAndDivisors:
    """Means and divisors of B's columns that a pass was given in scratch; neutral where it was given none."""
    return MeansAndDivisors.neutral(count) if name is None else MeansAndDivisors(*scratch.read(name))
