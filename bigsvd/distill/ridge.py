"""`Ridge`: the posterior of a row's coordinates under one Gaussian prior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bigsvd.distill.inverses import inverses, times
from bigsvd.distill.observed import Observed
from bigsvd.distill.stage import Coordinates, Move

Array = Any


@dataclass(frozen=True, eq=False)
class Ridge:
    """z = (G + Λ⁻¹)⁻¹·t and its covariance C = (G + Λ⁻¹)⁻¹: probabilistic PCA's posterior, rows with gaps.

    It is solved in units of the prior's deviations D: with Λ = D·R·D, C = D·(D·G·D + R⁻¹)⁻¹·D. No eigenvalue
    of that sum is below 1/r, R having r for its trace, however unlike the variances are. Tipping & Bishop
    (1999, eq. 6) have it for complete rows and one noise.

    Attributes:
        prior: Λ, (r, r), positive definite, or the variances (r,) where it is diagonal.
        name: what the stage is called: the same solve serves every prior.
        move: copies an array to where rows lie.

    """

    prior: np.ndarray
    name: str = "ridge"
    move: Move = np.asarray

    def on(self, move: Move) -> Ridge:
        """See `Stage.on`."""
        return replace(self, move=move)

    @cached_property
    def _units_there(self) -> tuple[Array, Array]:
        """`_units` on the device."""
        products, inverse = self._units
        return self.move(products), self.move(inverse)

    @property
    def _units(self) -> tuple[np.ndarray, np.ndarray]:
        """d·dᵀ of the deviations, and R⁻¹, both (r, r)."""
        if self.prior.ndim == 1:
            deviations = np.sqrt(self.prior)
            return np.outer(deviations, deviations), np.eye(len(deviations))
        deviations = np.sqrt(np.diag(self.prior))
        products = np.outer(deviations, deviations)
        return products, np.linalg.inv(self.prior / products)

    def infer(self, observed: Observed) -> Coordinates:
        """See `Stage.infer`."""
        products, inverse = self._units_there
        inner = observed.G * products
        inner += inverse
        covariance = inverses(inner)
        covariance *= products
        return Coordinates(times(covariance, observed.t), covariance)
