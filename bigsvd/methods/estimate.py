"""What an iteration knows of the singular triplets after a step: all that tests and rank rules look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A residual that suffices for any vector that points somewhere near the true one.
COARSEST = 0.5


@dataclass(frozen=True)
class Estimate:
    """The leading singular values as known now, and how good their triplets are; no vector is formed for it.

    Attributes:
        sigma: (c,) descending, of the prescaled matrix; none where the passes so far give no answer.
        residuals: (c,) relative, a bound on the larger of ‖B·v−σu‖/σ and ‖Bᵀ·u−σv‖/σ of each triplet.
        rounding: (c,) relative, what rounding of the products alone may make of a residual.
        growth: (c,) by how much σ² may still grow, relative, as far as is known: bounded or estimated.
        complete: whether these are all the values that B has.
        foretold: whether residuals are those of v alone, and no pass has proved that they are so small.

    """

    sigma: np.ndarray
    residuals: np.ndarray
    rounding: np.ndarray
    growth: np.ndarray
    complete: bool
    foretold: bool = False
