"""An array of scratch that holds a factor by rows, however it is stored there."""

from __future__ import annotations

from dataclasses import dataclass

from bigsvd.orientation import Rows, Side
from bigsvd.results.store import FOLDER
from bigsvd.scratch import Scratch


@dataclass(frozen=True)
class FactorArray:
    """Where a factor (length, k) of B lies in scratch, and the axis of the array that its rows are along."""

    name: str
    axis: int = 0

    @classmethod
    def of(cls, side: Side) -> FactorArray:
        """That of the result's factor on this side of A."""
        return cls(f"{FOLDER}/{side.name}", side.axis)

    def create(self, scratch: Scratch, shape: tuple[int, int], chunk_rows: int, dtype: str) -> Rows:
        """A new one of `shape` (length, k), in chunks of some whole rows."""
        stored, chunks = self._stored(shape), self._stored((chunk_rows, shape[1]))
        return Rows(scratch.create(self.name, stored, chunks, dtype), self.axis)

    def open(self, scratch: Scratch) -> Rows:
        """The array that is there, to read and write rows of the factor."""
        return Rows(scratch.open(self.name), self.axis)

    def _stored(self, shape: tuple[int, int]) -> tuple[int, ...]:
        return shape if self.axis == 0 else shape[::-1]
