"""The idealised loop: threads that read each panel once, widen and standardise it in cache, and multiply it.

It knows the means and divisors beforehand, keeps nothing, checks nothing, and leaves Y = B·Q where it was:
what a pass has to do at least, with the reader, the panels and the columns that bigsvd's own pass had.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmarks.peers import SEED
from bigsvd.chunks.buffers import BufferRing
from bigsvd.machine.blas import one_blas_thread
from bigsvd.sources.base import Source

# Bytes of the rows that are widened, standardised and multiplied at a time.
_SLAB_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Standardizing:
    """B = (A − mean)·factor for the `mean` and the `factor` of A's columns; None where there is none.

    `axis` is the axis of B that numbers the columns of A. With `gaps` NaN become the mean.
    """

    mean: np.ndarray | None = None
    factor: np.ndarray | None = None
    gaps: bool = False
    axis: int = 1

    @property
    def changes(self) -> bool:
        """Whether entries are other ones than those read."""
        return self.gaps or self.mean is not None or self.factor is not None

    def apply(self, slab: np.ndarray, rows: slice) -> None:
        """In place, to some rows of B in the precision of the products; what has gaps is centred too."""
        if self.mean is not None:
            slab -= self._along(self.mean, rows, slab.dtype)
        if self.gaps:
            np.copyto(slab, 0, where=np.isnan(slab))
        if self.factor is not None:
            slab *= self._along(self.factor, rows, slab.dtype)

    def _along(self, line: np.ndarray, rows: slice, dtype: np.dtype[np.generic]) -> np.ndarray:
        values = line if self.axis == 1 else line[rows, None]
        return values.astype(dtype)


@dataclass
class Spent:
    """Seconds of all threads: reading (or waiting for it), widening and standardising, multiplying."""

    reading: float = 0.0
    making: float = 0.0
    multiplying: float = 0.0


@dataclass(frozen=True)
class Swept:
    """One loop over B: seconds from its beginning to its end, those of its parts, and Z = BᵀB·Q (N, c)."""

    seconds: float
    spent: Spent
    Z: np.ndarray


@dataclass(frozen=True)
class FloorLoop:
    """The loop over B, which `source` reads in panels of `panel_rows` rows.

    Attributes:
        threads: each reads and multiplies panels of its own.
        ahead: whether another thread reads the next panel meanwhile, as it should where a store lets it wait.

    """

    source: Source
    panel_rows: int
    standardizing: Standardizing
    threads: int
    ahead: bool
    _rings: list[BufferRing] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rings", [BufferRing(1) for _ in range(self.threads)])

    def sweep(self, columns: int, dtype: str) -> Swept:
        """Y = B·Q and Z = BᵀY for so many random columns Q, in this precision."""
        Q = np.random.default_rng(SEED).standard_normal((self.source.facts.shape[1], columns)).astype(dtype)
        with one_blas_thread, ThreadPoolExecutor(self.threads) as pool:
            start = time.perf_counter()
            lanes = list(pool.map(partial(self._lane, Q=Q), range(self.threads)))
            seconds = time.perf_counter() - start
        spent = Spent(*(sum(getattr(lane[0], name) for lane in lanes) for name in vars(Spent())))
        return Swept(seconds, spent, np.sum([lane[1] for lane in lanes], axis=0).T)

    def _lane(self, lane: int, Q: np.ndarray) -> tuple[Spent, np.ndarray]:
        """Every so-manieth panel; the seconds of its parts, and its part of Zᵀ."""
        spent, total = Spent(), np.zeros(Q.shape[::-1], Q.dtype)
        rows = max(16, _SLAB_BYTES // (Q.shape[0] * Q.dtype.itemsize))
        wide = np.empty(rows * Q.shape[0], Q.dtype)
        product = np.empty_like(total)
        before = time.perf_counter()
        for top, panel in self._panels(lane):
            spent.reading += (now := time.perf_counter()) - before
            for start in range(0, panel.shape[0], rows):
                piece = panel[start : start + rows]
                slab = self._slab(piece, wide, slice(top + start, top + start + len(piece)))
                spent.making += (made := time.perf_counter()) - now
                np.matmul((slab @ Q).T, slab, out=product)
                total += product
                spent.multiplying += (now := time.perf_counter()) - made
            before = now
        return spent, total

    def _slab(self, piece: np.ndarray, wide: np.ndarray, rows: slice) -> np.ndarray:
        """Rows of B as they are multiplied, in the memory order in which they were read."""
        if piece.dtype == wide.dtype:
            slab = piece  # the panel's memory is the loop's own, and is read into anew
        elif piece.flags.c_contiguous:
            slab = wide[: piece.size].reshape(piece.shape)
            np.copyto(slab, piece)
        else:
            slab = wide[: piece.size].reshape(piece.shape[::-1]).T
            np.copyto(slab, piece)
        if self.standardizing.changes:
            self.standardizing.apply(slab, rows)
        return slab

    def _panels(self, lane: int) -> Iterator[tuple[int, np.ndarray]]:
        """The first row and the entries of each panel of a lane, gone when the next but one is read."""
        source, ring = self.source.fresh(), self._rings[lane]
        (m, n), height = self.source.facts.shape, self.panel_rows

        def read(turn: int, top: int) -> np.ndarray:
            return source.read(slice(top, min(m, top + height)), slice(0, n), ring.slot(turn))

        tops = list(range(lane * height, m, self.threads * height))
        if not self.ahead:
            yield from ((top, read(turn, top)) for turn, top in enumerate(tops))
            return
        with ThreadPoolExecutor(1) as reader:
            following = [reader.submit(read, 0, tops[0])] if tops else []
            for turn, top in enumerate(tops):
                panel = following.pop().result()
                if turn + 1 < len(tops):
                    following.append(reader.submit(read, turn + 1, tops[turn + 1]))
                yield top, panel
