"""The transpose of a source, which a run streams where its plan takes A's columns for the rows of B.

It stands at the door of a run. Nothing behind it knows that the data are stored the other way, except by
`Source.orientation`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.facts import SourceFacts
from bigsvd.orientation import Orientation
from bigsvd.slabs.block import Block
from bigsvd.sources.base import Rectangle, Rehearsal, Source


class TransposedSource(Source):
    """Aᵀ of a source A: ``read(rows, cols)`` is ``inner.read(cols, rows).T``.

    What is read keeps the memory order it has in A. The name and the fingerprint stay those of A.
    """

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self.facts = _flipped(inner.facts)
        self.counters = inner.counters

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return TransposedSource, (self._inner,)

    @property
    def orientation(self) -> Orientation:
        """See `Source.orientation`."""
        return self._inner.orientation.flipped

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`."""
        return self._inner.read(cols, rows, space).T

    def block(self, rows: slice, cols: slice, space: ReadBuffers) -> Block:
        """See `Source.block`."""
        return self._inner.block(cols, rows, space).T

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """See `Source.stamp`."""
        return self._inner.stamp(cols, rows)

    @property
    def on_disk(self) -> bool:
        """See `Source.on_disk`."""
        return self._inner.on_disk

    @property
    def places(self) -> tuple[Path, ...]:
        """See `Source.places`."""
        return self._inner.places

    def fresh(self) -> Source:
        """See `Source.fresh`."""
        return TransposedSource(self._inner.fresh())

    @property
    def in_this_process_only(self) -> bool:
        """See `Source.in_this_process_only`."""
        return self._inner.in_this_process_only

    def sent(self) -> Source:
        """See `Source.sent`."""
        return self._around(self._inner.sent())

    def part(self, rectangles: list[Rectangle]) -> Source:
        """See `Source.part`."""
        return self._around(self._inner.part([(cols, rows) for rows, cols in rectangles]))

    def persisted(self, rectangles: list[Rectangle]) -> dict[Any, Any]:
        """See `Source.persisted`."""
        return self._inner.persisted([(cols, rows) for rows, cols in rectangles])

    def given(self, values: dict[Any, Any]) -> Source:
        """See `Source.given`."""
        return self._around(self._inner.given(values))

    @property
    def carried_bytes(self) -> int:
        """See `Source.carried_bytes`."""
        return self._inner.carried_bytes

    def limited(self, limit_bytes: int) -> Source:
        """See `Source.limited`."""
        return TransposedSource(self._inner.limited(limit_bytes))

    @property
    def shared(self) -> dict[Any, Any]:
        """See `Source.shared`."""
        return self._inner.shared

    @property
    def awaited(self) -> list[Any]:
        """See `Source.awaited`."""
        return self._inner.awaited

    @property
    def met_masks(self) -> bool:
        """See `Source.met_masks`."""
        return self._inner.met_masks

    @property
    def held_bytes(self) -> int:
        """See `Source.held_bytes`."""
        return self._inner.held_bytes

    def adopt(self, rehearsal: Rehearsal) -> None:
        """See `Source.adopt`."""
        self._inner.adopt(rehearsal)
        self.facts = _flipped(self._inner.facts)

    def _around(self, inner: Source) -> Source:
        """The transpose of another form of the same source: this very one where there is no other."""
        return self if inner is self._inner else TransposedSource(inner)


def streamed(source: Source, *, transposed: bool) -> Source:
    """The source of the matrix B that a plan streams: of A, or of its transpose."""
    return TransposedSource(source) if transposed else source


def _flipped(facts: SourceFacts) -> SourceFacts:
    return replace(facts, shape=facts.shape[::-1], chunks=facts.chunks[::-1], piece=facts.piece[::-1])
