"""`AdaptSums`: components that move to new data, by one pass of normal equations for each column.

Without it all that is predicted lies in the span of the teacher's components. It is the M-step of
probabilistic PCA with gaps (Ilin & Raiko 2010, Sec. 4.2), for all rows at once what PETRELS does row by row
(Chi, Eldar & Calderbank 2013).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bigsvd.distill.basis import Basis
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Coordinates

Array = Any

NAME = "adapt"
_COLUMN_BYTES = 2**24  # of the square matrices of columns that are solved at a time


def adapt_bytes(n: int, r: int) -> int:
    """What the sums of `AdaptSums` take: n·r²/2 numbers, and few beside."""
    return 8 * n * (_pairs(r) + r + 2)


def _pairs(r: int) -> int:
    """Entries of a symmetric matrix that say all of it."""
    return r * (r + 1) // 2


class AdaptSums:
    """Over the rows that have a column j: Σ zzᵀ + C, Σ z·x_j, Σ x_j² and their number, for each column.

    Args:
        basis: whose components are to move.
        xp: array namespace of what will be added.

    """

    def __init__(self, basis: Basis, xp: Any = np) -> None:
        self.teacher = basis
        n, r = basis.n, basis.r
        self._upper = np.triu_indices(r)
        self._moments = xp.zeros((n, _pairs(r)))
        self._products = xp.zeros((n, r))
        self._squares = xp.zeros(n)
        self._counts = xp.zeros(n)
        self._whole = xp.zeros(_pairs(r))
        self.rows = 0

    def add(self, rows: Rows, coordinates: Coordinates) -> None:
        """Some rows and the posterior of their coordinates, which has seen no more than they have."""
        seen = rows.seen * 1.0
        moments = coordinates.second_moments[(slice(None), *self._upper)]
        self._moments += seen.T @ moments
        self._products += rows.values.T @ coordinates.mean
        self._squares += (rows.values**2).sum(0)
        self._counts += seen.sum(0)
        told = rows.seen.any(1)
        self._whole += told @ moments
        self.rows += int(told.sum())

    def basis(self, kappa: float) -> Basis:
        """Components, noise and variances as if the teacher were `kappa` further rows that have every column.

        w_j = (Σ(zzᵀ + C) + κΛ)⁻¹·(Σ z·x_j + κΛ·v_j), Λ the teacher's prior: those of many rows follow the
        new data, those of none stay. W is then made orthonormal, in the directions in which W·z varies.
        """
        W, noise = np.empty_like(self.teacher.V), np.empty(self.teacher.n)
        for some in self._batches():
            W[some], noise[some] = self._solved(some, kappa)
        return self._orthonormal(W, noise, kappa)

    def _batches(self) -> Iterator[slice]:
        step = max(1, _COLUMN_BYTES // (8 * self.teacher.r**2))
        return (slice(start, start + step) for start in range(0, self.teacher.n, step))

    def _solved(self, some: slice, kappa: float) -> tuple[np.ndarray, np.ndarray]:
        """W and the noise of some columns."""
        right = self._right(some, kappa)
        W = np.linalg.solve(self._left(some, kappa), right[:, :, None])[:, :, 0]
        # What is left of Σx² at least squares, those of the teacher's rows too.
        left_over = self._all_squares(some, kappa) - np.sum(W * right, axis=1)
        return W, left_over / (_host(self._counts[some]) + kappa)

    def _left(self, some: slice, kappa: float) -> np.ndarray:
        return self._square(_host(self._moments[some])) + kappa * np.diag(self.teacher.prior)

    def _right(self, some: slice, kappa: float) -> np.ndarray:
        return np.asarray(_host(self._products[some]) + kappa * self.teacher.prior * self.teacher.V[some])

    def _all_squares(self, some: slice, kappa: float) -> np.ndarray:
        """Σ x_j², the teacher's rows as its model has them."""
        explained = self.teacher.V[some] ** 2 @ self.teacher.prior
        return np.asarray(_host(self._squares[some]) + kappa * (self.teacher.noise[some] + explained))

    def _orthonormal(self, W: np.ndarray, noise: np.ndarray, kappa: float) -> Basis:
        """The same model with orthonormal components, and as many samples as the teacher has."""
        V, variances = _principal(W, self._moment(kappa))
        floored = Basis.floored(np.maximum(noise, 0.0), np.sqrt(variances), 1)
        s = np.sqrt(self.teacher.samples * (variances + floored @ V**2))
        return Basis(V, s, floored, self.teacher.samples)

    def _moment(self, kappa: float) -> np.ndarray:
        """Mean of zzᵀ over all rows, (r, r)."""
        found = self._square(_host(self._whole)[None])[0]
        return np.asarray((found + kappa * np.diag(self.teacher.prior)) / (self.rows + kappa))

    def _square(self, packed: np.ndarray) -> np.ndarray:
        """Symmetric matrices (c, r, r) of their upper halves."""
        first, second = self._upper
        found = np.empty((len(packed), self.teacher.r, self.teacher.r))
        found[:, first, second] = packed
        found[:, second, first] = packed
        return found


def _principal(W: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal directions (n, r) and the variances of W·z along them, descending; E zzᵀ is `moment`."""
    Q, R = np.linalg.qr(W)
    variances, turn = np.linalg.eigh(R @ moment @ R.T)
    return (Q @ turn)[:, ::-1], np.maximum(variances[::-1], 0.0)


def _host(array: Array) -> np.ndarray:
    """As NumPy; CuPy copies only where it is told to."""
    return np.asarray(array.get()) if hasattr(array, "get") else np.asarray(array)
