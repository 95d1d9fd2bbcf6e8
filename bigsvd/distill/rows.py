"""`Rows`: some samples of a matrix with gaps, in the units of the teacher's B."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

Array = Any


@dataclass(frozen=True, eq=False)
class Rows:
    """A panel of samples.

    Attributes:
        start: number of the first sample.
        values: (b, n) float64, 0 where nothing was seen.
        seen: which entries were observed, (b, n) bool.

    """

    start: int
    values: Array
    seen: Array

    def __len__(self) -> int:
        return int(self.values.shape[0])

    @property
    def span(self) -> slice:
        """The numbers of the samples."""
        return slice(self.start, self.start + len(self))

    def batches(self, rows: int) -> Iterator[Rows]:
        """The same in parts of no more than so many rows."""
        return (self.part(slice(start, start + rows)) for start in range(0, len(self), rows))

    def part(self, some: slice) -> Rows:
        """Some of them."""
        return Rows(self.start + some.start, self.values[some], self.seen[some])

    def moved(self, move: Callable[[Array], Array]) -> Rows:
        """The same on a device, to which `move` copies an array."""
        return Rows(self.start, move(self.values), move(self.seen))

    def hide(self, hidden: Array) -> Rows:
        """The same without these entries, (b, n) bool; they may be ones that were not seen."""
        seen = self.seen & ~hidden
        return replace(self, values=self.values * seen, seen=seen)
