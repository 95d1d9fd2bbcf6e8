"""`Entries`: some rows and columns of B on a device as they are stored, and as numbers piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from bigsvd.devices.base import Array, Device, Gaps
from bigsvd.functions import totals_of
from bigsvd.slabs.transform import Transform


@dataclass(frozen=True, eq=False)
class Piece:
    """Some entries as numbers, before they are standardised.

    Attributes:
        rows, cols: where they are among the entries.
        values: (r, c), prescaled, 0 where one is missing; float32 where that is exact, else float64. Who
            makes a slab of them may write into them, unless the transform takes entries as they are stored.
        gaps: which are missing; None where none is.
        xp: the array namespace of both.
        into: the part of a slab's memory in which the values may have been made.

    """

    rows: slice
    cols: slice
    values: Array
    gaps: Gaps | None
    xp: Any
    into: Array | None = None
    _peak: list[float] = field(default_factory=list, init=False)

    @property
    def peak(self) -> float:
        """The largest |entry|, NaN where one is, as it was when this was asked first.

        Not a `functools.cached_property`: before Python 3.12 one lock of it lets one thread of all compute.
        """
        if not self._peak:
            self._peak.append(float(self.xp.maximum(self.xp.max(self.values), -self.xp.min(self.values))))
        return self._peak[0]


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
        known_totals: those of all samples of B, (M,) or (N,), of the entries that functions before have made;
            None where these entries are whole samples, or nobody needs them.

    """

    device: Device
    transform: Transform
    raw: Array
    stored: np.dtype[Any]
    rows: slice
    cols: slice
    known_totals: Any = None
    _own_totals: list[np.ndarray] = field(default_factory=list, init=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.raw.shape[0]), int(self.raw.shape[1])

    @property
    def features(self) -> slice:
        """The features of A that these are of."""
        return (self.rows, self.cols)[self.transform.axis]

    @property
    def samples(self) -> slice:
        """The samples of A that these are of."""
        return (self.cols, self.rows)[self.transform.axis]

    @property
    def totals(self) -> np.ndarray | None:
        """Those of the samples that these are of, float64; None where no function needs them."""
        if not self.transform.functions.by_totals:
            return None
        if self.known_totals is not None:
            return np.asarray(self.known_totals[self.samples])
        if not self._own_totals:
            self._own_totals.append(self._summed())
        return self._own_totals[0]

    def _summed(self) -> np.ndarray:
        """The totals of whole samples, from these entries."""
        found, axis = np.zeros(self.shape[1 - self.transform.axis]), self.transform.axis
        for piece in replace(self, transform=self.transform.before_totals).pieces():
            there = (piece.cols, piece.rows)[axis]
            found[there] += sums_of_samples(self.device, piece.values, axis)
            del piece  # before the next is made
        return found

    def _totals_at(self, rows: slice, cols: slice) -> Array | None:
        """The totals of some of them, on the device, with an axis along each sample."""
        if self.totals is None:
            return None
        axis = self.transform.axis
        there = self.device.to_device(self.totals[(cols, rows)[axis]])
        return self.device.xp.expand_dims(there, axis=axis)

    def pieces(
        self, lookers: Sequence[Looker] = (), into: Array | None = None, *, cleared: bool = True
    ) -> Iterator[Piece]:
        """All of them as numbers, as many at a time as the device is fast with; some look at them first.

        They are made in the parts of `into` (r, c) that they are for, if that is given and can hold them.
        Gaps that are not `cleared` hold anything: who asks so fills them.
        """
        for rows, cols in self.device.pieces(self.raw):
            piece = self._piece(rows, cols, None if into is None else into[rows, cols], cleared=cleared)
            for looker in lookers:
                looker.look(self, piece)
            yield piece
            del piece  # before the next is made

    def _piece(self, rows: slice, cols: slice, into: Array | None, *, cleared: bool) -> Piece:
        device, transform = self.device, self.transform
        given = (device, self.raw[rows, cols], self.stored, self._totals_at(rows, cols), into)
        piece = Piece(rows, cols, *transform.widen(*given, cleared=cleared), device.xp, into)
        if transform.awaits_nan and math.isnan(piece.peak):
            del piece  # before it is made again
            return Piece(rows, cols, *transform.filled(*given), device.xp, into)
        return piece

    def show(self, lookers: Sequence[Looker]) -> None:
        """Let some look at all of them, each piece made once for all."""
        if lookers:
            for piece in self.pieces(lookers):
                del piece  # before the next is made

    def show_finding_gaps(self, lookers: Sequence[Looker]) -> bool:
        """The same; whether some are missing that are to be 0, for which pieces may have to be made."""
        if not self.transform.drops:
            self.show(lookers)
            return False
        found = (piece.gaps is not None for piece in self.pieces(lookers))
        return any(list(found) if lookers else found)

    def gaps(self, piece: Piece) -> Gaps | None:
        """Which of a piece's entries take the mean of their column of A, or are 0 in B."""
        return piece.gaps if self.transform.hands_on_gaps else None

    def place(self, piece: Piece) -> tuple[slice, slice]:
        """Rows and columns of a piece in B."""
        rows, cols = (
            slice(start.start + part.start, start.start + part.stop)
            for start, part in ((self.rows, piece.rows), (self.cols, piece.cols))
        )
        return rows, cols


def sums_of_samples(device: Device, values: Array, axis: int) -> np.ndarray:
    """The sums of the numbers of each sample, float64; `axis` numbers the features."""
    wide = device.xp.astype(values, device.xp.float64, copy=False)
    return np.asarray(device.to_host(totals_of(device.xp, wide, axis)))
