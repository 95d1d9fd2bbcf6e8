"""Exact zoom levels: the mean of any block of a reconstruction, from means of its factors.

Over rows I and columns J the mean of diag(r)·U·diag(s)·Vt·diag(c) + 1·mean is
mean((diag(r)·U)[I])·diag(s)·mean((Vt·diag(c))[:, J]) + mean(mean[J]). Level l has the means of blocks of
2^l by 2^l entries, those at the edges clipped, and costs a product of factors that are 2^l times shorter.

Entries of the data that no reconstruction has, since their row or column was left out or is not known, lie
in whole lines. A mean is over the others, which are then some rows times some columns of the block, so it is
exact as well; it is NaN where there are none. Missing single entries (`LowRank.gaps`) form no such product:
a block that has one is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.floats import silent
from bigsvd.orientation import Rows
from bigsvd.results.blocks import Blocked, Keep
from bigsvd.results.kept import Kept
from bigsvd.results.reconstruct import ArrayLike, Gaps, LowRank, getitem

_FLOAT64 = np.dtype(np.float64)
_PIECE_BYTES = 2**25  # of lines in float64 that are summed at a time
_BLOCK_BYTES = 2**20  # of pooled lines that are made together, unless they are few
_LEAST_LINES = 512
_MOST_LINES = 2**16  # of the data whose gaps are asked for at a time


@dataclass(frozen=True)
class Level:
    """The means of blocks of 2^l by 2^l entries of a reconstruction, as an array-like (⌈m/2^l⌉, ⌈n/2^l⌉).

    Each is the mean over the entries of its block that are defined, to a rounding error in `dtype` of what
    its factors are as large as; NaN where none is.

    Attributes:
        means: the same in float64, in which it is computed: pooled factors may leave the range of float32.
        dtype: that of the reconstruction.

    """

    means: LowRank
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the level."""
        return self.means.shape

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """Those of `means`."""
        return self.means.chunk_shape

    @silent
    def __getitem__(self, key: Any) -> Any:
        return np.asarray(getitem(self.means, key)).astype(self.dtype, copy=False)


def level_shapes(shape: tuple[int, int], longest: int) -> list[tuple[int, int]]:
    """The shape of each level: of the reconstruction itself, then halved until no side is over `longest`."""
    shapes = [shape]
    while max(shapes[-1]) > longest:
        m, n = shapes[-1]
        shapes.append((-(-m // 2), -(-n // 2)))
    return shapes


def level(low_rank: LowRank, number: int, chunks: tuple[int, int], keep: Keep) -> Level:
    """Level `number` of a reconstruction, read in `chunks`.

    Its factors are made in blocks when they are needed, and in bounded memory: a block of U's reads 2^number
    times as many rows, some at a time. `keep` is asked for each by (axis, number, lines, block); they do not
    depend on how many singular values there are.
    """
    axis = low_rank.features_axis
    m, n = (-(-side >> number) for side in low_rank.shape)
    down, across = (
        _Blocks(_Lines.of(low_rank, axis, number), axis, keep, chunk) for axis, chunk in enumerate(chunks)
    )
    means = LowRank(
        U=Blocked((m, down.lines.k), _FLOAT64, 0, down.grain, down.factors),
        s=low_rank.s,
        Vt=Blocked((across.lines.k, n), _FLOAT64, 1, across.grain, lambda b: across.factors(b).T),
        mean=(down, across)[axis].means_along((m, n)[axis]),
        scale=None,
        chunks=chunks,
        dtype=_FLOAT64,
        device=low_rank.device,
        features_axis=axis,
        gaps=low_rank.gaps and _PooledGaps(low_rank.gaps, low_rank.kept or Kept(low_rank.shape), number),
    )
    return Level(means, low_rank.dtype)


class _Blocks:
    """Pooled lines along an axis, in blocks of `grain`, no longer than a `chunk` of the level."""

    def __init__(self, lines: _Lines, axis: int, keep: Keep, chunk: int) -> None:
        self.lines = lines
        self.grain = min(chunk, max(_LEAST_LINES, _BLOCK_BYTES // (8 * (lines.k + 1))))
        self._name = axis, lines.number, self.grain
        self._keep = keep

    def factors(self, b: int) -> np.ndarray:
        """Means of what the lines of block `b` are multiplied by, (…, k)."""
        return self._block(b)[:, :-1]

    def means_along(self, length: int) -> Blocked:
        """Means of what is added to each of so many lines."""
        return Blocked((length,), _FLOAT64, 0, self.grain, lambda b: self._block(b)[:, -1])

    def _block(self, b: int) -> np.ndarray:
        start = b * self.grain
        return self._keep((*self._name, b), lambda: self.lines.means(start, start + self.grain))


@dataclass(frozen=True, eq=False)
class _Lines:
    """Rows of U or columns of Vt, each times its factor, and the means behind those of the features.

    Attributes:
        weight: what each is multiplied by, mean: what is added to it; None where nothing is.
        ids: the lines of the data that they are, ascending; None where they are all `length` of these.
        number: of the level.

    """

    factor: Rows
    k: int
    weight: ArrayLike | None
    mean: ArrayLike | None
    ids: np.ndarray | None
    length: int
    number: int

    @classmethod
    def of(cls, low_rank: LowRank, axis: int, number: int) -> _Lines:
        """Those along an axis of a reconstruction."""
        factor, ids = Rows((low_rank.U, low_rank.Vt)[axis], axis), None
        k = (low_rank.U.shape[1], low_rank.Vt.shape[0])[axis]
        if low_rank.kept is not None:
            ids = low_rank.kept.lines[axis]
        weight, mean = low_rank.row_scale, None
        if axis == low_rank.features_axis:
            weight, mean = low_rank.scale, low_rank.mean
        return cls(factor, k, weight, mean, ids, low_rank.shape[axis], number)

    @silent
    def means(self, start: int, stop: int) -> np.ndarray:
        """Means of blocks start..stop, or as many as there are: (…, k) of lines, then those behind, (…, 1).

        NaN where a block has no defined line. Sums are by halves, so that they err by the logarithm of how
        many are summed, and are the same however they are cut into pieces.
        """
        end = min(stop << self.number, self.length)
        first, depth = start << self.number, min(self.number, self._most_halvings)
        node, whole = 1 << depth, 1 << self.number
        rounded = -(-(end - first) // whole) * whole
        sums = np.zeros((rounded // node, self.k + 2))
        step = max(node, 1 << self._most_halvings)
        for at in range(first, end, step):
            piece = _halved(self._dense(at, min(at + step, end), node), depth)
            begin = (at - first) // node
            sums[begin : begin + len(piece)] = piece
        total = _halved(sums, self.number - depth)
        return np.asarray(total[:, :-1] / total[:, -1:])

    @property
    def _most_halvings(self) -> int:
        """Of what is held at a time."""
        return max(0, (_PIECE_BYTES // (8 * (self.k + 2))).bit_length() - 1)

    def _dense(self, start: int, stop: int, multiple: int) -> np.ndarray:
        """For each line of the data: its factor (…, k), what is added to it, 1; 0 where it is not defined.

        There are zeros behind, up to a multiple of so many lines.
        """
        found = np.zeros((-(-(stop - start) // multiple) * multiple, self.k + 2))
        own, at = slice(start, stop), np.arange(stop - start)
        if self.ids is not None:
            own = slice(*np.searchsorted(self.ids, (start, stop)).tolist())
            at = self.ids[own] - start
        if len(at) == 0:
            return found
        weight, mean = _read(self.weight, own, 1.0), _read(self.mean, own, 0.0)
        part = np.empty((len(at), self.k + 2))
        part[:, : self.k] = self.factor[own] * weight[:, None]
        part[:, self.k] = mean
        part[:, -1] = 1.0
        part[np.isnan(weight) | np.isnan(mean)] = 0.0
        found[at] = part
        return found


def _read(values: ArrayLike | None, some: slice, default: float) -> np.ndarray:
    """Numbers of some lines; the same for each where there are none."""
    if values is None:
        return np.full(some.stop - some.start, default)
    return np.asarray(values[some], dtype=np.float64)


def _halved(sums: np.ndarray, times: int) -> np.ndarray:
    """Sums of 2^times neighbours each."""
    for _ in range(times):
        sums = sums[0::2] + sums[1::2]
    return sums


@dataclass(frozen=True, eq=False)
class _PooledGaps:
    """Which blocks of a level have an entry without a value."""

    gaps: Gaps
    kept: Kept
    number: int

    def among(self, rows: np.ndarray, cols: np.ndarray) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
        """See `Gaps.among`."""
        found = np.zeros((len(rows), len(cols)), dtype=bool)
        for i, down in self._lines(0, rows):
            for j, across in self._lines(1, cols):
                for (these_rows, these_cols), missing in self.gaps.among(down, across):
                    a, b = np.nonzero(missing)
                    found[i[these_rows][a], j[these_cols][b]] = True
        yield (slice(None), slice(None)), found

    def _lines(self, axis: int, blocks: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The lines of some blocks, numbered among those kept, each behind the number of its block."""
        whole = 1 << self.number
        step = max(1, _MOST_LINES // whole)
        for start in range(0, len(blocks), step):
            some = blocks[start : start + step]
            lines = (some[:, None] * whole + np.arange(whole)).reshape(-1)
            inside = lines < self.kept.shape[axis]
            at, own = self.kept.among(axis, lines[inside])
            if len(own):
                yield np.flatnonzero(inside)[at] // whole + start, own
