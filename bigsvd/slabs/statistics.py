"""What a first pass learns of the entries beside its products, as an operator like the others.

Counts and extremes, ‖B‖²_F, what makes means and divisors exact, and a second opinion on some features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device
from bigsvd.orientation import Rows
from bigsvd.scratch import Scratch
from bigsvd.slabs.census import Census, census_of, observed_in
from bigsvd.slabs.entries import Entries, Piece, sums_of_samples
from bigsvd.slabs.line_gaps import LineGaps
from bigsvd.slabs.moments import ColumnMoments, WeightedSums
from bigsvd.slabs.operator import Findings, Operator
from bigsvd.slabs.second_opinion import Witness
from bigsvd.slabs.slab import Slab
from bigsvd.slabs.standardize import given_in, lines_in
from bigsvd.slabs.transform import Given, MeansAndDivisors, Transform

LINE_SUMS = "line-sums"
TOTALS = "totals"
WEIGHTED_SUMS = "weighted-sums"


@dataclass(frozen=True)
class StatisticsKernel:
    """Statistics of the entries of B, and of its lines where these have means or divisors.

    Attributes:
        transform: what is done to each entry before it is multiplied.
        shape: M and N. stored: the type of B's entries.
        lines: scratch array of the means and divisors of B's columns that the pass works with, if any.
        row_lines: scratch array (3, M) for those of B's rows, if they are to be kept.
        gone: scratch array (1, M) for which of B's rows are missing throughout, if they may be.
        witnesses: features of which a second opinion is formed.

    """

    transform: Transform
    shape: tuple[int, int]
    stored: np.dtype[Any]
    lines: str | None = None
    row_lines: str | None = None
    gone: str | None = None
    witnesses: tuple[int, ...] = ()

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Operator:
        """The operator of one lane."""
        del device, dtype
        gaps = self._line_gaps(scratch)
        if self.transform.by_columns:
            given = given_in(scratch, self.transform)
            return ColumnStatistics(self, gaps, lines_in(scratch, self.lines, self.shape[1]), given)
        if self.row_lines is not None:
            lines, given = Rows(scratch.open(self.row_lines), 1), given_in(scratch, self.transform)
            return RowStatistics(self, gaps, lines, given, self._gone_in(scratch))
        return Statistics(self, gaps)

    def _line_gaps(self, scratch: Scratch) -> LineGaps | None:
        """What counts the gaps of lines, where they are refused in those that have other entries."""
        return LineGaps(self.shape, self._gone_in(scratch)) if self.transform.drops else None

    def _gone_in(self, scratch: Scratch) -> Rows | None:
        """Where it is to be left which of B's rows are missing throughout, if anywhere."""
        return None if self.gone is None else Rows(scratch.open(self.gone), 1)


class Statistics(Operator):
    """`StatisticsKernel` at work in one lane."""

    looks = True

    def __init__(self, kernel: StatisticsKernel, gaps: LineGaps | None) -> None:
        self._gaps = gaps
        self._transform = kernel.transform
        self._witness = Witness(kernel.witnesses, kernel.transform)
        self._census = Census()

    def look(self, entries: Entries, piece: Piece) -> None:
        """Take in a piece of entries."""
        found = census_of(entries, piece)
        if not self._transform.fills_with_mean:
            found.observed = observed_in(entries, piece)
        self._census.add(found)
        if self._gaps is not None:
            self._gaps.look(entries, piece)

    def forward(self, slab: Slab) -> None:
        """Take in the squares of a slab, and what of it is of some features."""
        self._census.squares += slab.squares()
        self._witness.look(slab.entries)

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """Judge the rows of a panel by their gaps."""
        del y
        if self._gaps is not None:
            self._gaps.finish_panel(rows, self._census, listed=not self._transform.standardized)

    def sums(self) -> dict[str, np.ndarray]:
        """See `LineGaps.sums`."""
        return {} if self._gaps is None else self._gaps.sums()

    def findings(self) -> Findings:
        """Counts, extremes, ‖B‖²_F of the lane, and the opinion on some features."""
        return Findings(self._census, self._witness.opinion)


class ColumnStatistics(Statistics):
    """Also sums over the columns of B, which make their means and divisors exact once all rows are seen."""

    def __init__(
        self, kernel: StatisticsKernel, gaps: LineGaps | None, lines: MeansAndDivisors, given: Given
    ) -> None:
        super().__init__(kernel, gaps)
        shifts, whole = (
            kernel.transform.shifts(lines, kernel.stored),
            kernel.transform.keeps_whole(kernel.stored),
        )
        self._sums = ColumnMoments(shifts, kernel.shape[0], whole=whole)
        self._given, self._weighted = given, WeightedSums.nothing(shifts)
        self._rows, self._across = slice(0, 0), given.across_part(slice(0, 0))

    def forward(self, slab: Slab) -> None:
        """Take in what is of some features; the sums give ‖B‖²_F too."""
        self._witness.look(slab.entries)

    def look(self, entries: Entries, piece: Piece) -> None:
        """Take in a piece of entries, and sum it over the rows."""
        super().look(entries, piece)
        (rows, cols), gaps = entries.place(piece), entries.gaps(piece)
        self._sums.add(entries.device, piece.values, gaps, at=cols)
        if self._across is not None:
            self._weighted.add(entries.device, piece.values, gaps, self._across_of(entries.rows, rows), cols)

    def _across_of(self, slab: slice, rows: slice) -> np.ndarray:
        """The squares of the weights of some rows of a slab, those of the slab read once."""
        if slab != self._rows:
            self._rows, self._across = slab, self._given.across_part(slab)
        there = slice(rows.start - slab.start, rows.stop - slab.start)
        return np.asarray(self._across)[there] ** 2

    def sums(self) -> dict[str, np.ndarray]:
        """See `ColumnMoments.stacked`, and `WeightedSums` where rows have weights."""
        found = {**super().sums(), LINE_SUMS: self._sums.stacked()}
        if self._across is not None:
            found[WEIGHTED_SUMS] = self._weighted.values
        return found


class RowStatistics(Statistics):
    """Also leaves the means and divisors of the rows of B in scratch."""

    def __init__(
        self, kernel: StatisticsKernel, gaps: LineGaps | None, lines: Rows, given: Given, gone: Rows | None
    ) -> None:
        super().__init__(kernel, gaps)
        self._lines, self._given = lines, given
        self._gone = gone if gaps is None else None  # which leaves it itself
        self._waiting: list[np.ndarray] = []
        self._empty: list[np.ndarray] = []

    def forward(self, slab: Slab) -> None:
        """Take in the statistics of the rows of a slab, where it has them, and what is of some features."""
        self._witness.look(slab.entries)
        if self._transform.scales_by_given:
            self._census.squares += slab.squares()
        elif slab.sums is not None:
            self._census.squares += slab.sums.squared_norm(self._transform)
        if slab.sums is not None:
            self._keep(slab, slab.sums)

    def _keep(self, slab: Slab, sums: ColumnMoments) -> None:
        lines = sums.lines(self._transform, self._given.lines(self._transform, slab.rows))
        self._census.add_unfit(sums.unfit(self._transform), slab.rows.start)
        self._census.add_lines(*sums.set_apart(self._transform), slab.rows.start)
        if self._transform.fills_with_mean:
            self._census.observed += int(sums.observed.sum())
        self._waiting.append(lines.stacked().T)
        self._empty.append(sums.observed == 0)
        if slab.entries.raw.shape[1] == sums.length:  # whole rows, which a second look can be taken at
            found = self._witness.recheck(slab.entries, lines, sums.constant)
            self._census.doubts = (*self._census.doubts, *found)

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """Leave the lines of all rows of a panel, which are one chunk there."""
        super().finish_panel(y, rows)
        self._lines[rows] = np.concatenate(self._waiting)
        empty = np.concatenate(self._empty)
        if self._gone is not None and empty.any():
            self._gone[rows] = empty[:, np.newaxis].astype(np.uint8)
        self._waiting.clear()
        self._empty.clear()


@dataclass(frozen=True)
class TotalsKernel:
    """The totals of so many samples of B, where panels do not hold whole ones."""

    count: int

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Operator:
        """The operator of one lane."""
        del scratch, device, dtype
        return Totals(self.count)


class Totals(Operator):
    """`TotalsKernel` at work in one lane."""

    looks = True

    def __init__(self, count: int) -> None:
        self._sums = np.zeros(count)

    def look(self, entries: Entries, piece: Piece) -> None:
        """Add a piece of entries to the totals of its samples."""
        axis = entries.transform.axis
        rows, cols = entries.place(piece)
        self._sums[(cols, rows)[axis]] += sums_of_samples(entries.device, piece.values, axis)

    def sums(self) -> dict[str, np.ndarray]:
        """The lane's part of them."""
        return {TOTALS: self._sums}
