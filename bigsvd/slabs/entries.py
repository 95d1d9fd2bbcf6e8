"""`Entries`: some rows and columns of B on a device as they are stored, and as numbers piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bigsvd.devices.base import Array, Device
from bigsvd.slabs.transform import Transform


@dataclass(frozen=True, eq=False)
class Piece:
    """Some entries as numbers, before they are standardised.

    Attributes:
        rows, cols: where they are among the entries.
        values: (r, c), prescaled, 0 where one is missing; float32 where that is exact, else float64. Who
            makes a slab of them may write into them, unless the transform takes entries as they are stored.
        mask: (r, c) which are missing; None where none is.

    """

    rows: slice
    cols: slice
    values: Array
    mask: Array | None


class Looker(Protocol):
    """What takes in entries before slabs are made of them."""

    def look(self, entries: Entries, piece: Piece) -> None:
        """Take in a piece of entries; called once for each. It may not write into them."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of B where the device has them; nobody writes into them.

    Attributes:
        device, transform: where they are, and what makes numbers of what is stored.
        raw: (r, c) as they are `stored`.
        rows, cols: their place in B.

    """

    device: Device
    transform: Transform
    raw: Array
    stored: np.dtype[Any]
    rows: slice
    cols: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.raw.shape[0]), int(self.raw.shape[1])

    @property
    def features(self) -> slice:
        """The features of A that these are of."""
        return (self.rows, self.cols)[self.transform.axis]

    def pieces(self, lookers: Sequence[Looker] = ()) -> Iterator[Piece]:
        """All of them as numbers, as many at a time as the device is fast with; some look at them first."""
        for rows, cols in self.device.pieces(self.raw):
            piece = Piece(rows, cols, *self.transform.widen(self.device, self.raw[rows, cols], self.stored))
            for looker in lookers:
                looker.look(self, piece)
            yield piece
            del piece  # before the next is made

    def show(self, lookers: Sequence[Looker]) -> None:
        """Let some look at all of them, each piece made once for all."""
        if lookers:
            for piece in self.pieces(lookers):
                del piece  # before the next is made

    def gaps(self, piece: Piece) -> Array | None:
        """Which of a piece's entries take the mean of their column of A."""
        return piece.mask if self.transform.fills_with_mean else None

    def place(self, piece: Piece) -> tuple[slice, slice]:
        """Rows and columns of a piece in B."""
        rows, cols = (
            slice(start.start + part.start, start.start + part.stop)
            for start, part in ((self.rows, piece.rows), (self.cols, piece.cols))
        )
        return rows, cols
