"""Choosing k: what each number of singular values keeps of A, what it costs, and which k a rule asks for.

Everything here is arithmetic on the leading singular values and ||A||_F; nothing reads data. Shares are
computed from s / ||A||_F, never from squares of raw values, so A and 1e300 * A give the same choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bigsvd.floats import silent
from bigsvd.request import Request
from bigsvd.results.tracy_widom import Moments, TracyWidom, tested
from bigsvd.units import human_bytes

Vector = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# What 1 - sum(s**2) / ||A||_F**2 can be off by when s and ||A||_F are correctly rounded float64.
_ROUNDING = 8 * _EPS
_SLACK = 1e-12  # relative; a target met up to rounding counts as met
_EXCESS = 1e-2  # share by which s may exceed ||A||_F before the two cannot be of one matrix
_DOUBLE_BYTES = 8
_MOST_LEFT = math.nextafter(1.0, 0.0) ** 2  # of the squared norm, by a rule that leaves something to choose
_STANDARD_SHARES = (0.90, 0.95, 0.99)
_TRACY_WIDOM_99 = 2.0234  # the quantile of 99 % of the Tracy-Widom law of real matrices (its first)
# How far above the edge of the noise, as a part of half the width of its bulk, a residual may reach from
# below while the value that it is of counts as noise. Residuals of bulks with nothing else in them reach 0.09
# to 0.105 beyond it in the second to fourth pass; where a component emerges 1 % above the edge, it is 0.18.
_EDGE_SLACK = 0.11


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What is known of A: sigma_1 >= ... >= sigma_k >= 0 for some k <= min(m, n), ||A||_F and the sizes.

    Attributes:
        s: (k,) float64, descending, in the unit of A; kept as a read-only copy.
        frobenius: ||A||_F of the matrix as decomposed (centered and scaled if it was), same unit.
        shape: (m, n).
        matrix_bytes: uncompressed bytes of A as it is stored.
        factor_itemsize: bytes per entry of U and Vt; s always takes 8.
        residuals: (k,) relative residuals rho of the triplets, or None where they were not computed.
        rest: ||A - A_k||_F / ||A||_F of all k known, where it was summed from the values behind them; None
            where only ||A||_F**2 - sum(s**2) tells it, which has a floor of rounding.
        next_sigma: sigma_{k+1} as far as it was computed (never above the true one), in the unit of A; None
            where it was not.
        moments: of genotypes what the test of Tracy & Widom needs to know; None of other data.

    Refuses with ValueError: values that are not finite, not descending or negative, none or more than
    min(m, n) of them, and values that exceed ||A||_F by more than float16 rounding explains.

    """

    s: Vector
    frobenius: float
    shape: tuple[int, int]
    matrix_bytes: int
    factor_itemsize: int
    residuals: Vector | None = None
    rest: float | None = None
    next_sigma: float | None = None
    moments: Moments | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "s", _frozen(self.s))
        object.__setattr__(self, "frobenius", float(self.frobenius))
        if self.residuals is not None:
            object.__setattr__(self, "residuals", _frozen(self.residuals))
        wrong = _wrong_sizes(self) or _wrong_values(self)
        if wrong:
            raise ValueError(wrong)

    @property
    def known(self) -> int:
        """Number of singular values known."""
        return self.s.size

    @property
    def most(self) -> int:
        """min(m, n), the number of singular values A has."""
        return min(self.shape)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; a residual that is not finite is null."""
        values = asdict(self) | {"s": self.s.tolist(), "shape": list(self.shape)}
        if self.residuals is not None:
            values["residuals"] = [
                value if math.isfinite(value) else None for value in self.residuals.tolist()
            ]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Spectrum:
        """The inverse of `to_dict`; ValueError for values that belong to no matrix."""
        residuals = values["residuals"]
        if residuals is not None:
            residuals = np.array(residuals, dtype=np.float64)  # null is NaN
        moments = values.get("moments") and Moments(**values["moments"])
        shape = tuple(values["shape"])
        return cls(**{**values, "shape": shape, "residuals": residuals, "moments": moments})

    @property
    def tests(self) -> tuple[TracyWidom, ...] | None:
        """The test of Tracy & Widom of each known value; None of data that are no genotypes."""
        return None if self.moments is None else tested(self.s, self.frobenius, self.moments)

    def factor_bytes(self, k: int) -> int:
        """Bytes of U (m,k), s (k,) and Vt (k,n): k * (m + n) * itemsize + 8 * k."""
        return k * (sum(self.shape) * self.factor_itemsize + _DOUBLE_BYTES)


@dataclass(frozen=True)
class RankRow:
    """What the k leading triplets keep of A and cost.

    Attributes:
        k: number of triplets.
        sigma: sigma_k, in the unit of A.
        energy: sum_{i<=k} sigma_i**2 / ||A||_F**2, in [0, 1].
        relative_error: ||A - U_k S_k Vt_k||_F / ||A||_F = sqrt(1 - energy), see `rank_table`.
        next_sigma: sigma_{k+1} = ||A - U_k S_k Vt_k||_2 in the unit of A; None where it is not known. In the
            last row as `Spectrum` has it.
        bytes: uncompressed bytes of the factors.
        compression_ratio: bytes of A / bytes of the factors.
        residual: relative residual rho of triplet k; None where it is not known or not finite.

    """

    k: int
    sigma: float
    energy: float
    relative_error: float
    next_sigma: float | None
    bytes: int
    compression_ratio: float
    residual: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """The row as JSON-ready values under its field names."""
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """The k a rule asks for; None where the known singular values are too few to tell, 0 where none fits."""

    rule: str
    k: int | None
    note: str

    def has_row(self, known: int) -> bool:
        """Whether the chosen k is one of the known, so that a rank table has a row for it."""
        return self.k is not None and 1 <= self.k <= known

    def to_dict(self) -> dict[str, str | int | None]:
        """The choice as JSON-ready values under its field names."""
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """How k is chosen: by the one of these that is given, by noise where none is."""

    energy: float | None = None
    error: float | None = None
    max_bytes: int | None = None

    @classmethod
    def of(cls, request: Request) -> Rule:
        """The rule of a request whose k is "auto"."""
        return cls(request.energy, request.error, request.max_bytes)

    def choose(self, spectrum: Spectrum) -> Choice:
        """What the rule chooses of a spectrum."""
        if self.energy is not None:
            return by_energy(spectrum, self.energy)
        if self.error is not None:
            return by_error(spectrum, self.error)
        if self.max_bytes is not None:
            return by_bytes(spectrum, self.max_bytes)
        return by_noise(spectrum)

    def allowing(self, share: float) -> Rule:
        """The same rule with so much more of ||A||_F**2 left, or less where it is negative."""
        if self.energy is not None:
            return replace(self, energy=min(1.0, max(self.energy - share, np.finfo(float).tiny)))
        if self.error is not None:
            left = min(max(self.error**2 + share, 0.0), _MOST_LEFT)
            return replace(self, error=math.sqrt(left))
        return self

    @property
    def share_left(self) -> float | None:
        """The share of ||A||_F**2 that the k leading triplets may leave; None where the rule sets none."""
        if self.energy is not None:
            return 1 - self.energy
        return None if self.error is None else self.error**2


@dataclass(frozen=True)
class NoiseFit:
    """Noise of standard deviation `level` per entry explains all but `rank` values, those above `threshold`.

    `level` and `threshold` are in the unit of A. `resolved` is False where what the `rank` values leave of
    ||A||_F**2 is within rounding; `level` is then an upper bound.
    """

    rank: int
    level: float
    threshold: float
    resolved: bool


@silent
def rank_table(spectrum: Spectrum) -> tuple[RankRow, ...]:
    """A row for each k = 1..known, by ||A - A_k||_F**2 = ||A||_F**2 - sum_{i<=k} sigma_i**2.

    (Eckart & Young 1936.) The relative error is summed from the small end, so that it keeps its digits where
    1 - energy has none left. Where values are still unknown it never claims less than sqrt(8 eps) = 4e-8, the
    cancellation floor of that difference.
    """
    energy, tail = _energy(spectrum), _tail(spectrum)
    return tuple(
        _row(spectrum, k, float(energy[k - 1]), float(tail[k])) for k in range(1, spectrum.known + 1)
    )


@silent
def by_energy(spectrum: Spectrum, share: float) -> Choice:
    """Smallest k >= 1 with sum_{i<=k} sigma_i**2 >= share * ||A||_F**2; share in (0, 1], else ValueError."""
    if not 0 < share <= 1:
        raise ValueError(
            f"the share of energy is {share!r} but must be above 0 and at most 1, such as 0.9 for 90 %"
        )
    k = _first(_energy(spectrum) >= share * (1 - _SLACK))
    rule = f"energy {100 * share:.12g} %"
    return Choice(rule, k, _kept(spectrum, k) if k else _too_few(spectrum))


@silent
def by_error(spectrum: Spectrum, relative_error: float) -> Choice:
    """Smallest k >= 1 with ||A - A_k||_F <= relative_error * ||A||_F; in [0, 1), else ValueError."""
    if not 0 <= relative_error < 1:
        raise ValueError(
            f"the relative error is {relative_error!r} but must be at least 0 and below 1, such as 0.1"
        )
    k = _first(np.sqrt(_tail(spectrum)[1:]) <= relative_error * (1 + _SLACK))
    return Choice(f"error {relative_error:g}", k, _kept(spectrum, k) if k else _too_few(spectrum))


@silent
def by_bytes(spectrum: Spectrum, max_bytes: int) -> Choice:
    """Largest k <= min(m, n) with k * (m + n) * itemsize + 8 * k <= max_bytes; may exceed the known values.

    k = 0 where not even one triplet fits. ValueError for a negative `max_bytes`.
    """
    if max_bytes < 0:
        raise ValueError(f"max_bytes is {max_bytes} but must not be negative")
    one = spectrum.factor_bytes(1)
    k = min(max_bytes // one, spectrum.most)
    rule = f"size {human_bytes(max_bytes)}"
    if k == 0:
        return Choice(rule, 0, f"k = 0: one triplet alone takes {human_bytes(one)}")
    note = f"the factors take {human_bytes(spectrum.factor_bytes(k))}"
    if k > spectrum.known:
        note = f"k = {k} fits, but only {spectrum.known} values are known"
    return Choice(rule, k, note)


@silent
def by_noise(spectrum: Spectrum) -> Choice:
    """Number of singular values above lambda*(beta) * sqrt(max(m, n)) * noise level (Gavish & Donoho 2014).

    The threshold for a known noise level, with the level of `fit_noise`. k is None where every known value
    lies above it and A has more of which none is known to lie below; k = 0 where A looks like noise.
    """
    fit = fit_noise(spectrum)
    threshold = f"threshold {fit.threshold:.3g}"
    below = spectrum.next_sigma is not None and spectrum.next_sigma <= fit.threshold
    if fit.rank == spectrum.known < spectrum.most and fit.resolved and not below:
        return Choice("noise", None, f"{_too_few(spectrum)}, all of them are above the {threshold}")
    if fit.rank == 0:
        return Choice("noise", 0, f"k = 0: no singular value is above the {threshold}")
    level = f"noise {'of' if fit.resolved else 'below rounding, at most'} {fit.level:.3g} per entry"
    return Choice("noise", fit.rank, f"{level}, {threshold}")


def by_edge(count: int, edge: float) -> Choice:
    """The `count` of triplets above the `edge` of the noise, as a run that was to find these tells it."""
    which = "no other" if count else "no"
    return Choice("signal", count, f"{which} singular value is above the noise, which ends at {edge:.3g}")


def noise_threshold(beta: float) -> float:
    """lambda*(beta) = sqrt(2(beta+1) + 8 beta / (beta+1 + sqrt(beta**2 + 14 beta + 1))).

    beta = min(m, n) / max(m, n). The singular value, in units of sqrt(max(m, n)) * noise level, whose
    triplet adds as much squared error when kept as when dropped, for large matrices (Gavish & Donoho 2014,
    the optimal hard threshold for a known noise level); 4/sqrt(3) for a square matrix. ValueError for beta
    outside (0, 1].
    """
    if not 0 < beta <= 1:
        raise ValueError(
            f"beta is {beta!r} but must be above 0 and at most 1: the shorter side over the longer"
        )
    return math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + math.sqrt(beta**2 + 14 * beta + 1)))


@silent
def fit_noise(spectrum: Spectrum) -> NoiseFit:
    """Least fixed point of r = #{i: sigma_i > tau(r)}, iterated from r = 0, and the noise level there.

    tau(r) = lambda*(beta) sqrt(max(m, n)) level(r), with the threshold of `noise_threshold`, and
    level(r)**2 = (||A||_F**2 - sum_{i<=r} sigma_i**2) / ((m-r)(n-r)), because the full spectrum, whose median
    Gavish & Donoho 2014 use, is not known.

    Degrees of freedom: what r strong triplets take up of the noise is its part in the tangent space of the
    rank-r matrices, r(m+n) - r**2 of mn dimensions; (m-r)(n-r) remain. So sigma_i**2 exceeds the signal's by
    about (m+n) level**2 (as in Benaych-Georges & Nadakuditi 2012, section 3.1).

    Convergence: r never falls, because a value above tau(r) exceeds lambda***2 max(m, n) >= m+n times
    level(r)**2 and takes fewer than m+n dimensions with it, so level and tau only decrease; after at most
    known + 1 steps it stands. r < min(m, n), because that many values above tau would hold more than is left.

    Limit: more than min(m, n) / lambda***2 nearly equal values (a fifth of all in a square matrix) look
    like noise; and a tail that is no noise but decays slowly is taken for noise.
    """
    m, n = spectrum.shape
    return _fixed_point(spectrum, noise_threshold(min(m, n) / max(m, n)) ** 2 * max(m, n))


@silent
def fit_bulk(spectrum: Spectrum) -> NoiseFit:
    """`fit_noise` with the edge of the noise as its threshold: `rank` values are not of the noise.

    Between the edge and the threshold of `fit_noise` lie components that are real, but as a term of a
    reconstruction add as much noise as they explain. The fixed point exists for the same reasons, since the
    edge is no less than (m+n) level**2. Columns of unequal noise have a wider bulk than the law says: the
    values beyond the edge are then taken for components.
    """
    return _fixed_point(spectrum, bulk_edge(spectrum.shape))


def bulk_edge(shape: tuple[int, int]) -> float:
    """(sqrt(m) + sqrt(n))**2, and what the largest sigma**2 of noise of variance 1 exceeds it by at most.

    The first is the edge of Marchenko & Pastur 1967; the largest value scatters about it on the scale of
    Johnstone 2001, theorem 1.1, and 99 % of it lie below this.
    """
    long, short = math.sqrt(max(shape)), math.sqrt(min(shape))
    scale = math.cbrt(1 / long + 1 / short)
    return (long + short) ** 2 + _TRACY_WIDOM_99 * (long + short) * scale


@silent
def is_settled(spectrum: Spectrum, fit: NoiseFit) -> bool:
    """Whether no component is on its way up out of the bulk that `fit_bulk` has found.

    A Ritz value that is still to rise has a residual rho, and up to sigma**2 (1 + rho) it may have been taken
    for: that of a component above the edge reaches beyond it before it does itself. The residuals of a bulk
    alone reach beyond its edge by a fixed part of its width, whatever the pass.
    """
    if spectrum.residuals is None or spectrum.residuals.size < spectrum.known:
        return fit.rank == spectrum.known
    inside = slice(fit.rank, None)
    reach = spectrum.s[inside] * np.sqrt(1 + spectrum.residuals[inside])
    return bool(np.all(reach <= fit.threshold * math.sqrt(1 + _EDGE_SLACK * _half_width(spectrum.shape))))


def _half_width(shape: tuple[int, int]) -> float:
    """Half the distance between the least and the greatest sigma**2 of noise, as a part of the greatest."""
    ratio = math.sqrt(max(shape) / min(shape))
    return 2 / (ratio + 2 + 1 / ratio)


def _fixed_point(spectrum: Spectrum, squared: float) -> NoiseFit:
    """The least fixed point of `fit_noise` for a threshold of sqrt(`squared`) noise levels."""
    m, n = spectrum.shape
    shares, floor = _shares(spectrum), _noise_floor(spectrum)
    tail = _sums_from_the_end(shares, max(_unknown_share(spectrum), floor))
    rank, previous, variance = 0, -1, 0.0
    while rank != previous:
        variance = float(tail[rank]) / ((m - rank) * (n - rank))
        previous, rank = rank, int(np.count_nonzero(shares > squared * variance))
    level = math.sqrt(variance) * spectrum.frobenius
    return NoiseFit(rank, level, math.sqrt(squared) * level, bool(tail[rank] > 2 * floor))


@silent
def break_even(spectrum: Spectrum) -> int:
    """Smallest k whose factors take more bytes than A; above min(m, n) where none does."""
    return spectrum.matrix_bytes // spectrum.factor_bytes(1) + 1


def raised(spectrum: Spectrum, rise: Vector) -> Spectrum:
    """The same with sigma_i**2 greater by the shares `rise` (known,), cut to what the known values leave."""
    shares = _shares(spectrum)
    room, total = max(0.0, 1.0 - math.fsum(shares)), float(rise.sum())
    squares = shares + rise * min(1.0, room / total) if total > 0 else shares
    s = np.sort(np.sqrt(squares))[::-1] * spectrum.frobenius
    return replace(spectrum, s=s, residuals=None, rest=None, next_sigma=None)


def extended(spectrum: Spectrum) -> Spectrum:
    """All min(m, n) values: those known, and behind them a power law that holds what they leave.

    sigma_j**2 = c * j**-a goes through the last known value, and a is such that the sum is the share left. An
    estimate, for saying about how many values a rule needs.
    """
    known, most = spectrum.known, spectrum.most
    left = 1.0 - math.fsum(_shares(spectrum))
    last = float(_shares(spectrum)[-1])
    if known == most or left <= 0 or last <= 0:
        return spectrum
    ratio = np.arange(known + 1, most + 1) / known
    low, high = 0.0, 64.0  # of a: from flat to what ends at once
    for _ in range(60):
        middle = (low + high) / 2
        if last * float(np.sum(ratio**-middle)) > left:
            low = middle
        else:
            high = middle
    behind = last * ratio**-high
    s = np.concatenate([spectrum.s, np.sqrt(behind) * spectrum.frobenius])
    return replace(spectrum, s=s, residuals=None, rest=None, next_sigma=None)


def resolution(itemsize: int) -> float:
    """What rounding of products in this precision leaves uncertain of a sum of squares, as a share of it."""
    return _ROUNDING if itemsize >= _DOUBLE_BYTES else float(np.finfo(np.float32).eps)


@silent
def choices(
    spectrum: Spectrum,
    *,
    energy: float | None = None,
    error: float | None = None,
    max_bytes: int | None = None,
) -> tuple[Choice, ...]:
    """What the rules choose: 90, 95, 99 % of the energy and the noise always, the others where asked."""
    shares = sorted({*_STANDARD_SHARES, *(() if energy is None else (energy,))})
    chosen = [*(by_energy(spectrum, share) for share in shares), by_noise(spectrum)]
    if error is not None:
        chosen.append(by_error(spectrum, error))
    if max_bytes is not None:
        chosen.append(by_bytes(spectrum, max_bytes))
    return tuple(chosen)


def marks(choices: Sequence[Choice], known: int) -> dict[int, list[str]]:
    """The rules by the k that they choose, ascending, of those that choose one of the known."""
    marked: dict[int, list[str]] = {}
    for choice in sorted((c for c in choices if c.has_row(known)), key=lambda c: c.k or 0):
        marked.setdefault(choice.k or 0, []).append(choice.rule)
    return marked


def unmarked(choices: Sequence[Choice], known: int) -> list[str]:
    """A line for each rule that chooses none of the known k: what it says instead."""
    return [f"{choice.rule}: {choice.note}" for choice in choices if not choice.has_row(known)]


def percent(share: float) -> str:
    """A share in per cent with two digits, rounded down, so that it never seems to reach what it misses."""
    return f"{math.floor(share * 1e4 + 1e-8) / 100:.2f} %"


def _frozen(values: npt.ArrayLike) -> Vector:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _wrong_sizes(spectrum: Spectrum) -> str | None:
    m, n = spectrum.shape
    if m < 1 or n < 1:
        return f"the shape is {m} x {n} but both sides must be at least 1"
    if spectrum.s.ndim != 1 or not 1 <= spectrum.s.size <= min(m, n):
        return f"s has shape {spectrum.s.shape} but must be a vector of 1 to min(m, n) = {min(m, n)} values"
    if spectrum.residuals is not None and spectrum.residuals.shape != spectrum.s.shape:
        return f"residuals have shape {spectrum.residuals.shape} but s has {spectrum.s.shape}"
    if spectrum.matrix_bytes < 1 or spectrum.factor_itemsize < 1:
        sizes = f"matrix_bytes is {spectrum.matrix_bytes} and factor_itemsize {spectrum.factor_itemsize}"
        return f"{sizes} but both must be at least 1"
    return None


def _wrong_values(spectrum: Spectrum) -> str | None:
    s, frobenius = spectrum.s, spectrum.frobenius
    strange = int(np.count_nonzero(~np.isfinite(s)))
    if strange or not math.isfinite(frobenius):
        return (
            f"s has {strange} values that are not finite and ||A||_F is {frobenius}, but all must be finite"
        )
    rises = int(np.count_nonzero(np.diff(s) > 0))
    if s[-1] < 0 or rises:
        return f"s must descend and not be negative but rises {rises} times and ends with {s[-1]:g}"
    if s[0] > frobenius * (1 + _EXCESS) or _shares(spectrum).sum() > 1 + _EXCESS:
        return (
            f"||A||_F is {frobenius:g} but s, from {s[0]:g} on, holds more; they are not of the same matrix"
        )
    return None


def _shares(spectrum: Spectrum) -> Vector:
    """(known,) sigma_i**2 / ||A||_F**2; zeros for A = 0."""
    if spectrum.frobenius == 0:
        return np.zeros(spectrum.known)
    relative: Vector = spectrum.s / spectrum.frobenius
    return relative * relative


def _energy(spectrum: Spectrum) -> Vector:
    """(known,) cumulative shares in [0, 1]; ones for A = 0, of which nothing is missing."""
    if spectrum.frobenius == 0:
        return np.ones(spectrum.known)
    return np.minimum(np.cumsum(_shares(spectrum)), 1.0)


def _unknown_share(spectrum: Spectrum) -> float:
    """Share of ||A||_F**2 beyond the known values, at least what rounding could hide if there are any."""
    if spectrum.rest is not None:
        return spectrum.rest**2
    missing = 1.0 - math.fsum(_shares(spectrum))
    if missing > _ROUNDING and spectrum.frobenius > 0:
        return missing
    return _ROUNDING if spectrum.known < spectrum.most and spectrum.frobenius > 0 else 0.0


def _tail(spectrum: Spectrum) -> Vector:
    """(known + 1,) share of ||A||_F**2 that the k leading values leave, k = 0..known; never rises."""
    return _sums_from_the_end(_shares(spectrum), _unknown_share(spectrum))


def _sums_from_the_end(shares: Vector, last: float) -> Vector:
    """(known + 1,) shares[k:].sum() + last; at most 1."""
    sums: Vector = np.cumsum(np.append(shares, last)[::-1])[::-1]
    return sums.clip(max=1.0)


def _noise_floor(spectrum: Spectrum) -> float:
    """Share of ||A||_F**2 that rounding in the arithmetic of the factors can hide or feign.

    Without it the rounding errors of a matrix of exactly low rank would count as signal above no noise.
    """
    return resolution(spectrum.factor_itemsize)


def _row(spectrum: Spectrum, k: int, energy: float, tail: float) -> RankRow:
    size = spectrum.factor_bytes(k)
    residual = None if spectrum.residuals is None else float(spectrum.residuals[k - 1])
    return RankRow(
        k=k,
        sigma=float(spectrum.s[k - 1]),
        energy=energy,
        relative_error=math.sqrt(tail),
        next_sigma=_next(spectrum, k),
        bytes=size,
        compression_ratio=spectrum.matrix_bytes / size,
        residual=residual if residual is not None and math.isfinite(residual) else None,
    )


def _next(spectrum: Spectrum, k: int) -> float | None:
    """sigma_{k+1}; None where it is not known."""
    if k < spectrum.known:
        return float(spectrum.s[k])
    return 0.0 if k == spectrum.most else spectrum.next_sigma


def _first(reached: npt.NDArray[np.bool_]) -> int | None:
    """1-based position of the first True, None without one."""
    return int(np.argmax(reached)) + 1 if reached.any() else None


def _kept(spectrum: Spectrum, k: int) -> str:
    energy, error = float(_energy(spectrum)[k - 1]), math.sqrt(_tail(spectrum)[k])
    return f"keeps {percent(energy)}, relative error {error:.2e}"


def _too_few(spectrum: Spectrum) -> str:
    if spectrum.known == spectrum.most:
        return f"not reached by all {spectrum.known} values"
    return f"needs more than the {spectrum.known} values known"
