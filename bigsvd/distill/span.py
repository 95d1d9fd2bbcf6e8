"""The span alarm: whether the leading vectors of new data lie in the span of the teacher's components.

Where they do not, no stage that predicts coordinates can be right, however good its errors look: singular
values and vectors of the new data are then partly those of something that nobody looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from bigsvd.distill.basis import Basis
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.intervals import entry_deviations
from bigsvd.distill.observed import Observed, observe
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Coordinates, Stage

_TOLD = 2.0  # times more or less residual energy: within that it is not told from errors of the covariances
_MISSED = 2.0  # times the squared errors that a stage expects: its own uncertainty does not explain more
_LEAST = 1e-2  # of the teacher's residual energy, less than which errors of the covariances hide
_MARGIN = 0.9  # of the least singular value that may lie outside: predicted ones are off by up to a tenth


@dataclass(frozen=True)
class Span:
    """What the residuals of new data say of the teacher's span.

    Attributes:
        residual: energy of the new data's rows outside of the span, by the teacher's noise; 1 where they are
            alike, NaN where nothing could be hidden.
        missed: squared errors on hidden entries by those that the stage expects.
        scale: variance of the coordinates by that of the teacher's, all in all.
        ratios: predicted singular values by the largest that may lie outside of the span, (k,).

    """

    residual: float
    missed: float
    scale: float
    ratios: tuple[float, ...]

    @property
    def is_left(self) -> bool:
        """Whether more energy lies outside than the noise, at the scale of the data, explains."""
        return self.missed > _MISSED and self.residual > _TOLD * max(1.0, self.scale)

    @property
    def doubtful(self) -> tuple[int, ...]:
        """Components (from 0) that are no larger than what may lie outside of the span."""
        return tuple(place for place, ratio in enumerate(self.ratios) if ratio < _MARGIN)

    @property
    def outside(self) -> str:
        """What a reader must be told; empty where the span holds the data."""
        if self.is_left:
            return (
                f"outside the teacher's span: what its components leave of the new data is "
                f"{self.residual:.3g} times its noise; run `adapt` or an SVD"
            )
        if self.doubtful:
            return (
                f"outside the teacher's span: {len(self.doubtful)} of {len(self.ratios)} predicted singular "
                f"values, from number {self.doubtful[0] + 1} on, are no larger than what may lie outside; "
                "publish fewer components, run `adapt` or an SVD"
            )
        return ""


@dataclass(frozen=True, eq=False)
class _Sums:
    """Over rows: Σ zzᵀ + C; over hidden entries: Σ (x − v_jᵀz)², Σ (v_jᵀCv_j + ψ_j) and Σψ_j."""

    moment: np.ndarray
    squares: float
    expected: float
    noise: float
    rows: int

    def __add__(self, other: _Sums) -> _Sums:
        names = self.__dataclass_fields__
        return _Sums(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def missed(self) -> float:
        """Squared errors by those expected; NaN where nothing was hidden."""
        return self.squares / (self.expected or float("nan"))

    @property
    def residual(self) -> float:
        """Errors beyond what the coordinates' own uncertainty makes of them, by the noise."""
        if not self.noise:
            return float("nan")
        return max(0.0, 1 + (self.squares - self.expected) / self.noise)


def span_of(sample: Sequence[Rows], basis: Basis, stage: Stage, holdout: Holdout, components: int) -> Span:
    """Look at entries of some rows that are hidden from a stage, `map` at best.

    Outside of its span the teacher had no singular value above its last one, s_r. New data whose residuals
    have as much energy may have one as large: their own predicted ones must be larger to be the leading.
    Energy beyond that is taken for directions that the teacher does not know.
    """
    sums = reduce(_Sums.__add__, (_panel_sums(rows, basis, stage, holdout) for rows in sample))
    found = Span(sums.residual, sums.missed, _scale(sums, basis), ())
    return replace(found, ratios=_ratios(sums, basis, found, components))


def _panel_sums(rows: Rows, basis: Basis, stage: Stage, holdout: Holdout) -> _Sums:
    hidden = holdout.hidden(rows)
    shown = rows.hide(hidden)
    found = stage.infer(observe(basis, shown))
    squares = (_missed(rows, basis, found) ** 2)[hidden]
    expected = (entry_deviations(basis, found) ** 2)[hidden]
    noise = np.sum(hidden @ basis.noise)
    return _Sums(
        np.sum(found.second_moments, axis=0),
        float(np.sum(squares)),
        float(np.sum(expected)),
        float(noise),
        len(rows),
    )


def _missed(rows: Rows, basis: Basis, found: Coordinates) -> np.ndarray:
    """Errors x − V·z, (b, n)."""
    return np.asarray(rows.values - np.asarray(found.mean) @ basis.V.T)


def _scale(sums: _Sums, basis: Basis) -> float:
    return float(np.trace(sums.moment) / (sums.rows * np.sum(basis.prior)))


def _ratios(sums: _Sums, basis: Basis, found: Span, components: int) -> tuple[float, ...]:
    least = basis.s[-1] ** 2 / basis.samples * _settled(found.residual)
    return tuple(np.sqrt(_variances(sums, basis)[:components] / least).tolist())


def _variances(sums: _Sums, basis: Basis) -> np.ndarray:
    """Of the new rows along their own leading vectors within the span, noise included, descending."""
    noise = basis.V.T @ (basis.noise[:, None] * basis.V)
    return np.asarray(np.maximum(np.linalg.eigvalsh(sums.moment / sums.rows + noise)[::-1], 0.0))


def _settled(residual: float) -> float:
    """1 where the energy of residuals is not told from the teacher's."""
    if residual < 1 / _TOLD or residual > _TOLD:
        return max(residual, _LEAST)
    return 1.0


def surprise(observed: Observed, coordinates: Coordinates) -> np.ndarray:
    """How much of each row its posterior leaves unexplained, (b,), about 1 for rows as the teacher's.

    E Σ(x − V·z)²/ψ over what was seen, by the number of entries; 0 where nothing was.
    """
    left = np.maximum(0.0, observed.energy - _explained(observed, coordinates))
    return np.asarray(left / np.maximum(1, observed.count))


def _explained(observed: Observed, coordinates: Coordinates) -> np.ndarray:
    """2·zᵀt − E zᵀGz of each row, (b,)."""
    curved = np.sum(observed.G * coordinates.second_moments, axis=(1, 2))
    return np.asarray(2 * np.sum(coordinates.mean * observed.t, axis=1) - curved)
