"""`Ridge`: the posterior of a row's coordinates under one Gaussian prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bigsvd.distill.inverses import inverses
from bigsvd.distill.observed import Observed
from bigsvd.distill.stage import Coordinates

Array = Any


@dataclass(frozen=True, eq=False)
class Ridge:
    """z = (G + Λ⁻¹)⁻¹·t and its covariance C = (G + Λ⁻¹)⁻¹: probabilistic PCA's posterior, rows with gaps.

    It is solved in the coordinates u of z = L·u, with Λ = L·Lᵀ: I + LᵀGL has no eigenvalue below 1, however
    unlike the variances are. Tipping & Bishop (1999, eq. 6) have it for complete rows and one noise.

    Attributes:
        prior: Λ, (r, r), positive definite, or the variances (r,) where it is diagonal.
        name: what the stage is called: the same solve serves every prior.

    """

    prior: np.ndarray
    name: str = "ridge"

    @cached_property
    def root(self) -> np.ndarray:
        """L, (r, r)."""
        if self.prior.ndim == 1:
            return np.diag(np.sqrt(self.prior))
        return np.linalg.cholesky(self.prior)

    def infer(self, observed: Observed) -> Coordinates:
        """See `Stage.infer`."""
        xp = observed.t.__array_namespace__()
        L = xp.asarray(self.root)
        inner = self._turned(L.mT, observed.G)
        inner += xp.eye(inner.shape[-1])
        covariance = self._turned(L, inverses(inner))
        return Coordinates(_times(covariance, observed.t), covariance)

    def _turned(self, root: Array, matrices: Array) -> Array:
        """R·A·Rᵀ of each A (b, r, r), in memory of its own."""
        if self.prior.ndim == 1:
            deviations = root.__array_namespace__().linalg.diagonal(root)
            return matrices * (deviations[:, None] * deviations)
        return root @ matrices @ root.mT


def _times(matrices: Array, vectors: Array) -> Array:
    """Each matrix, or the one, times its vector: (b, r, r) or (1, r, r) by (b, r)."""
    if matrices.shape[0] == 1:
        return vectors @ matrices[0].mT
    return (matrices @ vectors[:, :, None])[:, :, 0]
