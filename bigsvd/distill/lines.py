"""Components by feature and coordinates by sample of factors, whichever way these lie."""

from __future__ import annotations

import numpy as np

from bigsvd.orientation import Rows
from bigsvd.results.factors import Factors


def components(factors: Factors) -> np.ndarray:
    """V by feature, (n, r) float64."""
    return factors.directions[:].astype(np.float64)


def coordinates(factors: Factors, samples: slice) -> np.ndarray:
    """Rows of U·diag(s) of some samples, (b, r) float64."""
    axis = factors.samples_axis
    return np.asarray(Rows((factors.U, factors.Vt)[axis], axis)[samples] * factors.s)
