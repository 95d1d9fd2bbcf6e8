"""`Standard`: how samples of A become rows of B, the matrix as it was decomposed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bigsvd.functions import AS_THEY_ARE, Functions


@dataclass(frozen=True, eq=False)
class Standard:
    """(f(x) − mean)/scale·weights, for each sample x.

    Attributes:
        n: number of features of A.
        functions: f. mean, scale, weights: (n,) float64; None for what is not done. A feature of weight 0 is
            no part of B.
        ids: which of the features of the data those of A are, ascending (n,); None where they are all.
        data_features: how many the data have.

    """

    n: int
    functions: Functions = AS_THEY_ARE
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None
    weights: np.ndarray | None = None
    ids: np.ndarray | None = None
    data_features: int = 0

    @cached_property
    def informative(self) -> np.ndarray:
        """Which features are a part of B, (n,) bool."""
        if self.weights is None:
            return np.ones(self.n, dtype=bool)
        return np.asarray(self.weights != 0)

    def rows(self, samples: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """Rows of B (r, n) float64, in memory of their own; entries that are `gone` (r, n) count as 0 in A.

        Totals of samples are those of the entries that are there.
        """
        found = np.where(gone, 0.0, samples.astype(np.float64, copy=False))
        if self.functions:
            found = np.where(gone, 0.0, self.functions.of_whole_samples(np, found, gone))
        if self.mean is not None:
            found -= self.mean
        if self.scale is not None:
            found /= self.scale
        if self.weights is not None:
            found *= self.weights
            found[:, ~self.informative] = 0.0
        return found
