"""Products of points by pairs: the logarithms of many normal densities are one product of matrices with them.

Each is linear in the pairs of (1, z): normal densities are an exponential family (Bishop 2006, Sec. 2.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

_BLOCK_BYTES = 2**21  # of the pairs of some points: they stay in a core's cache until they are used
_FEWEST = 64  # points at a time, however many pairs each has: products of fewer are slow
_HELD_BYTES = 2**27  # of pairs, that are kept instead of being made again whenever they are used


def pairs_of(points: np.ndarray) -> Iterable[np.ndarray]:
    """The products (p, b) of each two of (1, z₁, …, z_r), of some of the points (m, r) at a time, in order.

    They lie as an upper triangle does, row by row: p is `number_of_pairs`. `pairs_bytes` are held, those of
    many points being made again each time.
    """
    made = _Made(points)
    return made if made.bytes > _HELD_BYTES else list(made)


def pairs_bytes(points: int, r: int) -> int:
    """That `pairs_of` points (m, r) hold at the most."""
    block = _rows(r) * _bytes_each(r)
    return block + min(points * _bytes_each(r), _HELD_BYTES)


@dataclass(frozen=True, eq=False)
class _Made:
    """The pairs of points, made anew in each iteration."""

    points: np.ndarray

    @property
    def bytes(self) -> int:
        """Of all."""
        return len(self.points) * _bytes_each(self.points.shape[1])

    def __iter__(self) -> Iterator[np.ndarray]:
        rows = _rows(self.points.shape[1])
        for start in range(0, len(self.points), rows):
            yield _pairs(self.points[start : start + rows].T)


def number_of_pairs(r: int) -> int:
    """p, of 1 and r coordinates."""
    return (r + 1) * (r + 2) // 2


def packed(forms: np.ndarray) -> np.ndarray:
    """Symmetric M (c, r+1, r+1) as (c, p): times `pairs_of` points they are (1, z)·M·(1, z)ᵀ."""
    first, second = np.triu_indices(forms.shape[-1])
    return np.asarray(forms[:, first, second] * (2.0 - (first == second)))


def _pairs(columns: np.ndarray) -> np.ndarray:
    """Of points as columns (r, b)."""
    lines = np.insert(columns, 0, 1.0, axis=0)
    return np.concatenate([line * lines[place:] for place, line in enumerate(lines)])


def _rows(r: int) -> int:
    return max(_FEWEST, _BLOCK_BYTES // _bytes_each(r))


def _bytes_each(r: int) -> int:
    """Of the pairs of a point."""
    return 8 * number_of_pairs(r)
