"""Counts normalised by the totals of their samples, all features counted, and their logarithms.

Both keep zeros, so that only what is stored is worked on, once where it is read. The function
`normalize_total` of a request divides by the totals of the features that are decomposed instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import cast

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.errors import NonFiniteError, RequestError
from bigsvd.facts import SourceFacts
from bigsvd.slabs.block import Block
from bigsvd.slabs.sparse import SparseBlock
from bigsvd.sources.base import Source, hashed
from bigsvd.sources.wrapped import PiecewiseSource, cells, reader_of_pieces
from bigsvd.vectors import digest_of

_WORKED_ON = 2**17  # entries at a time, which stay in a core's cache


class NormalizedSource(PiecewiseSource):
    """gains·A by rows, and log(1 + that) if asked for, of floats A.

    `gains` (m,) float64 are positive: what each row is multiplied by.
    """

    def __init__(self, inner: Source, gains: np.ndarray, *, log1p: bool) -> None:
        self.gains, self._log1p = gains, log1p
        super().__init__(inner)

    def around(self, inner: Source) -> NormalizedSource:
        """See `WrappedSource.around`."""
        return NormalizedSource(inner, self.gains, log1p=self._log1p)

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[object, ...]]:
        return _normalized, (self.inner, self.gains, self._log1p)

    def seen(self, facts: SourceFacts) -> SourceFacts:
        """See `WrappedSource.seen`."""
        if facts.packing.packed or facts.marks_gaps or np.dtype(facts.dtype).kind == "b":
            raise RequestError(
                f"{facts.name} holds no plain counts ({facts.dtype})", "drop normalize and log1p"
            )
        marks = f"{facts.fingerprint} {digest_of(self.gains)} log1p={self._log1p}"
        spare_bytes = facts.spare_bytes + (0 if facts.is_sparse else 2 * self.piece_bytes)
        return replace(
            facts,
            dtype=float_of(facts).name,
            fingerprint=hashed(marks),
            reader=facts.reader if facts.is_sparse else reader_of_pieces(facts),
            spare_bytes=spare_bytes + self.gains.nbytes,
        )

    def block(self, rows: slice, cols: slice, space: ReadBuffers) -> Block:
        """See `Source.block`; a sparse one is changed where it was read."""
        if not self.facts.is_sparse:
            return super().block(rows, cols, space)
        found = cast("SparseBlock", self.inner.block(rows, cols, space))
        starts, places, entries = found.parts
        gains = self.gains[rows]
        for some in _by_entries(starts):
            inside = slice(int(starts[some.start]), int(starts[some.stop]))
            if found.flipped:
                along = gains[places[inside]]
            else:
                along = np.repeat(gains[some], np.diff(starts[some.start : some.stop + 1]))
            entries[inside] = self._of(entries[inside], along)
        return found

    def fill(self, target: np.ndarray, rows: slice, cols: slice, read: Callable[..., np.ndarray]) -> None:
        """See `PiecewiseSource.fill`."""
        height, width = self.inner.facts.chunks
        for some_rows in cells(rows, height):
            for some_cols in cells(cols, width):
                here = target[
                    some_rows.start - rows.start : some_rows.stop - rows.start,
                    some_cols.start - cols.start : some_cols.stop - cols.start,
                ]
                here[...] = self._of(read(some_rows, some_cols), self.gains[some_rows, np.newaxis])

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`."""
        if self.facts.is_sparse:
            return np.asarray(self.block(rows, cols, space or ReadBuffers()).rows(slice(None)))
        return super().read(rows, cols, space)

    def _of(self, entries: np.ndarray, gains: np.ndarray) -> np.ndarray:
        values: np.ndarray = entries * gains
        least = values.min(initial=0.0)
        if least < 0:
            raise RequestError(
                f"{self.facts.name} has entries below 0, such as {entries.min():g}",
                "normalize and log1p are of counts: give the layer that has them",
            )
        if self._log1p:
            np.log1p(values, out=values)
        return values


def _normalized(inner: Source, gains: np.ndarray, log1p: bool) -> Source:
    return NormalizedSource(inner, gains, log1p=log1p)


def float_of(facts: SourceFacts) -> np.dtype[np.floating]:
    """The type of numbers made of these: float64 of float64, else float32."""
    return np.dtype(np.float64 if facts.dtype == "float64" else np.float32)


def normalized(source: Source, target: float | None, *, log1p: bool) -> Source:
    """A source of counts with rows that add up to a target, where one is given, and logarithms of 1 + these.

    Raises:
        RequestError: the target is not positive. As `gains_of`.

    """
    if target is None and not log1p:
        return source
    counts = source.as_floats()
    if target is None:
        return NormalizedSource(counts, np.ones(source.facts.shape[0]), log1p=log1p)
    if not 0 < target < np.inf:
        raise RequestError(f"normalize={target!r} is not a positive number", "give such as 1e4")
    return NormalizedSource(counts, gains_of(counts, target), log1p=log1p)


def gains_of(source: Source, target: float) -> np.ndarray:
    """By what each row is multiplied so that its sum becomes the target, (m,) float64; 1 where that is 0.

    All entries are read once, a chunk at a time.

    Raises:
        NonFiniteError: an entry is not finite. RequestError: a sum is negative.

    """
    totals, space = np.zeros(source.facts.shape[0]), ReadBuffers()
    for rows, cols in _chunks(source.facts):
        totals[rows] += _sums(source.block(rows, cols, space))
    if not np.all(np.isfinite(totals)):
        row = int(np.flatnonzero(~np.isfinite(totals))[0])
        raise NonFiniteError(
            f"the total of row {row} of {source.facts.name} is {totals[row]}", "give finite counts"
        )
    if np.any(totals < 0):
        row = int(np.argmin(totals))
        raise RequestError(
            f"the total of row {row} of {source.facts.name} is {totals[row]:g}", "normalize counts only"
        )
    return target / np.where(totals == 0, 1.0, totals)


def _sums(block: Block) -> np.ndarray:
    """The sum of each row of a block, (r,) float64."""
    if isinstance(block, SparseBlock):
        return np.asarray(block.matrix.astype(np.float64).sum(axis=1)).reshape(-1)
    return np.asarray(np.asarray(block.rows(slice(None))).sum(axis=1, dtype=np.float64))


def _chunks(facts: SourceFacts) -> Iterator[tuple[slice, slice]]:
    """The rectangles that are stored together."""
    (m, n), (height, width) = facts.shape, facts.chunks
    return product(cells(slice(0, m), height), cells(slice(0, n), width))


def _by_entries(starts: np.ndarray) -> Iterator[slice]:
    """Ranges of lines, that begin at `starts` (r + 1,), with few entries each, or one line."""
    first, last = 0, starts.size - 1
    while first < last:
        most = int(np.searchsorted(starts, starts[first] + _WORKED_ON, "right")) - 1
        stop = min(last, max(first + 1, most))
        yield slice(first, stop)
        first = stop
