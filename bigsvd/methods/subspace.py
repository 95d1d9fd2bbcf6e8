"""An orthonormal basis K with Z = BᵀB·K, and what Rayleigh-Ritz makes of them without the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Residuals that there is memory for at a time: all of them would take as much as K and Z.
RESIDUALS_AT_ONCE = 64
# Rows of K and Z that are rotated at a time, in place.
_ROTATED_ROWS = 4096


@dataclass(frozen=True)
class Ritz:
    """Of BᵀB on span K, the leading first.

    Attributes:
        theta: Ritz values θ (L,) descending. coordinates: E (L, L), v = K·e.
        inner: RᵀR (c, c) of the residuals r = BᵀB·v − θ·v of the first c pairs.
        residuals: ‖r‖/θ (c,).

    """

    theta: np.ndarray
    coordinates: np.ndarray
    inner: np.ndarray
    residuals: np.ndarray


class Subspace:
    """K and Z = BᵀB·K, both (N, L) float64.

    Both grow in memory that is taken once, for as many columns as they may ever have: column by column, so
    that none of it is touched before it is used.
    """

    def __init__(self, rows: int, most: int) -> None:
        self._K = np.empty((rows, most), order="F")
        self._Z = np.empty((rows, most), order="F")
        self.width = 0

    @property
    def K(self) -> np.ndarray:  # noqa: N802
        """The orthonormal basis (N, L)."""
        return self._K[:, : self.width]

    @property
    def Z(self) -> np.ndarray:  # noqa: N802
        """BᵀB·K (N, L)."""
        return self._Z[:, : self.width]

    def append(self, Q: np.ndarray, Z: np.ndarray) -> None:
        """Add an orthonormal block with Z = BᵀB·Q."""
        new = slice(self.width, self.width + Q.shape[1])
        self._K[:, new] = Q
        self._Z[:, new] = Z
        self.width = new.stop

    def ritz(self, count: int) -> Ritz:
        """Rayleigh-Ritz of BᵀB on span K, with residuals of the first `count` pairs."""
        gram = self.K.T @ self.Z
        theta, E = np.linalg.eigh((gram + gram.T) / 2)
        theta, E = np.maximum(theta[::-1], 0.0), E[:, ::-1]
        first = slice(0, min(count, self.width))
        inner = self._inner_residuals(theta[first], E[:, first])
        norms = np.sqrt(np.diag(inner))
        with np.errstate(divide="ignore", invalid="ignore"):
            residuals = np.where(norms == 0, 0.0, norms / theta[first])
        return Ritz(theta, E, inner, residuals)

    def _inner_residuals(self, theta: np.ndarray, E: np.ndarray) -> np.ndarray:
        """RᵀR (c, c) for R = Z·E − K·E·θ, of which some rows at a time are formed."""
        count, rows = theta.size, len(self._K)
        total = np.zeros((count, count))
        step = max(1, RESIDUALS_AT_ONCE * rows // max(1, count))
        for start in range(0, rows if count else 0, step):
            some = slice(start, start + step)
            R = self.Z[some] @ E
            R -= (self.K[some] @ E) * theta
            total += R.T @ R
        return total

    def rotate(self, E: np.ndarray) -> None:
        """Keep only the span of K·E (thick restart), some rows at a time in place."""
        kept = E.shape[1]
        for array in (self._K, self._Z):
            for start in range(0, len(array), _ROTATED_ROWS):
                rows = slice(start, start + _ROTATED_ROWS)
                array[rows, :kept] = array[rows, : self.width] @ E
        self.width = kept


def orthonormal_complement(W: np.ndarray, K: np.ndarray, width: int, eps: float) -> np.ndarray:
    """An orthonormal basis of the strongest `width` directions of W outside span K (N, ≤width).

    Orthogonalised against K twice (Giraud et al. 2005: twice is enough), and once after normalising, which
    enlarges what rounding left in span K; drops directions below rounding.
    """
    scale = np.linalg.norm(W)
    if scale == 0 or not np.isfinite(scale):
        return W[:, :0]
    for _ in range(2):
        W = W - K @ (K.T @ W)
    Q, R = np.linalg.qr(W)
    left, values, _ = np.linalg.svd(R)
    keep = int(np.sum(values[:width] > 10 * eps * scale))
    if keep == 0:
        return W[:, :0]
    Q = Q @ left[:, :keep]
    return np.asarray(np.linalg.qr(Q - K @ (K.T @ Q))[0])


def gaussian(seed: int, tag: int, shape: tuple[int, int]) -> np.ndarray:
    """Standard normal entries that depend only on the seed and the use."""
    return np.random.default_rng([seed, tag]).standard_normal(shape)
