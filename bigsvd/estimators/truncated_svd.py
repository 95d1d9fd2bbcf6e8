"""`TruncatedSVD`: scikit-learn's, of data that need not fit memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bigsvd.estimators.base import Decomposition
from bigsvd.results.factors import Factors
from bigsvd.sources.base import Source


class TruncatedSVD(Decomposition):
    """X ≈ U·diag(s)·Vᵀ: scikit-learn's `TruncatedSVD` with the passes, plan and certificate of `bigsvd.svd`.

    Nothing is centred. As in scikit-learn, explained variances are those of the coordinates about their
    means, with m degrees of freedom, and their ratio is to the variance of X about its own: they are no
    s²/‖X‖²_F, and need not descend. Means of X are summed in one more read of it.

    Args:
        n_components: how many, 1..min(m, n).
        tol, memory, out, random_state, svd_options: see `PCA`.

    Attributes:
        components_: (k, n). singular_values_, explained_variance_, explained_variance_ratio_: (k,).
        n_samples_, n_features_in_. certificate_: what is known of their error.

    """

    _centers: ClassVar[bool] = False
    _least_features: ClassVar[int] = 2

    def __init__(
        self,
        n_components: int = 2,
        *,
        tol: float = 1e-3,
        memory: int | str | None = None,
        out: str | Path | None = None,
        random_state: Any = None,
        svd_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.n_components = n_components
        self.tol = tol
        self.memory = memory
        self.out = out
        self.random_state = random_state
        self.svd_options = svd_options

    def _fitted(self, X: Any) -> tuple[Factors, np.dtype[Any]]:
        source, dtype = self._opened(X, reset=True)
        factors = self._decomposed(source, dtype, self._check_rank(min(source.facts.shape)))
        explained = self._padded(np.var(factors.scores, axis=0))
        self.explained_variance_ = explained.astype(dtype)
        self.explained_variance_ratio_ = (explained / self._variance(source)).astype(dtype)
        return factors, dtype

    def _variance(self, source: Source) -> float:
        """Σ over features of the variance of X about its means; 1 where it is 0."""
        moments = _Moments()
        for rows in self._projection.panels(source, self.memory):
            moments.add(rows.values)
        return moments.variance or 1.0


class _Moments:
    """Sums over samples of what they differ by from the first of them, which cancels little."""

    def __init__(self) -> None:
        self._count = 0
        self._first: Any = 0.0
        self._sums: Any = 0.0
        self._squares: Any = 0.0

    def add(self, samples: np.ndarray) -> None:
        """Take in some samples (r, n)."""
        if not self._count:
            self._first = samples[0].copy()
        apart = samples - self._first
        self._count += len(samples)
        self._sums += apart.sum(axis=0)
        self._squares += np.square(apart, out=apart).sum(axis=0)

    @property
    def _means(self) -> np.ndarray:
        return np.asarray(self._sums / self._count)

    @property
    def variance(self) -> float:
        """That of each feature, with as many degrees of freedom as there are samples, summed."""
        return float(np.sum(self._squares / self._count - self._means**2))
