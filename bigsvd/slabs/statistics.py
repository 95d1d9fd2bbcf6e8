"""What a first pass learns of the entries beside its products, as an operator like the others.

Counts and extremes, ‖B‖²_F, what makes means and divisors exact, and a second opinion on some columns of A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device
from bigsvd.orientation import Rows
from bigsvd.scratch import Scratch
from bigsvd.slabs.census import Census, census_of, observed_in
from bigsvd.slabs.entries import Entries, Piece
from bigsvd.slabs.moments import ColumnMoments
from bigsvd.slabs.operator import Findings, Operator
from bigsvd.slabs.second_opinion import Witness
from bigsvd.slabs.slab import Slab
from bigsvd.slabs.standardize import lines_in
from bigsvd.slabs.transform import MeansAndDivisors, Transform

LINE_SUMS = "line-sums"


@dataclass(frozen=True)
class StatisticsKernel:
    """Statistics of the entries of B, and of its lines where these have means or divisors.

    Attributes:
        transform: what is done to each entry before it is multiplied.
        shape: M and N. stored: the type of B's entries.
        lines: scratch array of the means and divisors of B's columns that the pass works with, if any.
        row_lines: scratch array (3, M) for those of B's rows, if they are to be kept.
        witnesses: columns of A of which a second opinion is formed.

    """

    transform: Transform
    shape: tuple[int, int]
    stored: np.dtype[Any]
    lines: str | None = None
    row_lines: str | None = None
    witnesses: tuple[int, ...] = ()

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Operator:
        """The operator of one lane."""
        del device, dtype
        if self.transform.by_columns:
            return ColumnStatistics(self, lines_in(scratch, self.lines, self.shape[1]))
        if self.row_lines is not None:
            return RowStatistics(self, Rows(scratch.open(self.row_lines), 1))
        return Statistics(self)


class Statistics(Operator):
    """`StatisticsKernel` at work in one lane."""

    looks = True

    def __init__(self, kernel: StatisticsKernel) -> None:
        self._transform = kernel.transform
        self._witness = Witness(kernel.witnesses, kernel.transform)
        self._census = Census()

    def look(self, entries: Entries, piece: Piece) -> None:
        """Take in a piece of entries."""
        found = census_of(entries, piece)
        if not self._transform.fills_with_mean:
            found.observed = observed_in(entries, piece)
        self._census.add(found)

    def forward(self, slab: Slab) -> None:
        """Take in the squares of a slab, and what of it is of some columns."""
        self._census.squares += slab.squares()
        self._witness.look(slab.entries)

    def findings(self) -> Findings:
        """Counts, extremes, ‖B‖²_F of the lane, and the opinion on some columns."""
        return Findings(self._census, self._witness.opinion)


class ColumnStatistics(Statistics):
    """Also sums over the columns of B, which make their means and divisors exact once all rows are seen."""

    def __init__(self, kernel: StatisticsKernel, lines: MeansAndDivisors) -> None:
        super().__init__(kernel)
        shifts, whole = (
            kernel.transform.shifts(lines, kernel.stored),
            kernel.transform.keeps_whole(kernel.stored),
        )
        self._sums = ColumnMoments(shifts, kernel.shape[0], whole=whole)

    def forward(self, slab: Slab) -> None:
        """Take in what is of some columns; the sums give ‖B‖²_F too."""
        self._witness.look(slab.entries)

    def look(self, entries: Entries, piece: Piece) -> None:
        """Take in a piece of entries, and sum it over the rows."""
        super().look(entries, piece)
        _, cols = entries.place(piece)
        self._sums.add(entries.device, piece.values, entries.gaps(piece), at=cols)

    def sums(self) -> dict[str, np.ndarray]:
        """See `ColumnMoments.stacked`."""
        return {LINE_SUMS: self._sums.stacked()}


class RowStatistics(Statistics):
    """Also leaves the means and divisors of the rows of B in scratch."""

    def __init__(self, kernel: StatisticsKernel, lines: Rows) -> None:
        super().__init__(kernel)
        self._lines = lines
        self._waiting: list[np.ndarray] = []

    def forward(self, slab: Slab) -> None:
        """Take in the statistics of the rows of a slab, where it has them, and what is of some columns."""
        self._witness.look(slab.entries)
        if slab.sums is not None:
            self._keep(slab, slab.sums)

    def _keep(self, slab: Slab, sums: ColumnMoments) -> None:
        self._census.squares += sums.squared_norm(self._transform)
        lines = sums.lines(self._transform.unit)
        if self._transform.scale:
            self._census.add_faint(sums.unresolved, slab.rows.start)
        self._census.add_lines(sums.constant, sums.observed == 0, slab.rows.start)
        if self._transform.fills_with_mean:
            self._census.observed += int(sums.observed.sum())
        self._waiting.append(lines.stacked().T)
        if slab.entries.raw.shape[1] == sums.length:  # whole rows, which a second look can be taken at
            found = self._witness.recheck(slab.entries, lines, sums.constant)
            self._census.doubts = (*self._census.doubts, *found)

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """Leave the lines of all rows of a panel, which are one chunk there."""
        del y
        self._lines[rows] = np.concatenate(self._waiting)
        self._waiting.clear()
