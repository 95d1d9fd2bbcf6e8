"""Left Ritz triplets: the half power step that Z = BᵀB·K holds, taken without the data.

With G = KᵀZ = EΛEᵀ, W = B·K·E·Λ^-½ is orthonormal and BᵀW = Z·E·Λ^-½ is known, so the SVD of the part of B
that span W sees is too (Halko, Martinsson & Tropp 2011, Alg. 5.1, with orth(B·K) as the basis). The residuals
R = Z·E − K·E·Λ of the right Ritz pairs are orthogonal to K, which makes it a small problem:

    WᵀBBᵀW = Λ + Λ^-½·RᵀR·Λ^-½ = P·Σ²·Pᵀ,    u = W·p,    v = Bᵀu/σ,    σ_right ≤ σ ≤ the true one.

Bᵀu = σv holds to rounding and ‖B − USVᵀ‖²_F = ‖B‖²_F − Σσ² is exact. What is left to be bounded is
B·v − σu = (I−WWᵀ)·B·(I−KKᵀ)·v, at most τ·‖(I−KKᵀ)v‖ for a bound τ of the norm of B outside both spans: see
`Outside`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.methods.subspace import RESIDUALS_AT_ONCE, Ritz

# θ of a Gram matrix is off by eps·θ₁. Left triplets are formed where that is at most a tenth of the residual
# that suffices: always down to the first of these times eps, and never below the second.
_RESOLVED, _UNRESOLVED = 1e4, 1e3
_SMALL_PART = 0.1
# What probes see outside the basis is above σₖ where its square is more than so many times larger.
_ABOVE = 1.01
# The next terms of the series of which a left value is the second are estimated from the probes, which show
# too little rather than too much: taken so many times, they were at least 0.95 of the truth on 1,400 random
# subspaces of twelve families, and in the median five times it.
_UNDERSTATED = 3.0
# Of the gain of the half power step, what the next steps may add at least.
_LEAST_GAIN = 0.1


def resolved_by_gram(ritz: Ritz, eps: float, enough: float) -> int:
    """How many Ritz values products of precision `eps` resolve for residuals of `enough`."""
    limit = np.clip(1 / (_SMALL_PART * enough), _UNRESOLVED, _RESOLVED)
    return int(np.sum(ritz.theta > limit * eps * ritz.theta[:1]))


@dataclass(frozen=True)
class Outside:
    """What is known of B(I−KKᵀ), the matrix outside the basis.

    Attributes:
        energy: its ‖·‖²_F, up to `rounding`.
        seen: a lower bound on its norm, the largest that the probes show; they show nothing whose square is
            below `floor`.

    """

    energy: float
    rounding: float
    seen: float
    floor: float

    def hides(self, sigma: np.ndarray) -> np.ndarray:
        """Whether the probes show a value above each `sigma`."""
        return np.asarray(self.seen**2 > _ABOVE * sigma**2 + self.floor)


@dataclass(frozen=True)
class LeftRitz:
    """Left Ritz triplets from the leading `count` right ones; behind them the right ones as they are.

    Attributes:
        sigma: (L,) descending. rotation: P (count, count). lost: (count,) ‖(I−KKᵀ)v‖.
        gains: (count,) of the squares of the values by the half step, before their rotation.

    """

    ritz: Ritz
    outside: Outside
    sigma: np.ndarray
    rotation: np.ndarray
    lost: np.ndarray
    gains: np.ndarray

    @classmethod
    def of(cls, ritz: Ritz, outside: Outside, count: int) -> LeftRitz:
        """The eigenproblem above, for `count` columns of W."""
        theta = ritz.theta[:count]
        step = ritz.inner[:count, :count] / np.sqrt(np.outer(theta, theta))
        gains = np.diag(step).copy()
        values, P = np.linalg.eigh(step + np.diag(theta))
        values, P = np.maximum(values[::-1], theta), P[:, ::-1]  # as they are but for rounding
        lost = np.zeros(count)
        for start in range(0, count, RESIDUALS_AT_ONCE):
            some = slice(start, start + RESIDUALS_AT_ONCE)
            lost[some] = np.einsum("ij,ij->j", P[:, some], step @ P[:, some])
        lost = np.sqrt(np.maximum(lost, 0.0) / values)
        return cls(ritz, outside, np.sqrt(np.append(values, ritz.theta[count:])), P, lost, gains)

    @property
    def count(self) -> int:
        """Columns of W that were rotated."""
        return len(self.rotation)

    def widened(self, count: int) -> LeftRitz:
        """The same from no fewer right ones than `count`."""
        return self if count <= self.count else LeftRitz.of(self.ritz, self.outside, count)

    def coordinates(self, kept: int) -> np.ndarray:
        """C = E·Λ^-½·P (L, kept) with U = B·K·C of the leading triplets."""
        return self._turned(kept, -0.5)

    def dual(self, kept: int) -> np.ndarray:
        """E·Λ^½·P = (B·K)ᵀU (L, kept), as far as U is orthonormal."""
        return self._turned(kept, 0.5)

    def _turned(self, kept: int, power: float) -> np.ndarray:
        """E·Λ^power·P (L, kept)."""
        E, theta = self.ritz.coordinates[:, : self.count], self.ritz.theta[: self.count]
        return np.asarray((E * theta**power) @ self.rotation[:, :kept])

    def bounds(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """τ (count,) for each triplet of k, and those behind; and which are proved, not only audited.

        Proved by ‖(I−WWᵀ)B(I−KKᵀ)‖_F, or audited: the σₖ above which the probes see nothing outside K.
        """
        level, outside = self._level(k), self.outside
        audited = np.maximum(level, outside.floor**0.5)
        proved = (max(0.0, outside.energy - float(np.sum(self.gains))) + outside.rounding) ** 0.5
        by_norm = outside.hides(level) | (proved <= audited)
        return np.where(by_norm, proved, audited), by_norm

    def _level(self, k: int) -> np.ndarray:
        """σₖ for the k leading triplets and for those behind their own, (count,)."""
        return self.sigma[np.maximum(np.arange(self.count), k - 1)]

    def residuals(self, k: int) -> np.ndarray:
        """Bounds on ‖B·v − σu‖/σ (L,); triplets that are right ones have their own residuals."""
        found = self.lost * self.bounds(k)[0] / self.sigma[: self.count]
        return np.append(found, self.ritz.residuals[self.count :])

    def growth(self, k: int) -> np.ndarray:
        """By how much σ² will still grow, relative, (L,): no more than residuals allow, else an estimate.

        σ_right² and σ² are the first two sums of θ + Σ_j rᵀ(H/θ)ʲr/θ, H being BᵀB outside K. The others are
        taken as a geometric series whose ratio is that of what the probes have seen of H to θ.
        """
        most = self.residuals(k)
        theta = self.ritz.theta[: self.count]
        ratio = np.minimum(self.outside.seen**2 / theta, 1.0)
        with np.errstate(divide="ignore"):
            further = np.maximum(_LEAST_GAIN, _UNDERSTATED * ratio / (1 - ratio))
        further = further * self.gains / self.sigma[: self.count] ** 2
        further[self.outside.hides(self._level(k))] = np.inf
        return np.append(np.minimum(most[: self.count], further), most[self.count :])


def left_ritz(ritz: Ritz, solid: int, k: int | None, outside: Outside, enough: float) -> LeftRitz:
    """Left Ritz triplets from the `solid` leading right ones; from k of them where bounds are too loose.

    All of them give the best values. Where the spectrum is flat they also mix the wanted vectors with others
    that are hardly known yet, and no bound is then as good as the residuals of the right ones, unless the
    wanted vectors are mixed among themselves alone. That is done where the worst bound is above both `enough`
    and the worst of those residuals.
    """
    found = LeftRitz.of(ritz, outside, solid)
    if k is None or k >= solid or outside.hides(found.sigma[k - 1 : k]).any():
        return found
    worst = float(np.max(found.residuals(k)[:k]))
    if worst <= max(enough, float(np.max(ritz.residuals[:k]))):
        return found
    return LeftRitz.of(ritz, outside, k)
