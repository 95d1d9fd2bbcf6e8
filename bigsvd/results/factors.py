"""A published truncated SVD, opened: read lazily, truncated, projected on, reconstructed, judged by rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from bigsvd.devices.arithmetic import multiply
from bigsvd.devices.base import Device
from bigsvd.devices.choose import choose_device
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import RankError, RequestError
from bigsvd.facts import SourceFacts
from bigsvd.floats import silent
from bigsvd.functions import Functions
from bigsvd.orientation import Rows, informed
from bigsvd.request import DEVICES, GENOTYPE_SCALES, Request
from bigsvd.results import rank
from bigsvd.results.certificate import Certificate, angle_bounds, relative_error
from bigsvd.results.dmd import DMD, dmd
from bigsvd.results.kept import Kept
from bigsvd.results.oadp import augmented
from bigsvd.results.prediction import Prediction
from bigsvd.results.reconstruct import Gaps, LowRank, row_and_column, to_dask
from bigsvd.results.scaled import Scaled
from bigsvd.results.scoring import Scored, scored
from bigsvd.results.standard import Standard
from bigsvd.results.store import by_files, by_zarr, chunk_lines, damage_errors, open_store, opening_errors
from bigsvd.results.tracy_widom import Moments
from bigsvd.results.variance import Spread
from bigsvd.results.virtual_store import to_zarr

_RECONSTRUCTION_CHUNK_BYTES = 2**22
_SUMMED_FLOOR = 1e-8  # an error exact to less was summed from the values behind, not had as a difference


class Leading:
    """The leading k lines of an array along one axis, as an array; nothing is copied."""

    def __init__(self, base: Any, k: int, axis: int) -> None:
        self._base = base
        self._axis = axis
        self.shape = tuple(k if i == axis else length for i, length in enumerate(base.shape))
        self.dtype = base.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> Any:
        lead = slice(0, self.shape[self._axis])
        rows, cols = row_and_column(key)
        if self._axis == 0:
            return self._base[lead, cols][rows]
        return self._base[rows, lead][..., cols]

    @property
    def chunks(self) -> tuple[int, ...]:
        """The lengths of a stored chunk, as far as it is among these lines."""
        return tuple(map(min, self._base.chunks, self.shape))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        _refuse_view(copy)
        return np.asarray(self[:], dtype=dtype)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Any]:
        """The lines along the first axis."""
        return iter(np.asarray(self))


def _refuse_view(copy: bool | None) -> None:
    """ValueError where NumPy asks for no copy: what is read from a disk or computed is always one."""
    if copy is False:
        raise ValueError("an array that is read or computed cannot be had without a copy")


PROJECTIONS = ("simple", "oadp")  # how new samples are projected
UNCERTAINTY = "uncertainty"  # what a store of predicted factors has for each sample
# What a store has for each feature, the last of them for each sample: what was done to it, in this order.
STORED_VECTORS = ("mean", "scale", "weights", "row_weights")


class Factors:
    """A published truncated SVD, read lazily: row_weights·(A − mean)/scale·weights ≈ U·diag(s)·Vt.

    A region of the reconstruction is A in its own units: divided by weights, NaN where one is 0, times scale,
    plus mean. Where functions were applied (`functions` in `info`), A stands for f(A) in all this: a region
    is of f(A), and no function is undone.

    U has A's rows and Vt its columns, whichever of them are the samples. Mean and scale are of the features,
    the lines of A along the other axis. Where A is only some rows and columns of the data, `kept` has their
    ids, and what is indexed and reconstructed has the shape of the data, NaN where nothing was taken.

    Attributes:
        U, Vt: (m, k) and (k, n), array-likes on disk; slicing reads only the chunks it needs.
        s: (k,) float64, descending.
        mean, scale, weights: of the features, (n,) or (m,) float64, and row_weights of the samples; None for
            what was not subtracted, divided or multiplied by. Each was given or is the features' own.
        kept: ids of the rows and columns of the data that A is.
        uncertainty: of factors that were predicted, see `predicted`, an array on disk (samples,): the
            standard deviation of what is predicted of each sample's entries, in units of B; 1.645 of it
            either way hold 90 % of them. Else None.
        certificate: what is known of the error. provenance: request, plan, source, versions, costs.

    """

    def __init__(
        self,
        U: Any,
        s: np.ndarray,
        Vt: Any,
        lines: dict[str, Any],
        attributes: dict[str, Any],
        path: Path,
        device: Device | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.U, self.s, self.Vt = U, s, Vt
        self.mean: Any = lines.get("mean")
        self.scale: Any = lines.get("scale")
        self.weights: Any = lines.get("weights")
        self.row_weights: Any = lines.get("row_weights")
        self.uncertainty: Any = lines.get(UNCERTAINTY)
        self.path = path
        self.kept = kept or Kept(self.shape)
        self._device = device or CpuDevice()
        self._gaps: Gaps | None = None
        self._whole: Factors | None = None
        self.certificate = Certificate.from_dict(attributes["certificate"])
        self.provenance: dict[str, Any] = {
            name: attributes[name] for name in attributes if name != "certificate"
        }

    @cached_property
    def source(self) -> SourceFacts:
        """What was known of A before it was read."""
        return SourceFacts.from_dict(self.provenance["source"])

    @property
    def k(self) -> int:
        """Number of triplets."""
        return int(self.s.size)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), of the matrix A that was decomposed."""
        return int(self.U.shape[0]), int(self.Vt.shape[1])

    @property
    def samples_axis(self) -> int:
        """The axis of A that numbers the samples."""
        return self.source.samples_axis

    @property
    def features_axis(self) -> int:
        """The axis of A that numbers the features, along which mean and scale run."""
        return 1 - self.samples_axis

    @property
    def samples(self) -> str:
        """Which lines of A are the samples: "rows" or "columns"."""
        return ("rows", "columns")[self.samples_axis]

    @property
    def scores(self) -> np.ndarray:
        """(samples, k) float64, read: the samples' coordinates, which are U·diag(s), or V·diag(s)."""
        lines = np.asarray(self.U[:]) if self.samples_axis == 0 else np.asarray(self.Vt[:]).T
        return np.asarray(lines.astype(np.float64) * self.s)

    @property
    def components(self) -> np.ndarray:
        """(k, features), read: orthonormal, the largest entry of each positive; Vt, or Uᵀ.

        Where axes were stacked they come back in the shape of these, (k, y, x); NaN are features of the data
        that were not taken, or are missing throughout.
        """
        return self._in_shape(self._components(slice(None)))

    @property
    def modes(self) -> np.ndarray:
        """(k, features) float64, read: components in the units of the data, in their shape as `components`.

        They are times `scale` and over `weights`, NaN where a weight is 0: samples are mean + scores·modes.
        With ``weights=np.sqrt(w)`` and no scale they are orthonormal by the inner product Σ w·x·y over the
        features, such as with the volumes w of cells; so modred has them for ``inner_product_weights=w``.
        """
        found = self._components(slice(None)).astype(np.float64)
        units = _product(self.scale, _inverse(self.weights))
        return self._in_shape(found if units is None else found * units)

    def dmd(
        self, dt: Any = 1.0, *, rank: int | None = None, modes: Literal["exact", "projected"] = "exact"
    ) -> DMD:
        """Dynamic mode decomposition of the samples as snapshots, from the factors alone; data are not read.

        x(j+1) ≈ K·x(j) for the samples in the order in which they lie, as they were decomposed: weighted, and
        with what was subtracted apart. It is exactly the DMD of the data of rank k that the factors are (Tu
        et al. 2014, Algorithm 2), and so of the data only as far as k components hold them: what follows from
        weak ones that were left out is not seen. Choose k well above the number of modes, `rank` as that
        number, and a `tol` for svd of 1e-3 or less.

        Args:
            dt: time from one sample of the data to the next, or the times of all, which have to be evenly
                spaced; of dates in seconds.
            rank: number of modes, of the leading singular triplets of all snapshots but the last; all that
                stand above rounding where it is None.
            modes: "exact", or "projected" on the span of all snapshots but the last; their eigenvalues are
                the same.

        Raises:
            RequestError: times are not evenly spaced, or of another number; row_weights were given; time is
                another axis; snapshots were centred and have as many directions as steps, so that their DMD
                is the Fourier transform whatever they are (Chen, Tu & Rowley 2012, theorem 2).
            RankError: `rank` is more than there are.

        """
        return dmd(self, dt, rank, modes)

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the axes of the data, in their own order; empty where they have none."""
        return self.source.dims

    @property
    def array_shape(self) -> tuple[int, ...]:
        """The shape of the data along their own axes; that of A where none were stacked."""
        return self.source.array_shape or self.kept.shape

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The lengths of the axes that were stacked to features; the number of features where none were."""
        lengths = self.array_shape
        if len(lengths) == len(self.shape):
            return (self.kept.shape[self.features_axis],)
        return (*lengths[: self.array_axis], *lengths[self.array_axis + 1 :])

    @property
    def array_axis(self) -> int:
        """The axis of the data that numbers the samples."""
        if len(self.array_shape) == len(self.shape):
            return self.samples_axis
        return self.source.array_axis

    def unstacked(self, values: Any) -> np.ndarray:
        """What has a value for each feature, such as `mean`, or whole samples (r, n), along the data's axes.

        Features that were not taken are put back as NaN, and those that are missing throughout are NaN.

        Raises:
            RequestError: another number of features.

        """
        found, n = np.asarray(values), self.kept.shape[self.features_axis]
        if found.shape[-1:] == (self.shape[self.features_axis],):
            found = self.kept.spread(self.features_axis, self.kept.shown(found))
        if found.ndim not in (1, 2) or found.shape[-1] != n:
            raise RequestError(
                f"values of shape {found.shape} do not have {n} features", f"give ({n},) or (r, {n})"
            )
        if len(self.array_shape) == len(self.shape):
            return found
        shaped = found.reshape(*found.shape[:-1], *self.feature_shape)
        return shaped if found.ndim == 1 else np.moveaxis(shaped, 0, self.array_axis)

    def _in_shape(self, lines: np.ndarray) -> np.ndarray:
        """Lines (k, n) along the axes of the data, NaN where there is nothing of them."""
        found = self.kept.spread(self.features_axis, self.kept.shown(lines))
        return found.reshape(self.k, *self.feature_shape)

    def _components(self, some: slice) -> np.ndarray:
        """Those of some features, (k, c)."""
        if self.features_axis == 0:
            return np.asarray(self.U[some]).T
        return np.asarray(self.Vt[:, some])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of U, Vt and of what is reconstructed."""
        found: np.dtype[Any] = np.dtype(self.U.dtype)
        return found

    @property
    def predicted(self) -> Prediction | None:
        """How they were predicted, where no SVD has computed them; None where one has."""
        return self.certificate.predicted

    @property
    def lines(self) -> dict[str, Any]:
        """What there is for each feature or sample, by its name in the store."""
        found = {name: getattr(self, name) for name in STORED_VECTORS}
        return {name: values for name, values in found.items() if values is not None}

    @cached_property
    def standard(self) -> Standard:
        """What makes rows of B of samples; what is missing throughout has weight 0."""
        axis = self.features_axis
        n = self.shape[axis]
        mean, scale, weights = (
            None if stored is None else np.asarray(stored[:])
            for stored in (self.mean, self.scale, self.weights)
        )
        functions = Functions.of(Request.from_dict(self.provenance["request"]).functions)
        weights = _product(weights, self.kept.factor(n, 0.0))
        return Standard(n, functions, mean, scale, weights, self.kept.lines[axis], self.kept.shape[axis])

    def given(self, request: Request) -> dict[str, np.ndarray]:
        """The vectors that the request named, by option, as they are stored with the factors."""
        stored = self.lines | {"offset": self.mean}
        return {option: stored[option] for option in request.named}

    def __repr__(self) -> str:
        m, n = self.shape
        return f"<bigsvd.Factors {m}x{n} k={self.k} {self.dtype} at {self.path}>"

    def __iter__(self) -> Iterator[Any]:
        """U, s, Vt: ``U, s, Vt = factors`` as NumPy and Dask have it; not the rows of the reconstruction."""
        return iter((self.U, self.s, self.Vt))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole reconstruction (m, n), which is what `factors` indexes as."""
        _refuse_view(copy)
        return np.asarray(self[:], dtype=dtype)

    def __contains__(self, value: object) -> bool:
        """TypeError: whether a triplet or an entry is meant cannot be told."""
        raise TypeError(f"`in` has no meaning for factors of rank {self.k}; look in .U[:], .s or .Vt[:]")

    def __getitem__(self, key: Any) -> Any:
        """A region of the reconstruction in the input's own units, as NumPy; see `reconstruct.getitem`."""
        with damage_errors(self.path):
            return self.low_rank()[key]

    def low_rank(self) -> LowRank:
        """The factors as the value that `reconstruct` works on."""
        m, n = self.kept.shape
        side = max(1, int((_RECONSTRUCTION_CHUNK_BYTES // self.dtype.itemsize) ** 0.5))
        chunks = (min(m, side), min(n, side))
        seen = self.kept.factor(self.shape[self.features_axis], np.nan)
        scale = _product(_product(self.scale, _inverse(self.weights)), seen)
        return LowRank(
            self.U, self.s, self.Vt, self.mean, scale, chunks,
            self.dtype, self._device, _inverse(self.row_weights), self.features_axis, self._gaps,
            None if self.kept.all else self.kept,
        )  # fmt: skip

    def on(self, device: Literal["auto", "cpu", "gpu"]) -> Factors:
        """The same factors, large products (regions, `reconstruct`, `project`) computed on that device.

        Workers that compute what `reconstruct` or `as_zarr` gives need it too.

        Raises:
            DeviceError: "gpu" was asked for and none works.
            RequestError: there is no such device.

        """
        if device not in DEVICES:
            raise RequestError(f"device={device!r} is not known", f"use one of {', '.join(DEVICES)}")
        other = copy(self)
        other._device, _ = choose_device(device)  # noqa: SLF001 - of this very class
        return other

    def showing(self, gaps: Gaps | None) -> Factors:
        """The same factors, reconstructed entries NaN where `gaps` says so; see `bigsvd.with_gaps`."""
        other = copy(self)
        other._gaps = gaps  # noqa: SLF001 - of this very class
        return other

    def read_by(self, U: Any, Vt: Any) -> Factors:
        """The same factors, of which U and Vt are read by these arrays of the same numbers."""
        other = copy(self)
        other.U, other.Vt = U, Vt
        return other

    def reconstruct(self) -> Any:
        """The reconstruction as a Dask array (m, n); a block is computed when it is asked for."""
        return to_dask(self.low_rank())

    def as_zarr(self) -> zarr.Array[Any]:
        """The reconstruction as a read-only Zarr array (m, n), computed when read."""
        told = {} if self.predicted is None else {"predicted": self.predicted.said}
        return to_zarr(self.low_rank(), {"source": str(self.path), "k": self.k} | told)

    @silent
    def truncate(self, k: int) -> Factors:
        """The best approximation of rank k ≤ self.k contained in these factors; reads nothing.

        Raises:
            RankError: k is not in 1..self.k.

        """
        check_rank(k, self.k)
        k = int(k)
        c = self.certificate
        certificate = replace(
            c,
            relative_error=self._error_of(k),
            next_sigma=float(self.s[k]) if k < self.k else c.next_sigma,
            numerical_rank=min(c.numerical_rank, k),
            audit=None,
            excess_error=None,
            signal=c.signal and replace(c.signal, count=min(c.signal.count, k)),
            foretold=c.foretold and c.foretold.leading(k),
            predicted=c.predicted and c.predicted.leading(k),
        )
        if c.residuals:
            certificate = self._bounded(certificate, k)
        attributes = self.provenance | {"certificate": certificate.to_dict()}
        U, Vt, lines = Leading(self.U, k, 1), Leading(self.Vt, k, 0), self.lines
        if self.uncertainty is not None:
            lines[UNCERTAINTY] = self.uncertainty
        few = Factors(U, self.s[:k], Vt, lines, attributes, self.path, self._device, self.kept)
        few._whole = self.whole
        return few.showing(self._gaps)

    def _bounded(self, certificate: Certificate, k: int) -> Certificate:
        """The same with the residuals of the first k triplets, and the bounds that follow from them."""
        c = self.certificate
        residuals = np.asarray(c.residuals[:k])
        bounds = angle_bounds(c.judged[:k], self.s[:k], self.s[k:], float(np.finfo(self.dtype).eps))
        return replace(
            certificate,
            max_residual=float(residuals.max(initial=0.0)),
            residuals=c.residuals[:k],
            sigma_bounds=c.sigma_bounds[:k],
            angle_bounds=tuple(map(float, bounds)),
            identifiable=tuple(bool(bound < 0.5) for bound in bounds),
        )

    @property
    def whole(self) -> Factors:
        """The factors as the store has them: themselves, or those that these are the leading ones of."""
        return self._whole or self

    def _error_of(self, k: int) -> float:
        """The relative error of the first k triplets, with no less digits than that of all."""
        c = self.certificate
        if c.foretold is not None or c.relative_error_floor >= _SUMMED_FLOOR:
            return relative_error(self.s[:k], c.frobenius_norm, np.finfo(float).eps, c.captured[:k])[0]
        return float(np.hypot(c.relative_error, np.linalg.norm(self.s[k:] / (c.frobenius_norm or 1.0))))

    @silent
    def project(self, samples: Any, method: str = "simple") -> np.ndarray:
        """((x − mean)/scale·weights)·V: coordinates (r, k) of new samples, or (k,) of one.

        With far more features than samples these are nearer to 0 than `scores` are of samples like them;
        method="oadp" gives coordinates that are not, see `oadp.augmented`.

        Functions of the request are applied to new samples first, totals being those of each sample over the
        features of A that are not missing throughout. Entries are numbers: what is packed has to be decoded
        before. Missing ones, NaN or those that the request names, are filled as the run filled them: by the
        stored means or 0; else NaN gives NaN.
        New samples lie as those of A do: (r, n) where these are its rows, (m, r) where they are its columns
        and V is U; one sample alone is (n,) or (m,). Where axes were stacked they may have those of the data:
        (r, y, x), or (y, x) alone; axes of xarray are known by their names. Where entries of A are sums over
        a last axis, several samples may still have that axis. Those of a sample of A, times its weight, are
        the row of `scores`: new samples have none. Features that are missing throughout in A are
        not looked at, nor, but for totals, are those of weight 0.

        Raises:
            RequestError: another number of features; masked entries; missing ones where the means that fill
                them are not stored, since nothing was centred; there is no such method.

        """
        check_projection(method)
        if isinstance(samples, np.ma.MaskedArray) and np.any(np.ma.getmaskarray(samples)):
            raise RequestError("the samples have masked entries", "fill them, such as with the means")
        request = Request.from_dict(self.provenance["request"])
        given = np.asarray(self._in_order_of_names(samples, request.sum))
        if request.sum is not None and given.ndim > len(self.array_shape):
            given = _summed(given)
        given = given.astype(np.float64, copy=False)
        values, n = self._features_of(self._stacked(given)), self.shape[self.features_axis]
        if values.ndim not in (1, 2) or values.shape[min(self.features_axis, values.ndim - 1)] != n:
            raise RequestError(
                f"samples of shape {given.shape} do not have {n} features", f"give {self._shapes_of_samples}"
            )
        if self.features_axis == 0:
            values = values.T
        gone = self._missing_in(values, request)
        rows_of_values = self.standard.rows(values.reshape(-1, n), gone.reshape(-1, n))
        if request.missing == "mean":
            rows_of_values[gone.reshape(-1, n)] = 0.0
        return self.coordinates(rows_of_values, method).reshape(*values.shape[:-1], self.k)

    @property
    def usual_projection(self) -> str:
        """The method of `project` that the users of such data expect: "oadp" of genotypes."""
        request = Request.from_dict(self.provenance["request"])
        return "oadp" if request.own_scale in GENOTYPE_SCALES else "simple"

    def coordinates(self, rows: np.ndarray, method: str = "simple") -> np.ndarray:
        """Those of rows (r, n) float64 of B, or of others like them: (r, k), by a method of `PROJECTIONS`."""
        n = rows.shape[1]
        step = chunk_lines(self.k, n, self.dtype.name) * 16
        total = np.zeros((len(rows), self.k))
        part = np.empty_like(total)
        with damage_errors(self.path):
            for start in range(0, n, step):
                V = self._components(slice(start, start + step)).astype(np.float64).T
                multiply(self._device, rows[:, start : start + step], V, part)
                total += part
        if method == "oadp":
            return augmented(self.s, total, np.einsum("ij,ij->i", rows, rows))
        return total

    def _missing_in(self, values: np.ndarray, request: Request) -> np.ndarray:
        """Which of new samples' entries are to be filled, or are of features that are no part of B."""
        left_out = np.zeros(values.shape, dtype=bool)
        if self.kept.empty is not None:
            left_out[..., self.kept.empty] = True
        if request.missing == "none":
            return left_out
        packing = self.source.packing
        gone: np.ndarray = np.isnan(values)
        for sentinel in () if packing.packed else (*request.sentinels, *packing.fills):
            gone |= values == sentinel
        count = np.count_nonzero(gone & ~left_out)
        filled = request.center or self.predicted is not None  # whose means are the teacher's
        if request.missing == "mean" and not filled and count:
            raise RequestError(
                f"the samples have {count} missing entries, and no means to fill them are stored",
                "fill them, such as with the means",
            )
        return gone | left_out

    @property
    def missing_features(self) -> int:
        """How many features of A are missing throughout: they are no part of B, and NaN in what is shown."""
        return 0 if self.kept.empty is None else len(self.kept.empty)

    @property
    def _spread(self) -> Spread:
        """What `variance` needs to know."""
        c = self.certificate
        samples, features = self.shape[self.samples_axis], self._lengths[self.features_axis]
        rest = c.relative_error * c.frobenius_norm
        if self.predicted is not None:  # part of that error is what is not known of the leading triplets
            rest = float(np.sqrt(max(0.0, c.frobenius_norm**2 - np.sum(self.s**2))))
        return Spread(self.s, c.frobenius_norm, rest, samples, features)

    @property
    def _lengths(self) -> tuple[int, int]:
        """See `informed`."""
        return informed(self.shape, self.features_axis, self.kept.empty, self.weights, self.row_weights)

    @silent
    def explained_variance(self, ddof: int = 1) -> np.ndarray:
        """s²/(samples − ddof), (k,) float64: the variance of each column of `scores`, in the units of B.

        ddof=1 is the convention of scikit-learn's and dask-ml's PCA (`explained_variance_`), scanpy
        (`uns["pca"]["variance"]`), xeofs (`explained_variance`) and eofs (`eigenvalues`); ddof=0 that of
        sgkit and scikit-allel (`sample_pca_explained_variance`, `explained_variance_`). flashpca's, PLINK's
        and GCTA's eigenvalues are `relatedness_eigenvalues`. Of a matrix that was not centred these are mean
        squares, which scikit-learn's TruncatedSVD does not give.

        Raises:
            RequestError: `ddof` is not in 0..samples − 1.

        """
        return self._spread.explained(ddof)

    @property
    def explained_variance_ratio(self) -> np.ndarray:
        """s²/‖B‖²_F, (k,) float64: the share of the total, which is that of B in full, not of k triplets.

        scikit-learn's PCA (`explained_variance_ratio_`), scanpy (`variance_ratio`), xeofs
        (`explained_variance_ratio`), eofs (`varianceFraction`), sgkit (`sample_pca_explained_variance_ratio`)
        and flashpca (`pve`) have the same.
        """
        return self._spread.ratio()

    @silent
    def total_variance(self, ddof: int = 1) -> float:
        """‖B‖²_F/(samples − ddof): the sum of all variances, also of triplets that were not computed.

        eofs has it as `totalAnomalyVariance`, xeofs as `total_variance`, both with ddof=1.

        Raises:
            RequestError: `ddof` is not in 0..samples − 1.

        """
        return self._spread.total(ddof)

    @silent
    def noise_variance(self, ddof: int = 1) -> float:
        """The mean of the min(m, n) − k variances behind those computed, 0 where there are none.

        scikit-learn's PCA has it as `noise_variance_` (Tipping & Bishop 1999, eq. 8), with ddof=1.

        Raises:
            RequestError: `ddof` is not in 0..samples − 1.

        """
        return self._spread.noise(ddof)

    @property
    def relatedness_eigenvalues(self) -> np.ndarray:
        """s²/features, (k,) float64: eigenvalues of B·Bᵀ/features, (samples, samples).

        With ``scale="binom2"`` that is the genetic relationship matrix, whose eigenvalues flashpca prints,
        and PLINK and GCTA too.
        """
        return np.asarray((self.s / np.sqrt(self._spread.features)) ** 2)

    @silent
    def north(self, ddof: int = 1, independent: float | None = None) -> np.ndarray:
        """λ·√(2/N), (k,) float64: the standard error of each explained variance by sampling.

        North, Bell, Cahalan & Moeng 1982, eq. 24: modes whose variances differ by less than this are
        determined only together. N is `independent`, the number of independent samples, or the number of
        samples where it is None, as in eofs (`northTest`); samples that follow each other in time are fewer
        than they seem. Divided by `total_variance` it is what eofs gives with ``vfscaled=True``.

        Raises:
            RequestError: `ddof` is not in 0..samples − 1, or `independent` not positive.

        """
        return self._spread.north(ddof, independent)

    @silent
    def loadings(self, ddof: int = 1) -> Scaled:
        """Components times the root of their variance, (features, k), computed when it is sliced.

        Of columns that were divided by their standard deviation these are correlations with the scores.
        sgkit (`sample_pca_loading`) and scikit-allel have them with ddof=0, eofs as
        ``eofs(eofscaling=2)``, transposed, with ddof=1.

        Raises:
            RequestError: `ddof` is not in 0..samples − 1.

        """
        return Scaled(self.directions, np.sqrt(self.explained_variance(ddof)))

    @property
    def directions(self) -> Rows:
        """The components with a row for each feature, (features, k), read when they are sliced."""
        axis = self.features_axis
        return Rows((self.U, self.Vt)[axis], axis)

    def _features_of(self, samples: np.ndarray) -> np.ndarray:
        """The features of A, of samples that have all those of the data."""
        ids, axis = self.kept.lines[self.features_axis], min(self.features_axis, samples.ndim - 1)
        if ids is None or axis < 0 or samples.shape[axis] != self.kept.shape[self.features_axis]:
            return samples
        return np.take(samples, ids, axis=axis)

    def _in_order_of_names(self, samples: Any, summed: str | int | None) -> Any:
        """Samples whose axes have names, as xarray's do, along the data's own; what is `summed` last."""
        names, own = getattr(samples, "dims", ()), list(self.source.stacked_dims(self.features_axis))
        if not isinstance(names, tuple) or not own or "" in own or not set(own) <= set(names):
            return samples
        last = [name for name in names if name == summed]
        others = [name for name in names if name not in own and name not in last]
        if len(others) > 1:
            return samples
        for of_samples in others:  # by whatever name
            own.insert(self.array_axis, of_samples)
        return samples.transpose(*own, *last)

    def _stacked(self, samples: np.ndarray) -> np.ndarray:
        """Samples along the axes of the data as rows (r, n), one alone as (n,); others as they are."""
        others, flat = self.feature_shape, samples.ndim < len(self.array_shape)
        if len(others) == 1 or (flat and samples.shape[-1:] == (self.kept.shape[1],)):
            return samples
        if samples.shape == others:
            return samples.reshape(-1)
        along = np.moveaxis(samples, self.array_axis, 0) if samples.ndim > len(others) else samples
        return along.reshape(len(along), -1) if along.shape[1:] == others else samples

    @property
    def _shapes_of_samples(self) -> str:
        """The shapes in which r samples, or one alone, may be given."""
        axes: list[int | str] = [*self.array_shape]
        axes[self.array_axis] = "r"
        n = self.kept.shape[self.features_axis]
        stacked = f", (r, {n})" * (len(axes) > len(self.shape))
        return f"({', '.join(map(str, axes))}){stacked} or ({n},)"

    def spectrum(self) -> rank.Spectrum:
        """What the rank rules need to know."""
        m, n = self.shape
        c = self.certificate
        residuals = None
        if c.residuals:
            residuals = np.asarray(c.residuals)[: min(self._lengths)]
        return rank.Spectrum(
            s=self.s[: min(self._lengths)],
            frobenius=c.frobenius_norm,
            shape=self._lengths,
            matrix_bytes=m * n * self.source.itemsize,
            factor_itemsize=self.dtype.itemsize,
            residuals=residuals,
            rest=c.relative_error if c.relative_error_floor < _SUMMED_FLOOR else None,
            next_sigma=c.next_sigma,
            moments=self._moments,
        )

    @property
    def _moments(self) -> Moments | None:
        """Of genotypes what the test of Tracy & Widom needs, as the audit of the run has recorded it."""
        request, audit = Request.from_dict(self.provenance["request"]), self.whole.certificate.audit
        if audit is None or audit.fourth is None or request.own_scale not in GENOTYPE_SCALES:
            return None
        samples, features = self._lengths[self.samples_axis], self._lengths[self.features_axis]
        return Moments(audit.fourth, audit.fourth_error, min(samples - request.center, features))

    def rank_table(self) -> tuple[rank.RankRow, ...]:
        """One row for each k: σ, energy, relative error, bytes, compression ratio, residual."""
        return rank.rank_table(self.spectrum())

    def rank_by(self, score: Callable[[Factors], Any], ks: Iterable[int] | None = None) -> Scored:
        """A score of the user's own, the higher the better, of ``truncate(k)`` for each of some k.

        Args:
            score: given the factors of rank k, a finite number, such as how well their `scores` tell labels
                apart. It is called in this process.
            ks: which; where they are None 1, 2, 3, 5, 7, 10, 15, ... up to all.

        Raises:
            RequestError: the score fails for one of them, or is no finite number.
            RankError: one of them is no number of triplets.

        """
        return scored(self, score, ks)

    def info(self) -> dict[str, Any]:
        """The facts that ``bigsvd info --json`` prints."""
        costs, c = self.provenance["costs"], self.certificate
        ddof = int(self.shape[self.samples_axis] > 1)  # one sample alone has no variance of a sample
        return {
            "path": str(self.path),
            "shape": list(self.shape),
            "k": self.k,
            "dtype": self.dtype.name,
            "s": [float(value) for value in self.s],
            "centered": self.provenance["request"]["center"],
            "scaled": self.provenance["request"]["scale"],
            "given": sorted(Request.from_dict(self.provenance["request"]).named),
            "samples": self.samples,
            "functions": list(self.provenance["request"].get("functions", ())),
            "total_variance": self.total_variance(ddof),
            "explained_variance": self.explained_variance(ddof).tolist(),
            "explained_variance_ratio": self.explained_variance_ratio.tolist(),
            "dims": list(self.dims),
            "array_shape": list(self.array_shape),
            "missing_features": self.missing_features,
            "full_shape": list(self.kept.shape),
            **costs,
            "source": self.provenance["source"],
            "request": self.provenance["request"],
            "versions": self.provenance["versions"],
            "certificate": c.to_dict(),
            "predicted": c.predicted and c.predicted.to_dict(),
        }


def check_projection(method: str) -> None:
    """`RequestError` where new samples are projected in no such way."""
    if method not in PROJECTIONS:
        raise RequestError(f"method={method!r} is not known", f"use one of {', '.join(PROJECTIONS)}")


def check_rank(k: object, most: int) -> None:
    """`RankError` where k is no number of triplets, of which there are `most`."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= most:
        raise RankError(f"k={k!r} is not in the allowed range 1..{most}", "give a smaller k")


def open_factors(path: str | Path) -> Factors:
    """The factors published at `path`.

    Raises:
        FactorStoreError: nothing there, no manifest, or not a store of this format.

    """
    return _factors(path, by_zarr)


def sealed_factors(folder: Path) -> Factors:
    """Factors that this process has just sealed in `folder`, to look through before they are published."""
    return _factors(folder, by_files)


def _factors(path: str | Path, parts: Callable[[Path], Callable[[str], Any]]) -> Factors:
    with opening_errors(path):
        attributes, arrays = open_store(path, parts)
        lines = {name: np.asarray(arrays[name][:]) for name in STORED_VECTORS if name in arrays}
        if UNCERTAINTY in arrays:
            lines[UNCERTAINTY] = arrays[UNCERTAINTY]
        s = np.asarray(arrays["s"][:])
        rows, cols, empty = (
            np.asarray(arrays[name][:]) if name in arrays else None for name in ("rows", "cols", "missing")
        )
        m, n = attributes["source"].get("full_shape") or (arrays["U"].shape[0], arrays["Vt"].shape[1])
        kept = Kept((m, n), rows, cols, empty)
        return Factors(arrays["U"], s, arrays["Vt"], lines, attributes, Path(path), kept=kept)


def _summed(samples: np.ndarray) -> np.ndarray:
    """Sums over the last axis of new samples, NaN where one of them is missing, as `SummedSource` has it."""
    found = samples.sum(axis=-1, dtype=np.float64)
    if samples.dtype.kind == "i":
        found[np.any(samples < 0, axis=-1)] = np.nan
    return np.asarray(found)


def _inverse(weights: np.ndarray | None) -> np.ndarray | None:
    """1/weights; NaN where a weight is 0, since nothing is known of what it was the weight of."""
    return None if weights is None else _reciprocals(weights)


def _reciprocals(weights: np.ndarray) -> np.ndarray:
    found = np.full(weights.shape, np.nan)
    return np.asarray(np.divide(1.0, weights, out=found, where=weights != 0))


def _product(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """Their product, where either may be left out."""
    if one is None or other is None:
        return other if one is None else one
    return np.asarray(one * other)
