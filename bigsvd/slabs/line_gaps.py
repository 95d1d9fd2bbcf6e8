"""`LineGaps`: how many entries of each line are missing, where lines without any other are dropped."""

from __future__ import annotations

import numpy as np

from bigsvd.orientation import Rows
from bigsvd.slabs.census import Census
from bigsvd.slabs.entries import Entries, Piece

LINE_GAPS = "line-gaps"


class LineGaps:
    """Counts missing entries of lines in one lane.

    Of columns of B the counts are added up over lanes. A row of B is known as soon as its panel is over:
    which rows have nothing observed is left in scratch, but for panels that have none.
    """

    def __init__(self, shape: tuple[int, int], rows: Rows | None) -> None:
        self._axis = 1 if rows is None else 0
        self._rows, self._length = rows, shape[1 - self._axis]
        self._counts = np.zeros(shape[1] if rows is None else 0)
        self._waiting: list[tuple[slice, np.ndarray]] = []

    def look(self, entries: Entries, piece: Piece) -> None:
        """Take in a piece of entries."""
        if piece.gaps is None:
            return
        xp, axis, lines = piece.xp, 1 - self._axis, entries.place(piece)[self._axis]
        counts = entries.device.to_host(xp.sum(xp.astype(piece.gaps.mask, xp.int64), axis=axis))
        if self._rows is None:
            self._counts[lines] += counts
        else:
            self._waiting.append((lines, counts))

    def finish_panel(self, rows: slice, census: Census, *, listed: bool) -> None:
        """Judge the rows of a panel; count those with nothing observed, where they are to be `listed`."""
        if self._rows is None or not self._waiting:
            return
        counts = np.zeros(rows.stop - rows.start, np.int64)
        for lines, found in self._waiting:
            counts[lines.start - rows.start : lines.stop - rows.start] += found
        self._waiting.clear()
        gone = census.add_gaps(counts, self._length, rows.start)
        if listed:
            census.add_lines(np.zeros_like(gone), gone, rows.start)
        self._rows[rows] = gone[:, np.newaxis].astype(np.uint8)

    def sums(self) -> dict[str, np.ndarray]:
        """The counts of the columns of B, (N,)."""
        return {LINE_GAPS: self._counts} if self._rows is None else {}
