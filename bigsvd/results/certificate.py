"""What is known about the error of U·diag(s)·Vᵀ, and how.

Notation as in the planner: B is the streamed M×N matrix (A or Aᵀ), θ = σ². The certificate of a Krylov run is
read off quantities that its passes computed anyway; factors that came another way are measured by a pass of
`TwoSidedKernel`, as by ``bigsvd verify``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bigsvd.floats import silent
from bigsvd.results.prediction import Prediction


@dataclass(frozen=True)
class Audit:
    """An independent look at what the factors miss, by Gaussian probes that never entered the basis.

    Attributes:
        probes: their number.
        missing_energy: estimate of ‖A−U·s·Vᵀ‖²_F / ‖A‖²_F (Halko, Martinsson & Tropp 2011, §4.3, in Frobenius
            form); expected: the exact value it estimates.
        spectral_error: bound on ‖A−U·s·Vᵀ‖₂, wrong with probability 10^-probes (ibid., Lemma 4.1).
        unseen_sigma: a lower bound on the largest singular value outside the basis (largest value of the
            pencil of H² and H on the probes, H the matrix AᵀA restricted to the complement).
        unseen_direction: `unseen_sigma` is above σ_k: the basis misses a part of the answer.
        flagged: that, or the estimate contradicts the exact value.
        fourth: Σσ⁴/(Σσ²)² over all singular values of A, exact by method "gram", else an estimate with the
            standard error `fourth_error`, see `fourth.fourth_powers`; None in stores of older versions.

    """

    probes: int
    missing_energy: float
    expected: float
    spectral_error: float
    unseen_sigma: float
    unseen_direction: bool
    flagged: bool
    fourth: float | None = None
    fourth_error: float = 0.0


@dataclass(frozen=True)
class Counts:
    """How many entries and features were not taken as they are stored.

    Attributes:
        entries: of A in all. missing: of these, filled as `filled_with` says ("mean", "zero"; "none" where
            nothing was to be filled; "throughout" where all of them are of features without any other).
        filled_chunks: chunks that do not exist and were read as the fill value.
        constant: features that are constant, `constant_columns` the first few of them by index; counted where
            they are shifted or scaled. empty, empty_columns: features without an observed entry, which are no
            part of the matrix unless gaps are 0.
        feature: what a feature is of A, "column" or "row".
        rounded: integers beyond 2^53, which float64 may not hold.

    """

    entries: int
    missing: int = 0
    filled_with: str = "none"
    filled_chunks: int = 0
    constant: int = 0
    constant_columns: tuple[int, ...] = ()
    empty: int = 0
    empty_columns: tuple[int, ...] = ()
    rounded: int = 0
    feature: str = "column"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Counts:
        """The inverse of `dataclasses.asdict`, also after JSON."""
        lists = {name: tuple(values[name]) for name in ("constant_columns", "empty_columns")}
        return cls(**{**values, **lists})

    def __str__(self) -> str:
        parts = []
        if self.filled_with != "none":
            share = 100 * self.missing / self.entries
            parts.append(f"{self.missing:,} of {self.entries:,} entries missing ({share:.2g} %)")
        if self.filled_chunks:
            parts.append(f"{self.filled_chunks:,} absent chunks read as the fill value")
        if self.constant:
            which = _indices(self.constant, self.constant_columns)
            parts.append(f"{self.constant:,} constant {self.feature}(s): {which}")
        if self.empty:
            which = _indices(self.empty, self.empty_columns)
            parts.append(f"{self.empty:,} {self.feature}(s) all missing, left out: {which}")
        if self.rounded:
            parts.append(f"{self.rounded:,} integers beyond 2^53 rounded")
        return "; ".join(parts)


def _indices(count: int, first: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, first))
    return f"{listed}, ..." if count > len(first) else listed


@dataclass(frozen=True)
class Signal:
    """Which triplets stand above the noise, of a run that was to find these.

    Attributes:
        edge: the greatest σ that noise alone would have, in the unit of A (`rank.fit_bulk`).
        count: of the k triplets the leading ones, with σ above it. The others lie in the bulk of the noise:
            any orthonormal vectors there would do as well.

    """

    edge: float
    count: int

    def of(self, k: int) -> str:
        """What is to be said of k triplets."""
        told = f"{self.count} of {k} triplets stand above the noise (which ends at {self.edge:.6g})"
        if self.count >= k:
            return told
        return f"{told}; the others are noise: any orthonormal vectors there would do as well"


@dataclass(frozen=True)
class Foretold:
    """How good one factor and s are, where no read has proved it yet (``stop="estimate"``).

    Attributes:
        factor: "Vt", or "U" of a matrix that was streamed by columns; x is one of its vectors v or u.
        residuals: (k,) no less than ‖AᵀA·v−σ²v‖/σ², or ‖AAᵀ·u−σ²u‖/σ², but for a chance of 1 in 1,000 each,
            as Gaussian probes show it that went through the last read and never entered the basis; and so is
            the largest of them.
        rayleigh: (k,) uᵀAv/σ, exact.

    """

    factor: str
    residuals: tuple[float, ...]
    rayleigh: tuple[float, ...]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Foretold:
        """The inverse of `dataclasses.asdict`, also after JSON."""
        return cls(values["factor"], tuple(values["residuals"]), tuple(values["rayleigh"]))

    @property
    def captured(self) -> np.ndarray:
        """By how much each triplet makes ‖A−U·S·Vᵀ‖²_F less, in units of σ², (k,): 1 where σ = uᵀAv."""
        return 2 * np.asarray(self.rayleigh) - 1

    def leading(self, k: int) -> Foretold:
        """Of the first k triplets."""
        return Foretold(self.factor, self.residuals[:k], self.rayleigh[:k])

    def __str__(self) -> str:
        worst = max(self.residuals, default=0.0)
        return (
            f"probes foretell that residuals of s and {self.factor} are at most {worst:.2e}, but for a "
            "chance of 1 in 1,000; the other factor is less exact, and one more read "
            '(stop="residual") would make it as exact and prove all'
        )


@dataclass(frozen=True)
class Certificate:
    """The error of one result.

    Attributes:
        relative_error: ‖A−U·s·Vᵀ‖_F/‖A‖_F, 0 for the zero matrix; exact up to `relative_error_floor`, below
            which the difference of squares that gives it is rounding.
        frobenius_norm: ‖A‖_F of the matrix as decomposed.
        residuals: ρ_i, a bound on the larger of ‖A·v−σu‖/σ and ‖Aᵀ·u−σv‖/σ of each triplet; max_residual is
            the worst. What kind of bound it is `basis` and `audited` say.
        sigma_bounds: relative distance from each σ_i within which a singular value of A lies: ρ/(1+√(1−ρ)),
            about ρ/2, plus the rounding of the products (Parlett 1998, thm 4.5.1, applied to AᵀA or A·Aᵀ).
        angle_bounds: bound on the sine of the angle between u_i or v_i and its singular vector: ρ_iσ_i² over
            the gap to the other computed values (ibid., thm 11.7.1); 1 where there is no gap.
        identifiable: whether that bound is below 1/2; vectors of clustered values are only determined
            together.
        numerical_rank: k, or less where further values lie below `noise_floor` and were dropped.
        tol, stop, converged: what was asked, and whether it was reached. excess_error: estimate of the
            relative error above the best possible for this k; None if unknown. Bounded by the residuals, or
            estimated by how much the last pass, or the last half power step, has gained.
        next_sigma: σ_{k+1} as far as the run computed it, which is never above the true one; None if it has
            none.
        basis: how residuals were obtained. "two-sided": both measured, by a pass of their own. "ritz": of
            right Ritz pairs of AᵀA; one of the two is 0 to rounding, the other computed exactly from the
            passes. "left": of left Ritz triplets, whose values are closer to the true ones. Again one of the
            two is 0 to rounding; the other is at most τ·‖(I−KKᵀ)v‖/σ, K the basis, and τ a bound on the norm
            of that part of A which neither K nor the left vectors of the basis see: the lesser of its
            Frobenius norm, which is a proof, and of σ_k.
        audited: whether it is σ_k that was taken for τ. That is no proof: it rests on the probes, which saw
            nothing above σ_k outside the basis (`Audit.unseen_direction` is false). sigma_bounds,
            angle_bounds and identifiable then rest on it too. relative_error never does.
        foretold: of basis "estimate": what the run was stopped by, and what sigma_bounds, angle_bounds (of
            the one factor alone) and identifiable rest on, with that chance of being wrong; `residuals` then
            are those of the triplets with the other factor, resting on it too. None of a result that is
            proved.
        counts: of entries and columns that were filled, rounded or constant; None in stores of version 0.1.
        signal: which triplets stand above the noise, where that was asked for by ``stop="signal"``: then
            `converged` is said of these alone.
        predicted: of basis "predicted": how. Then no SVD was computed and nothing is promised: there are no
            residuals and no bounds, `max_residual` is NaN, `relative_error` and `frobenius_norm` are what the
            student's model expects, and `converged` is false. None of a result that was computed.

    """

    relative_error: float
    relative_error_floor: float
    frobenius_norm: float
    max_residual: float
    residuals: tuple[float, ...]
    sigma_bounds: tuple[float, ...]
    angle_bounds: tuple[float, ...]
    identifiable: tuple[bool, ...]
    numerical_rank: int
    noise_floor: float
    tol: float
    stop: str
    converged: bool
    excess_error: float | None
    basis: str
    audit: Audit | None
    warnings: tuple[str, ...] = ()
    counts: Counts | None = None
    next_sigma: float | None = None
    audited: bool = False
    signal: Signal | None = None
    foretold: Foretold | None = None
    predicted: Prediction | None = None

    @property
    def judged(self) -> np.ndarray:
        """The residuals (k,) that sigma_bounds, angle_bounds and `converged` are of."""
        return np.asarray(self.residuals if self.foretold is None else self.foretold.residuals)

    @property
    def captured(self) -> np.ndarray:
        """By how much each triplet makes ‖A−U·S·Vᵀ‖²_F less, in units of σ², (k,)."""
        if self.predicted is not None:
            return np.asarray(self.predicted.captured)
        return np.ones(len(self.residuals)) if self.foretold is None else self.foretold.captured

    @property
    def shortfall(self) -> str | None:
        """Why the run did not converge and what would let it, in one line; None where it did."""
        if self.predicted is not None:
            return self.predicted.said
        return None if self.converged else next(iter(self.warnings), "no reason is known")

    @property
    def _kind(self) -> str:
        """What a reader of the bounds has to know first."""
        return ", if nothing above sigma_k was missed, as the audit says" if self.audited else ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        own = {"predicted": self.predicted and self.predicted.to_dict()}
        if math.isnan(self.max_residual):
            own["max_residual"] = None  # JSON has no such number
        return asdict(self) | own

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Certificate:
        """The inverse of `to_dict`."""
        lists = ("residuals", "sigma_bounds", "angle_bounds", "identifiable", "warnings")
        audit = Audit(**values["audit"]) if values["audit"] else None
        counts = Counts.from_dict(values["counts"]) if values.get("counts") else None
        signal = Signal(**values["signal"]) if values.get("signal") else None
        tuples = {name: tuple(values[name]) for name in lists}
        foretold = values.get("foretold") and Foretold.from_dict(values["foretold"])
        predicted = values.get("predicted") and Prediction.from_dict(values["predicted"])
        parts = {
            "audit": audit, "counts": counts, "signal": signal, "foretold": foretold, "predicted": predicted,
        }  # fmt: skip
        worst = math.nan if values["max_residual"] is None else values["max_residual"]
        return cls(**{**values, **tuples, **parts, "max_residual": worst})

    def __str__(self) -> str:
        if self.predicted is not None:
            expected = f"relative error about {self.relative_error:.4g}, as the model expects"
            return "\n".join([*self.predicted.lines, expected])
        lines = [
            f"{self._state}; each singular value is within {100 * max(self.sigma_bounds, default=0.0):.2g} % "
            f"of a true one{self._kind}",
            *self._told_of_residuals(),
            *map(str, filter(None, [self.foretold])),
            f"relative error {self.relative_error:.6g} (exact to {self.relative_error_floor:.1e})",
        ]
        unsure = sum(not sure for sure in self.identifiable)
        if unsure:
            lines.append(
                f"{unsure} of {len(self.identifiable)} vectors are determined only together with neighbours"
            )
        if self.audit is not None:
            a = self.audit
            lines.append(
                f"audit by {a.probes} probes: missing energy {a.missing_energy:.4g} "
                f"(exact {a.expected:.4g}), {'FLAGGED' if a.flagged else 'nothing unseen above sigma_k'}"
            )
        if str(self.counts or ""):
            lines.append(str(self.counts))
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    @property
    def _state(self) -> str:
        """Whether the run has reached what was asked."""
        if not self.converged:
            return "NOT converged: less exact than asked"
        if self.foretold is not None:
            return f"FORETOLD, not proved: s and {self.foretold.factor} as exact as asked"
        if self.stop == "residual" and self.max_residual > self.tol:
            return "converged: as exact as rounding allows, which is less than was asked"
        return "converged: as exact as asked"

    def _told_of_residuals(self) -> list[str]:
        """The worst residual of all; before it that of the signal, where only this was to be found."""
        worst = self.max_residual
        asked = f"(tol {self.tol:g} on {self.stop}{', audited' if self.audited else ''})"
        if self.signal is None:
            return [f"worst residual {worst:.2e} {asked}"]
        of_signal = max(self.residuals[: self.signal.count], default=0.0)
        return [
            self.signal.of(len(self.residuals)),
            f"worst residual {of_signal:.2e} above the noise {asked}, {worst:.2e} of all",
        ]


@silent
def sigma_bounds(residuals: np.ndarray, sigma: np.ndarray, eps: float) -> np.ndarray:
    """Relative bound on the distance from σ to a singular value of A, (k,).

    An eigenvalue of AᵀA lies within ρθ of θ, so a singular value within σ·ρ/(1+√(1−ρ)) of σ; rounding of the
    products adds some eps·σ₁/σ, more for the part of ρ that cannot be seen.
    """
    inner = 1 + np.sqrt(np.maximum(0.0, 1 - residuals))
    return np.asarray(residuals / inner + 16 * eps * _ratio(sigma))


def _ratio(sigma: np.ndarray) -> np.ndarray:
    """σ₁/σ, 1 for the zero matrix."""
    if sigma.size == 0 or sigma[0] == 0:
        return np.ones_like(sigma)
    return np.asarray(sigma[0] / np.maximum(sigma, np.finfo(float).tiny))


@silent
def angle_bounds(residuals: np.ndarray, sigma: np.ndarray, beyond: np.ndarray, eps: float) -> np.ndarray:
    """ρθ over the gap in θ to the other computed values, less their own uncertainty; (k,), at most 1.

    The residual is that of one of u and v as an eigenvector. The other is A or Aᵀ times it, which makes its
    parts along larger values larger. `beyond` are further values of σ below the k-th (Ritz values); the
    missing rest is taken as below them.
    """
    if sigma.size == 0 or sigma[0] == 0:
        return np.ones_like(sigma)
    theta = (np.concatenate([sigma, beyond]) / sigma[0]) ** 2
    rounding = 8 * eps * np.sqrt(theta)  # a pair (u, v) is computed to eps·σ₁, so θ to eps·σ₁·σ
    error = np.concatenate([residuals, np.zeros(beyond.size)]) * theta + rounding
    k = sigma.size
    bounds = np.ones(k)
    for i in range(k):
        others = np.arange(theta.size) != i
        gaps = np.abs(theta[others] - theta[i]) - error[others]
        gaps /= np.sqrt(np.maximum(1.0, theta[others] / theta[i]))
        gap = np.min(gaps, initial=theta[i] if theta.size == 1 else np.inf)
        bounds[i] = min(1.0, error[i] / gap) if gap > 0 else 1.0
    return bounds


@silent
def relative_error(
    sigma: np.ndarray, norm: float, eps: float, captured: np.ndarray | float = 1.0
) -> tuple[float, float]:
    """(√(1 − Σσ²/‖A‖²), its cancellation floor): the rounding eps of the two sums, under the root.

    With a factor for each σ² where not all of it was `captured`.
    """
    if norm == 0:
        return 0.0, 0.0
    share = float(np.sum((sigma / norm) ** 2 * captured))
    floor = float(np.sqrt(64 * eps))
    return float(np.sqrt(max(0.0, 1.0 - share))), floor
