"""`EOF`: empirical orthogonal functions of labelled fields, with the method names of xeofs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from bigsvd.climate.fields import Fields
from bigsvd.climate.variable import MODE, of_modes
from bigsvd.climate.weights import weights_of
from bigsvd.errors import RequestError
from bigsvd.results.certificate import Certificate
from bigsvd.results.factors import Factors
from bigsvd.solve import svd

if TYPE_CHECKING:
    import xarray as xr

# What options of `svd` an analysis says itself, or that would say what its samples and units are.
_OWN = frozenset(
    {
        "k", "dim", "samples", "sum", "rows", "cols", "center", "offset", "scale", "ddof", "weights",
        "row_weights", "seed", "functions",
    }
)  # fmt: skip


class EOF:
    """(x − mean)/deviation·weights ≈ U·diag(s)·Vᵀ: modes V are maps, scores U·diag(s) series.

    Names, shapes and degrees of freedom are those of xeofs; the passes, plan and certificate are those of
    `bigsvd.svd`. Data are read part by part, whether Dask, a file or memory holds them. Places that are
    missing throughout, such as land in a field of the sea, are left out, and NaN in what is given back; other
    missing values are refused, unless an option says how to fill them. The largest entry of each mode is
    positive.

    Args:
        n_modes: how many, or "auto" with one of the options `energy`, `error`, or by noise.
        center: subtract the mean over the samples. standardize: divide by the deviation over them (ddof 0).
        use_coslat: multiply by √cos(latitude), so that variances are by area.
        tol: bound on the worst relative residual of a mode.
        out: path of the factor store to keep; without one it lives as long as this value.
        memory: bytes, or such as "2GB", that fitting may hold.
        random_state: seed; the same data and seed give the same bits.
        options: further ones of `bigsvd.svd`, such as ``missing="mean"``, `device`, `client`, `progress`.

    """

    def __init__(
        self,
        n_modes: int | Literal["auto"] = 10,
        *,
        center: bool = True,
        standardize: bool = False,
        use_coslat: bool = False,
        tol: float = 1e-3,
        out: str | Path | None = None,
        memory: int | str | None = None,
        random_state: int = 0,
        **options: Any,
    ) -> None:
        refused = sorted(_OWN & options.keys())
        if refused:
            raise RequestError(f"{refused[0]!r} is decided by EOF", "leave it out, or use bigsvd.svd")
        self.use_coslat = use_coslat
        self._asked: dict[str, Any] = options | {
            "k": n_modes, "center": center, "scale": standardize, "tol": tol, "out": out, "memory": memory,
            "seed": random_state,
        }  # fmt: skip
        self._fitted: tuple[Fields, Factors] | None = None

    def fit(self, X: Any, dim: str | Sequence[str], weights: Any = None) -> Self:
        """Compute the modes of a `DataArray`, `Dataset` or list of `DataArray` with samples along `dim`.

        Args:
            X: variables of any axes beside `dim`, which they share; several are analysed together.
            dim: the axis of the samples, such as "time".
            weights: of the features, in the form of X; multiplied last.

        Raises:
            BadInputError: the data or parameters cannot be used; see `bigsvd.svd`.

        """
        fields = Fields.of(X, dim)
        factor = weights_of(fields, weights, use_coslat=self.use_coslat)
        self._fitted = fields, svd(fields.matrix, dim=fields.dim, weights=factor, **self._asked)
        return self

    def fit_transform(self, X: Any, dim: str | Sequence[str], weights: Any = None) -> xr.DataArray:
        """Fit, and the scores of the same samples, for which they are not read again."""
        return self.fit(X, dim, weights).scores()

    def transform(self, X: Any, *, normalized: bool = False) -> xr.DataArray:
        """The scores (dim, mode) of other samples of the same variables; NaN where one lacks a value.

        Raises:
            ColumnsError: other variables, or on another grid.

        """
        fields = self._fields.alike(X)
        found = np.concatenate([self.factors.project(rows) for rows in fields.blocks()])
        return self._scores(fields, found, normalized=normalized)

    def inverse_transform(self, scores: xr.DataArray, *, normalized: bool = False) -> Any:
        """Fields of scores, of all modes or some, in the form and units of the data.

        They are on Dask, and computed when they are asked for, where the data were not in memory.
        """
        fields = self._fields
        missing = [each for each in (fields.dim, MODE) if each not in scores.dims]  # of one map, of one mode
        scores = scores.expand_dims(missing).transpose(fields.dim, MODE)
        chosen = np.asarray(scores[MODE]).astype(int) - 1
        values = np.asarray(scores, dtype=np.float64)
        if normalized:
            values = values * self.factors.s[chosen]
        return fields.made(values, self._basis[chosen], self._mean, scores.drop_vars(MODE).coords)

    def components(self, *, normalized: bool = True) -> Any:
        """The modes (mode, ...), in the form of the data; times their singular values if not `normalized`."""
        found = self._flat
        if not normalized:
            found = found * self.factors.s[:, np.newaxis]
        return self._fields.of_components(found, "components")

    def scores(self, *, normalized: bool = False) -> xr.DataArray:
        """The scores (dim, mode) of the samples; over their singular values if `normalized`."""
        return self._scores(self._fields, self.factors.scores, normalized=normalized)

    def singular_values(self) -> xr.DataArray:
        """s, (mode,)."""
        return of_modes(self.factors.s, "singular_values")

    def explained_variance(self) -> xr.DataArray:
        """s²/(samples − 1), (mode,)."""
        return of_modes(self.factors.explained_variance(), "explained_variance")

    def explained_variance_ratio(self) -> xr.DataArray:
        """The share of the variance of all, (mode,)."""
        return of_modes(self.factors.explained_variance_ratio, "explained_variance_ratio")

    def total_variance(self) -> float:
        """The variance of all modes, also of those that were not computed."""
        return self.factors.total_variance()

    def north_test(self, *, vfscaled: bool = False, independent: float | None = None) -> xr.DataArray:
        """λ·√(2/N), (mode,): standard errors of explained variances, as `northTest` of eofs; see `north`.

        Modes whose variances differ by less are determined only together. With `vfscaled` they are those of
        shares. `independent` is the number of independent samples where these are fewer than all.
        """
        found = self.factors.north(independent=independent)
        if vfscaled:
            found = found / self.total_variance()
        return of_modes(found, "typical_errors")

    def plot(self, path: str | Path, n_modes: int = 3) -> None:
        """Write a PNG: maps and series of the first modes, and what all explain, with North's errors."""
        from bigsvd.climate.pictures import pictures  # noqa: PLC0415 - Matplotlib is loaded when it draws
        from bigsvd.report.modes import write_modes  # noqa: PLC0415

        shares, errors = self.factors.explained_variance_ratio, self.north_test(vfscaled=True)
        arrays = self._fields.form.arrays(self.components())
        shown = pictures(arrays, self.scores(), shares, min(n_modes, self.factors.k))
        write_modes(shown, shares, errors.to_numpy(), path)

    @property
    def certificate(self) -> Certificate:
        """What is known of the error."""
        return self.factors.certificate

    @property
    def factors(self) -> Factors:
        """The factors, whose features are those of all variables, one after the other."""
        return self._done[1]

    @property
    def _fields(self) -> Fields:
        return self._done[0]

    @property
    def _done(self) -> tuple[Fields, Factors]:
        if self._fitted is None:
            raise RequestError("this EOF was not fitted", "call fit(data, dim) first")
        return self._fitted

    @property
    def _flat(self) -> np.ndarray:
        """The modes as rows, (k, n)."""
        return self.factors.components.reshape(self.factors.k, -1)

    @property
    def _basis(self) -> np.ndarray:
        """The modes in the units of the data, (k, n): times deviations, over weights; NaN where one is 0."""
        return self.factors.modes.reshape(self.factors.k, -1)

    @property
    def _mean(self) -> np.ndarray:
        """The mean of each feature, (n,)."""
        mean = self.factors.mean
        if mean is None:
            return np.zeros(self._fields.size)
        return self.factors.unstacked(mean).reshape(-1)

    def _scores(self, fields: Fields, values: np.ndarray, *, normalized: bool) -> xr.DataArray:
        if normalized:
            values = values / self.factors.s
        return fields.scores(values)
