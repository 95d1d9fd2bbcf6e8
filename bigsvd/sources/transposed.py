"""The transpose of a source, which a run streams where its plan takes A's columns for the rows of B.

It stands at the door of a run. Nothing behind it knows that the data are stored the other way, except by
`Source.orientation`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bigsvd.facts import SourceFacts
from bigsvd.orientation import Orientation
from bigsvd.sources.base import KeptLines, Rectangle, Source
from bigsvd.sources.wrapped import WrappedSource


class TransposedSource(WrappedSource):
    """Aᵀ of a source A: ``read(rows, cols)`` is ``inner.read(cols, rows).T``.

    What is read keeps the memory order it has in A. The name and the fingerprint stay those of A.
    """

    def seen(self, facts: SourceFacts) -> SourceFacts:
        """See `WrappedSource.seen`."""
        return replace(
            facts,
            shape=facts.shape[::-1],
            chunks=facts.chunks[::-1],
            piece=facts.piece[::-1],
            samples_axis=facts.features_axis,
        )

    def inside(self, rows: slice, cols: slice) -> list[Rectangle]:
        """See `WrappedSource.inside`."""
        return [(cols, rows)]

    def lines_inside(self, rows: np.ndarray | None, cols: np.ndarray | None) -> KeptLines:
        """See `WrappedSource.lines_inside`."""
        return cols, rows

    @property
    def orientation(self) -> Orientation:
        """See `Source.orientation`."""
        return self.inner.orientation.flipped

    def shown(self, found: Any) -> Any:
        """See `WrappedSource.shown`."""
        return found.T

    @property
    def kept(self) -> KeptLines:
        """See `Source.kept`."""
        rows, cols = self.inner.kept
        return cols, rows

    @property
    def asked_order(self) -> KeptLines:
        """See `Source.asked_order`."""
        rows, cols = self.inner.asked_order
        return cols, rows


def streamed(source: Source, *, transposed: bool) -> Source:
    """The source of the matrix B that a plan streams: of A, or of its transpose."""
    return TransposedSource(source) if transposed else source
