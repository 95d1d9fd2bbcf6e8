"""`Hold`: to what few numbers an estimate of a prior on new data is held, and how much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


def _rescaled(S: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """γ·Λ₀ with γ = tr(Λ₀⁻¹S)/r: the teacher's variances, all changed alike."""
    return np.asarray(np.mean(np.diag(S) / prior) * prior)


def _own(S: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """diag(S): each variance as the new data have it."""
    del prior
    return np.diag(S)


@dataclass(frozen=True)
class Hold:
    """To what, and how much, an estimate is held.

    Attributes:
        name: in words. share: ν/(m′ + ν). target: D (r,), of S and of the teacher's prior (r,).

    """

    name: str
    share: float
    target: Callable[[np.ndarray, np.ndarray], np.ndarray] = field(repr=False)

    def held(self, S: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """Λ, (r, r)."""
        return np.asarray((1 - self.share) * S + self.share * np.diag(self.target(S, prior)))


SCALED = Hold("the teacher's, rescaled", 1.0, _rescaled)
# From the stiffest on: of those that predict alike the first is taken. ν = ∞, ∞, 4·m′, m′, m′/4 and 0.
HOLDS = (
    SCALED,
    Hold("variances of their own", 1.0, _own),
    Hold("4/5 variances of their own", 0.8, _own),
    Hold("1/2 variances of their own", 0.5, _own),
    Hold("1/5 variances of their own", 0.2, _own),
    Hold("free", 0.0, _own),
)
