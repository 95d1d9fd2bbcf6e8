"""`Teacher`: published factors with the data that they are of, from which a student learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.distill.basis import Basis
from bigsvd.distill.lines import components, coordinates
from bigsvd.distill.panels import Absence, RowPanels
from bigsvd.distill.rows import Rows
from bigsvd.errors import RequestError, SourceChangedError, SourceError, TeacherError
from bigsvd.events import BytesRead, PassEnded, PassStarted, Progress, unheard
from bigsvd.floats import silent
from bigsvd.gaps import data_of
from bigsvd.request import Request
from bigsvd.results.factors import Factors, open_factors
from bigsvd.results.standard import Standard
from bigsvd.sources.base import Source

NOISE = "noise"  # the pass, as progress calls it
_AS_SAID = 0.05  # of the norm, by which what factors leave may be more than was said: of other data it is 1.4
_LEAST_FREE = 0.05  # of a column's noise that is left by components: less tells of rounding


@dataclass(frozen=True, eq=False)
class Material:
    """Factors and their data, before anything of these was read.

    Attributes:
        factors: as they are published, or their leading triplets.
        source: the data. absence: which of their entries were not observed.

    """

    factors: Factors
    source: Source
    absence: Absence

    @classmethod
    def at(
        cls,
        path: str | Path,
        source: Any = None,
        *,
        components: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Material:
        """The factors at a path, all triplets or the leading ones, and their data.

        `source` are the data where they are no longer where they were, or were in memory.

        Raises:
            FactorStoreError: no factors are there. RankError: they have fewer triplets.
            TeacherError: the data are not at hand, or have another shape; or samples are weighted; or
                factors were predicted themselves, or leave no noise.

        """
        whole = open_factors(path)
        factors = whole if components is None else whole.truncate(components)
        _refuse_weights(factors)
        _refuse_predicted(factors)
        _refuse_whole(factors)
        data = _data_of(factors, source, storage_options)
        return cls(factors, data, absence_of(factors, data))

    @property
    def standard(self) -> Standard:
        """What makes rows of B of the data."""
        return self.factors.standard

    def panels(self, rows_per_panel: int) -> RowPanels:
        """The data, in the units of B."""
        return RowPanels(self.source, self.standard, rows_per_panel, self.absence)

    def coordinates(self, samples: slice) -> np.ndarray:
        """Rows of U·diag(s) of some samples, (b, r) float64."""
        return coordinates(self.factors, samples)

    def basis(self, noise: np.ndarray) -> Basis:
        """Their components, and the noise that these leave of each column; see `noise_of`."""
        samples = self.factors.shape[self.factors.samples_axis]
        return Basis(components(self.factors), self.factors.s, noise, samples)


@dataclass(frozen=True, eq=False)
class Teacher:
    """Material, and the basis that is learnt from them."""

    material: Material
    basis: Basis

    @classmethod
    def open(
        cls,
        path: str | Path,
        source: Any = None,
        *,
        components: int | None = None,
        rows_per_panel: int = 1024,
        storage_options: Mapping[str, Any] | None = None,
        progress: Progress = unheard,
    ) -> Teacher:
        """That at a path; its data are read once. See `Material.at`."""
        material = Material.at(path, source, components=components, storage_options=storage_options)
        noise = noise_of(material.factors, material.panels(rows_per_panel), progress)
        return cls(material, material.basis(noise))

    @property
    def factors(self) -> Factors:
        """See `Material`."""
        return self.material.factors

    @property
    def source(self) -> Source:
        """See `Material`."""
        return self.material.source

    @property
    def standard(self) -> Standard:
        """See `Material`."""
        return self.material.standard

    def panels(self, rows_per_panel: int) -> RowPanels:
        """See `Material`."""
        return self.material.panels(rows_per_panel)

    def coordinates(self, samples: slice) -> np.ndarray:
        """See `Material`."""
        return self.material.coordinates(samples)


def _refuse_weights(factors: Factors) -> None:
    """`TeacherError` for a teacher whose samples are weighted."""
    if factors.row_weights is not None:
        raise TeacherError(
            f"{factors.path} weighs its samples (row_weights), and new samples have no weight",
            "give a teacher that was decomposed without row_weights",
        )


def _refuse_predicted(factors: Factors) -> None:
    """`TeacherError` for factors that no SVD has computed: what is learnt of them would not say so."""
    if factors.predicted is not None:
        raise TeacherError(
            f"{factors.path} was {factors.predicted.short}", "give factors that an SVD has computed"
        )


def _refuse_whole(factors: Factors) -> None:
    """`TeacherError` for components that explain every sample: no residual then tells of noise.

    Whatever was seen of new samples would be taken for exact, and singular values come out as 10¹².
    """
    samples = factors.shape[factors.samples_axis]
    if factors.k >= samples - (factors.standard.mean is not None):
        raise TeacherError(
            f"{factors.path} has {factors.k} components of {samples} samples, which leave nothing of these "
            "by which noise could be told",
            f"give components={max(1, samples // 2)} or fewer",
        )


def _data_of(factors: Factors, source: Any, options: Mapping[str, Any] | None) -> Source:
    """The data of factors; `TeacherError` where they cannot be had."""
    try:
        return data_of(factors, source, storage_options=options)
    except (RequestError, SourceError, SourceChangedError) as error:
        raise TeacherError(
            f"the data that {factors.path} was computed from cannot be had: {error.message}",
            "give them by source=",
        ) from error


def absence_of(factors: Factors, source: Source) -> Absence:
    """Which of a teacher's entries its request took for missing."""
    request = Request.from_dict(factors.provenance["request"])
    return Absence.of(source, missing_value=request.sentinels or None)


class _Leftovers:
    """What factors leave of the columns of some panels, squared and summed."""

    def __init__(self, factors: Factors) -> None:
        self._factors = factors
        self._Vt = components(factors).T
        self.squares = self._nothing
        self.counts = self._nothing
        self._energy = 0.0

    @property
    def _nothing(self) -> np.ndarray:
        return np.zeros(self._Vt.shape[1])

    def add(self, rows: Rows) -> None:
        """Those of one more panel."""
        left = (rows.values - self._predicted(rows)) ** 2
        self._energy += float(np.sum(left))
        self.squares += np.sum(left * rows.seen, axis=0)
        self.counts += np.sum(rows.seen, axis=0)

    def _predicted(self, rows: Rows) -> np.ndarray:
        predicted: np.ndarray = coordinates(self._factors, rows.span) @ self._Vt
        return predicted

    def variances(self) -> np.ndarray:
        """Of the noise, (n,); columns of which nothing was observed have the mean of the others'.

        Squares are divided by what r components leave free: of m samples m − r, less one for the means, and
        of a column j, of whose noise they have followed the share h_j = Σ v_jk², 1 − h_j (Hoaglin & Welsch
        1978, "The hat matrix in regression and ANOVA").
        """
        known = self.counts > 0
        found = np.divide(self.squares, self.counts * self._free, out=self._nothing, where=known)
        found[~known] = np.sum(found) / max(1, np.count_nonzero(known))
        return np.asarray(found)

    def refuse_others(self) -> None:
        """`TeacherError` where more is left than the certificate says: the data are of another matrix."""
        certificate = self._factors.certificate
        whole, said = certificate.frobenius_norm, certificate.relative_error
        found = float(np.sqrt(self._energy)) / (whole or 1.0)
        if found > np.hypot(said, _AS_SAID):
            raise TeacherError(
                f"{self._factors.path} leave {found:.3g} of the norm of these data, and {said:.3g} of that "
                "of the data that they were computed from",
                "give the data of the teacher by source=",
            )

    @property
    def _free(self) -> np.ndarray:
        """The share of each column's noise that components leave, (n,)."""
        factors, r = self._factors, self._Vt.shape[0]
        samples = factors.shape[factors.samples_axis]
        free = samples - r - (factors.standard.mean is not None)
        leverage = np.sum(self._Vt**2, axis=0)
        return np.asarray(free / samples * np.maximum(1 - leverage, _LEAST_FREE))


@silent
def noise_of(factors: Factors, panels: RowPanels, progress: Progress = unheard) -> np.ndarray:
    """The variance of each column's noise, (n,), from what the factors leave of its observed entries.

    A column of which nothing was observed has the mean of the others.

    Raises:
        TeacherError: the data are not those of the factors, though they have their shape.

    """
    left, size = _Leftovers(factors), panels.source.facts.nbytes
    progress(PassStarted(NOISE, size, sample=False, resumed_lanes=0))
    for rows in panels:
        left.add(rows)
        progress(BytesRead(size * len(rows) // panels.samples))
    progress(PassEnded(NOISE, size, sample=False))
    left.refuse_others()
    return Basis.floored(left.variances(), factors.s, panels.samples)
