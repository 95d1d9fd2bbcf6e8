"""`Ridge`: the posterior of a row's coordinates under one Gaussian prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.distill.observed import Observed
from bigsvd.distill.stage import Coordinates


@dataclass(frozen=True, eq=False)
class Ridge:
    """z = (G + Λ⁻¹)⁻¹·t and its covariance C = (G + Λ⁻¹)⁻¹: probabilistic PCA's posterior, rows with gaps.

    It is solved in the coordinates u of z = L·u, with Λ = L·Lᵀ: I + LᵀGL has no eigenvalue below 1, however
    unlike the variances are.

    Attributes:
        prior: Λ, (r, r), positive definite, or the variances (r,) where it is diagonal.
        name: what the stage is called: the same solve serves every prior.

    """

    prior: np.ndarray
    name: str = "ridge"

    @property
    def root(self) -> np.ndarray:
        """L, (r, r)."""
        if self.prior.ndim == 1:
            return np.diag(np.sqrt(self.prior))
        return np.linalg.cholesky(self.prior)

    def infer(self, observed: Observed) -> Coordinates:
        """See `Stage.infer`."""
        L = self.root
        inverse = np.linalg.inv(np.eye(len(L)) + L.T @ observed.G @ L)
        covariance = L @ inverse @ L.T
        return Coordinates(np.einsum("bij,bj->bi", covariance, observed.t), covariance)
