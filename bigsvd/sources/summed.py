"""Entries summed over the last axis of their array, such as the alleles of a genotype to its dosage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np

from bigsvd.errors import RequestError
from bigsvd.facts import Packing, SourceFacts
from bigsvd.sources.base import KeptLines, Rectangle
from bigsvd.sources.wrapped import PiecewiseSource, cells, reader_of_pieces

_MISSING = -1  # the sum of a group in which one is missing
_WIDER = {"int8": "int16", "int16": "int32", "int32": "int64", "int64": "int64", "float16": "float32"}
_WIDER |= {"bool": "int16", "uint8": "int16", "uint16": "int32", "uint32": "int64"}


class SummedSource(PiecewiseSource):
    """Sums of as many columns next to each other as the array's last axis is long.

    Where one of the entries is missing, by the array's attributes, the sum is missing: -1 in integers, else
    NaN. In integers a negative entry is missing too (VCF's missing alleles and the padding of fewer alleles,
    as bio2zarr and sgkit store them).
    """

    def seen(self, facts: SourceFacts) -> SourceFacts:
        """See `WrappedSource.seen`."""
        if facts.packing.packed:
            raise RequestError(
                f"{facts.name} is packed ({facts.packing}), and sums of its entries are not", "drop sum"
            )
        if facts.dtype not in _WIDER and facts.dtype[:5] != "float":
            raise RequestError(f"{facts.name} has dtype {facts.dtype}, of which no sums are made", "drop sum")
        count, lengths = facts.array_shape[-1], facts.array_shape[:-1]
        dtype = _WIDER.get(facts.dtype, facts.dtype)
        packing = Packing()
        gaps = facts.marks_gaps or np.dtype(facts.dtype).kind == "i"  # others are no negative numbers
        if np.dtype(dtype).kind == "i" and gaps:
            packing = Packing(fills=(_MISSING,))
        return replace(
            facts,
            shape=(facts.shape[0], facts.shape[1] // count),
            dtype=dtype,
            chunks=(facts.chunks[0], max(1, facts.chunks[1] // count)),
            piece=(facts.piece[0], max(1, facts.piece[1] // count)),
            packing=packing,
            masked=facts.marks_gaps and not packing.marks_gaps,
            dims=facts.dims[:-1],
            array_shape=lengths if len(lengths) > 2 else (),
            reader=reader_of_pieces(facts),
            spare_bytes=facts.spare_bytes + 2 * self.piece_bytes,
        )

    def inside(self, rows: slice, cols: slice) -> list[Rectangle]:
        """See `WrappedSource.inside`."""
        return [(rows, slice(cols.start * self._count, cols.stop * self._count))]

    def lines_inside(self, rows: np.ndarray | None, cols: np.ndarray | None) -> KeptLines:
        """See `WrappedSource.lines_inside`."""
        if cols is None:
            return rows, None
        return rows, (cols[:, np.newaxis] * self._count + np.arange(self._count)).reshape(-1)

    def fill(self, target: np.ndarray, rows: slice, cols: slice, read: Callable[..., np.ndarray]) -> None:
        """See `PiecewiseSource.fill`."""
        sides = zip((rows, cols), self.facts.chunks, strict=True)
        for some_rows, some_cols in product(*(cells(side, length) for side, length in sides)):
            [there] = self.inside(some_rows, some_cols)
            alleles = read(*there).reshape(some_rows.stop - some_rows.start, -1, self._count)
            here = target[
                some_rows.start - rows.start : some_rows.stop - rows.start,
                some_cols.start - cols.start : some_cols.stop - cols.start,
            ]
            alleles.sum(axis=2, dtype=target.dtype, out=here)
            missing = self._missing(alleles)
            if missing is not None:
                here[missing.any(axis=2)] = _MISSING if here.dtype.kind == "i" else np.nan

    def _missing(self, alleles: np.ndarray) -> np.ndarray | None:
        """Which entries stand for no number; None where none can."""
        found: np.ndarray | None = self.inner.facts.packing.gaps_in(np, alleles, alleles.dtype)
        if alleles.dtype.kind != "i":
            return found
        return alleles < 0 if found is None else found | (alleles < 0)

    def where(self, row: int, column: int) -> str:
        """See `Source.where`."""
        return self.facts.place(row, column)

    @property
    def _count(self) -> int:
        return self.inner.facts.array_shape[-1]
