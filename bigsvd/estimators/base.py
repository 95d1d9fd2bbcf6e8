"""What scikit-learn's estimators here share: how they are fitted, and how samples are transformed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from bigsvd.errors import ColumnsError, RankError, RequestError
from bigsvd.estimators.samples import Projection, is_dask, lies_elsewhere
from bigsvd.results.factors import Factors
from bigsvd.results.standard import Standard
from bigsvd.solve import svd
from bigsvd.sources.base import Source
from bigsvd.sources.open import READING, open_source

FLOATS = (np.float64, np.float32)  # what scikit-learn computes in
# What options of `svd` an estimator says itself, or that would say what its samples are.
_OWN = frozenset(
    {
        "k", "out", "tol", "memory", "seed", "center", "offset", "row_weights", "samples", "dim", "sum",
        "rows", "cols", "energy", "error", "max_bytes",
    }
)  # fmt: skip
_MOST_SEED = 2**31 - 1


class Decomposition(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator whose components are right singular vectors of samples as rows, computed by `svd`.

    Samples are arrays and sparse matrices as scikit-learn takes them, or what `svd` takes: a path or URL, a
    Zarr, Dask, xarray or HDF5 array, a memory map. The latter are read part by part, and never held whole.
    Sparse ones become dense a part at a time, also where they are centred.
    """

    _centers: ClassVar[bool]
    _least_samples: ClassVar[int] = 1
    _least_features: ClassVar[int] = 1

    n_components: Any
    tol: float
    memory: int | str | None
    out: str | Path | None
    random_state: Any
    svd_options: Mapping[str, Any] | None

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the components of samples (m, n), in a few passes over them; `y` is of no use.

        Raises:
            BadInputError: parameters or data cannot be used; see `bigsvd.svd`.

        """
        del y
        self._fitted(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit, and the coordinates of the same samples, for which they are not read again unless by Dask."""
        del y
        factors, dtype = self._fitted(X)
        if is_dask(X):
            return self.transform(X)
        return self._scaled_output(self._padded(factors.scores)).astype(dtype, copy=False)

    @abstractmethod
    def _fitted(self, X: Any) -> tuple[Factors, np.dtype[Any]]:
        """Learn all attributes; the factors of X, and the type of what it is transformed to."""

    def transform(self, X: Any) -> Any:
        """Coordinates (m, k) of samples (m, n); of a Dask array a Dask array, which reads when it is asked.

        Raises:
            ColumnsError: another number of features in what is read where it lies.
            NonFiniteError: entries are missing there, and no rule fills them.

        """
        check_is_fitted(self)
        source, dtype = self._opened(X, reset=False)
        if is_dask(X):
            return self._scaled_output(self._projection.of_dask(X, dtype))
        return self._scaled_output(self._projection.of_source(source, self.memory)).astype(dtype, copy=False)

    def inverse_transform(self, X: Any) -> Any:
        """Samples (m, n) of coordinates (m, k), X·Vᵀ/weights·scale + mean.

        They are in the units of the data, or in those that `functions` of the options make of them.
        """
        check_is_fitted(self)
        if not is_dask(X):
            X = check_array(X, input_name="X", dtype=FLOATS)
        standard = self._projection.standard
        found = X @ (self._unscaled(self.components_) * _undoing(standard))
        return found + self._centre

    @property
    def _centre(self) -> Any:
        """What was subtracted from samples."""
        return 0

    def _scaled_output(self, coordinates: Any) -> Any:
        """Coordinates as `transform` gives them."""
        return coordinates

    def _unscaled(self, components: np.ndarray) -> np.ndarray:
        """The components (k, n) of such coordinates."""
        return components

    @property
    def _n_features_out(self) -> int:
        """How many coordinates there are; scikit-learn's names of them count so far."""
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        """See scikit-learn: dense or sparse samples, of which those of float32 stay so."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = self._fills
        tags.input_tags.sparse = True
        return tags

    @property
    def _options(self) -> dict[str, Any]:
        """What `svd` is told besides; `RequestError` for what an estimator says itself."""
        options = dict(self.svd_options or {})
        refused = sorted(_OWN & options.keys())
        if refused:
            raise RequestError(
                f"svd_options has {refused[0]!r}, which {type(self).__name__} decides",
                "leave it out, or use bigsvd.svd",
            )
        return options

    @property
    def _reading(self) -> dict[str, Any]:
        """Those of the options that say how a source is read."""
        return {name: value for name, value in self._options.items() if name in READING}

    @property
    def _fills(self) -> bool:
        """Whether missing entries are filled."""
        return bool((self.svd_options or {}).get("missing", "none") != "none")

    @property
    def _seed(self) -> int:
        """0 where there is no `random_state`: the same data give the same bits."""
        if isinstance(self.random_state, np.random.RandomState):
            return int(self.random_state.randint(_MOST_SEED))
        return int(self.random_state or 0)

    def _opened(self, X: Any, *, reset: bool) -> tuple[Source, np.dtype[Any]]:
        """Samples as a source, and the type of what they are transformed to.

        With `reset` features are those to be learned; else they have to be those that were.
        """
        if not lies_elsewhere(X):
            X = self._validated(X, reset=reset)
            return open_source(X), X.dtype
        source = open_source(X, **self._reading)
        self._count_features(source, reset=reset)
        return source, _floats_for(source)

    def _validated(self, X: Any, *, reset: bool) -> Any:
        """An array or sparse matrix in memory as scikit-learn checks it, of float64 or float32."""
        finite = (True, "allow-nan")[self._fills]
        least = {"ensure_min_samples": self._least_samples, "ensure_min_features": self._least_features}
        more = least if reset else {}
        return validate_data(
            self, X, dtype=FLOATS, reset=reset, ensure_all_finite=finite, accept_sparse=("csr", "csc"), **more
        )

    def _count_features(self, source: Source, *, reset: bool) -> None:
        """As `validate_data` does of arrays: note how many features there are, or compare."""
        n = source.facts.shape[1]
        if reset:
            self.n_features_in_ = n
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        elif n != self.n_features_in_:
            raise ColumnsError(
                f"{source.facts.name} has {n} features, {type(self).__name__} was fitted on "
                f"{self.n_features_in_}",
                "give the same features, in their order",
            )

    def _decomposed(self, source: Source, dtype: np.dtype[Any], k: int) -> Factors:
        """The k leading triplets of the source, and the attributes that follow from them alone.

        Where the matrix has a numerical rank below k, further components are some that are orthogonal to the
        others, with value 0, as LAPACK gives them.
        """
        independent = source.facts.shape[0] - self._centers  # of rows whose mean was subtracted
        return self._learned(self._svd(source, min(k, independent)), source, dtype, k)

    def _svd(self, source: Source, k: int | Literal["auto"], **rule: Any) -> Factors:
        """The factors of the source, whose rank may be chosen by a rule."""
        return svd(
            source, k, self.out, center=self._centers, tol=self.tol, memory=self.memory, seed=self._seed,
            **rule, **self._options,
        )  # fmt: skip

    def _learned(self, factors: Factors, source: Source, dtype: np.dtype[Any], k: int) -> Factors:
        """The same factors, k components noted."""
        components = completed(np.nan_to_num(factors.components), k)
        self.components_ = components.astype(dtype)
        self.singular_values_ = self._padded(factors.s).astype(dtype)
        self.n_samples_ = source.facts.shape[0]
        self.certificate_ = factors.certificate
        self._projection = Projection.of(factors.standard, self.components_, self._options)
        return factors

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """Values (..., j) of the triplets that were found, 0 for the other components."""
        found = np.zeros((*values.shape[:-1], len(self.components_)))
        found[..., : values.shape[-1]] = values
        return found

    def _check_rank(self, most: int) -> int:
        """`n_components` as an integer in 1..most."""
        k = self.n_components
        if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= int(k) <= most:
            raise RankError(f"n_components={k!r} is not in the allowed range 1..{most}", "give another")
        return int(k)


def _floats_for(source: Source) -> np.dtype[Any]:
    """float32 for data of no more digits than that, as scikit-learn has it; else float64."""
    narrow = source.facts.dtype in ("float32", "float16")
    return np.dtype(FLOATS[narrow])


def _undoing(standard: Standard) -> Any:
    """By what rows of B are multiplied to be samples less their mean: scale/weights, NaN where one is 0."""
    scale = 1 if standard.scale is None else standard.scale
    if standard.weights is None:
        return scale
    return scale / np.where(standard.weights == 0, np.nan, standard.weights)


def completed(components: np.ndarray, k: int) -> np.ndarray:
    """Orthonormal rows (j, n), and as many more behind them as make k."""
    j, n = components.shape
    if j >= k:
        return components
    others = np.random.default_rng(0).standard_normal((n, k - j))
    for _ in range(2):  # once more, for what rounding left
        others -= components.T @ (components @ others)
        others, _ = np.linalg.qr(others)
    others *= np.where(np.take_along_axis(others, np.argmax(np.abs(others), axis=0)[None], 0) < 0, -1, 1)
    return np.vstack([components, others.T])
