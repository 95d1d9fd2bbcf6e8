"""Completion of a matrix with gaps by the nuclear norm, the penalty chosen on hidden entries.

Sources: Mazumder, Hastie & Tibshirani 2010, "Spectral regularization algorithms for learning large incomplete
matrices"; solved by alternating least squares, Hastie, Mazumder, Lee & Zadeh 2015, "Matrix completion and
low-rank SVD via fast alternating least squares", Alg. 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bigsvd.distill.holdout import Holdout
from bigsvd.distill.rows import Rows

_SHRINK = 0.65  # from a penalty to the next
_PENALTIES = 16  # at most
_ITERATIONS = 50  # at most for a penalty
_TOLERANCE = 1e-5  # squared relative change at which a penalty is done, as in the authors' package
_WORSE = 2  # penalties in a row with a larger error than the least, after which no smaller one is tried


def complete(rows: Rows, rank: int, seed: int) -> np.ndarray:
    """The completed matrix (m, n), by the penalty that fills hidden entries best."""
    number = _best_number(rows, Holdout(seed).hidden(rows), rank)
    return next(islice(_path(rows, rank), number, None))


def _best_number(rows: Rows, hidden: np.ndarray, rank: int) -> int:
    """Which penalty of the path fills the hidden entries best."""
    errors: list[float] = []
    for found in _path(rows.hide(hidden), rank):
        errors.append(float(np.sum((found - rows.values)[hidden] ** 2)))
        if len(errors) - 1 - int(np.argmin(errors)) >= _WORSE:
            break
    return int(np.argmin(errors))


def _path(rows: Rows, rank: int) -> Iterator[np.ndarray]:
    """The completed matrix for one penalty after the other, each from that before it.

    The largest is that for which everything would be 0.
    """
    largest = float(np.linalg.norm(rows.values, 2))
    random = np.random.default_rng(0)
    U, d = np.linalg.qr(random.normal(size=(len(rows), rank)))[0], np.ones(rank)
    found = _LowRank(U, d, np.zeros_like(rows.values))
    if not largest:
        yield found.product
        return
    for penalty in largest * _SHRINK ** np.arange(1, _PENALTIES + 1):
        found = _converged(rows, found, penalty)
        yield found.product


def _converged(rows: Rows, found: _LowRank, penalty: float) -> _LowRank:
    for _ in range(_ITERATIONS):
        last = found.product
        found = found.stepped(rows, penalty)
        if np.sum((found.product - last) ** 2) <= _TOLERANCE * np.sum(last**2):
            break
    return found


@dataclass(frozen=True, eq=False)
class _LowRank:
    """U (m, r) and D (r,) of the method, and the product A·Bᵀ (m, n)."""

    U: np.ndarray
    d: np.ndarray
    product: np.ndarray

    def stepped(self, rows: Rows, penalty: float) -> _LowRank:
        """After one step for either factor."""
        V, d, product = _half_step(_filled(rows, self.product), self.U, self.d, penalty)
        U, d, transposed = _half_step(_filled(rows, product).T, V, d, penalty)
        return _LowRank(U, d, transposed.T)


def _filled(rows: Rows, product: np.ndarray) -> np.ndarray:
    """What was seen, and the product in the gaps: X* of the paper."""
    return np.where(rows.seen, rows.values, product)


def _half_step(
    filled: np.ndarray, U: np.ndarray, d: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps 2 (a) to (c): Bᵀ = (D² + λI)⁻¹·D·Uᵀ·X*, the SVD B·D = V·D̃²·Rᵀ, and the product U·D·Bᵀ."""
    B = (filled.T @ (U * d)) / (d**2 + penalty)
    V, squares, _ = np.linalg.svd(B * d, full_matrices=False)
    return V, np.sqrt(squares), (U * d) @ B.T
