"""`WrappedSource`: a source that shows another one in another way, and reads it when it is read."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Hashable
from functools import partial
from itertools import pairwise, starmap
from pathlib import Path
from typing import Any, Self

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.facts import SourceFacts
from bigsvd.orientation import Orientation
from bigsvd.slabs.block import Block, DenseBlock
from bigsvd.sources.base import KeptLines, Rectangle, Rehearsal, Source


class WrappedSource(Source):
    """What all such sources share: everything but entries is asked of the source inside.

    A subclass says what its facts are, and where its rectangles lie in other places, in which rectangles of
    the source inside, and how it reads them.

    Attributes:
        inner: the source inside. how: what else it was made with.

    """

    how: tuple[Any, ...] = ()

    def __init__(self, inner: Source) -> None:
        self.inner = inner
        self.facts = self.seen(inner.facts)
        self.counters = inner.counters

    @abstractmethod
    def seen(self, facts: SourceFacts) -> SourceFacts:
        """The facts of this source, from those of the source inside."""

    def inside(self, rows: slice, cols: slice) -> list[Rectangle]:
        """The rectangles of the source inside that hold a rectangle of this one: by default the same."""
        return [(rows, cols)]

    def shown(self, found: Any) -> Any:
        """What was read of the source inside, an array or a block, as this one shows it."""
        return found

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`; by default what lies inside."""
        [there] = self.inside(rows, cols)
        found: np.ndarray = self.shown(self.inner.read(*there, space))
        return found

    def block(self, rows: slice, cols: slice, space: ReadBuffers) -> Block:
        """See `Source.block`; by default what lies inside."""
        [there] = self.inside(rows, cols)
        found: Block = self.shown(self.inner.block(*there, space))
        return found

    def around(self, inner: Source) -> Self:
        """The same view of another source."""
        return type(self)(inner, *self.how)

    def _around(self, inner: Source) -> Self:
        """The same view of another form of the same source: this very one where there is no other."""
        return self if inner is self.inner else self.around(inner)

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return type(self), (self.inner, *self.how)

    @property
    def orientation(self) -> Orientation:
        """See `Source.orientation`."""
        return self.inner.orientation

    @property
    def kept(self) -> KeptLines:
        """See `Source.kept`."""
        return self.inner.kept

    @property
    def asked_order(self) -> KeptLines:
        """See `Source.asked_order`."""
        return self.inner.asked_order

    def where(self, row: int, column: int) -> str:
        """See `Source.where`."""
        [(rows, cols)] = self.inside(slice(row, row + 1), slice(column, column + 1))
        return self.inner.where(rows.start, cols.start)

    def lines_inside(self, rows: np.ndarray | None, cols: np.ndarray | None) -> KeptLines:
        """The lines of the source inside that hold some of this one: by default the same."""
        return rows, cols

    def wanting(self, rows: np.ndarray | None, cols: np.ndarray | None) -> Source:
        """See `Source.wanting`."""
        return self._around(self.inner.wanting(*self.lines_inside(rows, cols)))

    def as_floats(self) -> Source:
        """See `Source.as_floats`."""
        return self._around(self.inner.as_floats())

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """See `Source.stamp`."""
        stamps = [self.inner.stamp(*rectangle) for rectangle in self.inside(rows, cols)]
        if len(stamps) == 1:
            return stamps[0]
        return None if None in stamps else tuple(stamps)

    def absent_chunks(self, rows: slice, cols: slice) -> int:
        """See `Source.absent_chunks`."""
        return sum(self.inner.absent_chunks(*rectangle) for rectangle in self.inside(rows, cols))

    @property
    def on_disk(self) -> bool:
        """See `Source.on_disk`."""
        return self.inner.on_disk

    @property
    def places(self) -> tuple[Path, ...]:
        """See `Source.places`."""
        return self.inner.places

    def fresh(self) -> Source:
        """See `Source.fresh`."""
        return self.around(self.inner.fresh())

    @property
    def in_this_process_only(self) -> bool:
        """See `Source.in_this_process_only`."""
        return self.inner.in_this_process_only

    def sent(self) -> Source:
        """See `Source.sent`."""
        return self._around(self.inner.sent())

    def part(self, rectangles: list[Rectangle]) -> Source:
        """See `Source.part`."""
        return self._around(self.inner.part(self._all_inside(rectangles)))

    def persisted(self, rectangles: list[Rectangle]) -> dict[Any, Any]:
        """See `Source.persisted`."""
        return self.inner.persisted(self._all_inside(rectangles))

    def given(self, values: dict[Any, Any]) -> Source:
        """See `Source.given`."""
        return self._around(self.inner.given(values))

    @property
    def carried_bytes(self) -> int:
        """See `Source.carried_bytes`."""
        return self.inner.carried_bytes

    def limited(self, limit_bytes: int) -> Source:
        """See `Source.limited`."""
        return self.around(self.inner.limited(limit_bytes))

    @property
    def shared(self) -> dict[Any, Any]:
        """See `Source.shared`."""
        return self.inner.shared

    @property
    def awaited(self) -> list[Any]:
        """See `Source.awaited`."""
        return self.inner.awaited

    @property
    def met_masks(self) -> bool:
        """See `Source.met_masks`."""
        return self.inner.met_masks

    @property
    def held_bytes(self) -> int:
        """See `Source.held_bytes`."""
        return self.inner.held_bytes

    def adopt(self, rehearsal: Rehearsal) -> None:
        """See `Source.adopt`."""
        self.inner.adopt(rehearsal)
        self.facts = self.seen(self.inner.facts)

    def _all_inside(self, rectangles: list[Rectangle]) -> list[Rectangle]:
        return [there for rectangle in rectangles for there in self.inside(*rectangle)]


class PiecewiseSource(WrappedSource):
    """A source that makes its rectangles of pieces of the source inside, none larger than a chunk."""

    @property
    def piece_bytes(self) -> int:
        """Bytes of such a piece."""
        facts = self.inner.facts
        return math.ceil(facts.chunks[0] * facts.chunks[1] * facts.entry_bytes)

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`."""
        own = space or ReadBuffers()
        target = own.panel.take((rows.stop - rows.start, cols.stop - cols.start), np.dtype(self.facts.dtype))
        self.fill(target, rows, cols, partial(self.inner.read, space=own.on_the_way))
        return target

    @abstractmethod
    def fill(self, target: np.ndarray, rows: slice, cols: slice, read: Callable[..., np.ndarray]) -> None:
        """Put the entries of a rectangle into `target` (r, c), by pieces that are `read` inside."""

    def block(self, rows: slice, cols: slice, space: ReadBuffers) -> Block:
        """See `Source.block`."""
        return DenseBlock(self.read(rows, cols, space))


def reader_of_pieces(facts: SourceFacts) -> str:
    """`SourceFacts.reader` of a source that copies what it reads from one of these facts."""
    return "foreign" if facts.reader == "memory" else facts.reader


def cells(along: slice, length: int) -> list[slice]:
    """A range cut at the multiples of a length."""
    edges = range(along.start // length * length + length, along.stop, length)
    return list(starmap(slice, pairwise([along.start, *edges, along.stop])))
