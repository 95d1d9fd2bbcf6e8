"""`PCA`: scikit-learn's principal components, of data that need not fit memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bigsvd.errors import RequestError
from bigsvd.estimators.base import Decomposition
from bigsvd.results.factors import Factors
from bigsvd.sources.base import Source


class PCA(Decomposition):
    """X − mean ≈ U·diag(s)·Vᵀ: scikit-learn's `PCA` with the passes, plan and certificate of `bigsvd.svd`.

    Attributes have the names, signs and degrees of freedom that scikit-learn gives them: explained variances
    are s²/(m − 1), their ratio is to the variance of all, the largest entry of each component is positive.

    Args:
        n_components: how many; all, min(m, n), where it is None; between 0 and 1 the fewest that explain this
            share of the variance.
        whiten: divide coordinates by the root of their variance.
        tol: bound on the worst relative residual of a component; variances are exact to about its square.
        memory: bytes, or such as "2GB", that fitting may hold, and about what transforming does.
        out: path of the factor store to keep; without one it is gone when the fit ends.
        random_state: seed; None is 0, so that the same data give the same bits.
        svd_options: further options of `bigsvd.svd`, such as ``{"scale": True, "missing": "mean"}``, or
            `method`, `device`, `client`, `functions`; not those that an estimator decides. scikit-learn
            copies them to clone an estimator, as a grid search does, which a `client` does not allow.

    Attributes:
        components_: (k, n). mean_: (n,). singular_values_, explained_variance_, explained_variance_ratio_:
            (k,). noise_variance_: the mean of the other variances. n_components_, n_samples_,
            n_features_in_. certificate_: what is known of their error.

    """

    _centers: ClassVar[bool] = True
    _least_samples: ClassVar[int] = 2

    def __init__(
        self,
        n_components: float | None = None,
        *,
        whiten: bool = False,
        tol: float = 1e-3,
        memory: int | str | None = None,
        out: str | Path | None = None,
        random_state: Any = None,
        svd_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.tol = tol
        self.memory = memory
        self.out = out
        self.random_state = random_state
        self.svd_options = svd_options

    def _fitted(self, X: Any) -> tuple[Factors, np.dtype[Any]]:
        source, dtype = self._opened(X, reset=True)
        factors = self._factors(source, dtype)
        self.n_components_ = len(self.components_)
        self.mean_ = np.asarray(factors.mean[:]).astype(dtype)
        self.explained_variance_ = self._padded(factors.explained_variance()).astype(dtype)
        self.explained_variance_ratio_ = self._padded(factors.explained_variance_ratio).astype(dtype)
        self.noise_variance_ = factors.noise_variance()
        return factors, dtype

    def _factors(self, source: Source, dtype: np.dtype[Any]) -> Factors:
        k, most = self.n_components, min(source.facts.shape)
        if k is None:
            return self._decomposed(source, dtype, most)
        if isinstance(k, str):
            raise RequestError(f"n_components={k!r}", "give a number, or a share of the variance below 1")
        if isinstance(k, float) and 0 < k < 1:
            factors = self._svd(source, "auto", energy=float(k))
            return self._learned(factors, source, dtype, factors.k)
        return self._decomposed(source, dtype, self._check_rank(most))

    @property
    def _centre(self) -> np.ndarray:
        """The means, in the type of the components."""
        return self.mean_

    def _scaled_output(self, coordinates: Any) -> Any:
        """Coordinates, divided by their deviations if they are to be whitened."""
        return coordinates / self._deviations if self.whiten else coordinates

    def _unscaled(self, components: np.ndarray) -> np.ndarray:
        """Components, times these."""
        return components * self._deviations[:, np.newaxis] if self.whiten else components

    @property
    def _deviations(self) -> np.ndarray:
        """The roots of the variances, (k,); 1 for what does not vary, whose coordinates are 0."""
        found = np.sqrt(self.explained_variance_)
        return np.where(found > np.finfo(found.dtype).eps, found, 1.0)
