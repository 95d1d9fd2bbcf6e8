"""What the spectrum of a sample tells of the passes that a Krylov run will take: pure arithmetic.

Notation as in the planner: B is M×N, S = (M/rows)·B_sᵀB_s the estimate of BᵀB from a sample of its rows, and
θ or λ are values of S and BᵀB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bigsvd.catalog.widths import PROBES, SPECTRAL_GAP
from bigsvd.planning.plan import Plan, Turn
from bigsvd.results.rank import Spectrum, fit_bulk

# Points at which the law of a bulk is summed.
_LAW_POINTS = 2001
# By which factor the residual after the first pass may be off, and what a pass gains, as a power of what the
# values of the first block alone say: the subspace grows from pass to pass, so it gains more and more.
_FIRST_OFF = 1.5
_LEAST_GAIN, _MOST_GAIN = 1.0, 1.5
# How values that are not flat, and those that are, behave.
_FALL = ("fall off", "hardly fall off")
# Passes after which no prediction is worth anything.
_MOST_PASSES = 99


@dataclass(frozen=True)
class Seen:
    """What a sample of the rows of B has shown.

    Attributes:
        theta: leading values of S, descending, as far as they are known well.
        energy: trace of S, which estimates ‖B‖²_F. rows: of the sample.

    """

    theta: np.ndarray
    energy: float
    rows: int


@dataclass(frozen=True)
class Outlook:
    """Passes over all data to the tolerance, by block Krylov.

    Attributes:
        low, high: between which they are expected; equal where the prediction is sharp.
        flat: whether the wanted values lie in a bulk, where nothing but many passes tells them apart.
        why: the reason, in words.

    """

    low: int
    high: int
    flat: bool
    why: str

    @property
    def likely(self) -> float:
        """The number that is off by the same factor at both ends."""
        return math.sqrt(self.low * self.high)


def outlook(seen: Seen, plan: Plan) -> Outlook:
    """The passes that a run of this plan would need, as its sample has it, were it allowed so many.

    Anderson 1963 has what a sample of m rows leaves of an eigenvector: a part √(λᵢλⱼ/m)/(λᵢ−λⱼ) along the
    j-th other. The block has the leading w of them, and what is beyond it makes, after the first pass, a
    residual of √(Σ_{j>w} λⱼ / (m·λᵢ)); of the left triplets it may be as small as √(Σ_{j>w} λⱼ² / m) / λᵢ.
    A further block gains what a Chebyshev polynomial does between the values beyond the block (Saad 1980), a
    correction with the sample squares the residual.
    """
    tol, stop = plan.request.tol, plan.request.stop
    values, signal = full_spectrum(seen, (plan.rows, plan.cols))
    wanted = min(plan.k, values.size)
    if stop == "error":
        return Outlook(1, 2, False, "the reconstruction is soon as good as the best possible")
    if stop == "signal" and signal == 0:
        return Outlook(2, 3, True, _told(plan.k, signal, flat=True))
    if stop == "signal":
        wanted = min(wanted, signal)
    last = float(values[wanted - 1])
    beyond = float(values[min(plan.narrow, values.size - 1)])
    flat = beyond > SPECTRAL_GAP * last
    first, first_least = 1.0, 1.0
    if last > 0:
        held = _held(plan, flat=flat)
        first = math.sqrt(_left(seen, values, held) / (seen.rows * last))
        first_least = float(np.linalg.norm(values[held:])) / (math.sqrt(seen.rows) * last)
    if wanted > signal:
        first = min(first, (last - float(values[-1])) / (2 * last))
    gain = _gain(values, wanted, plan.width)
    low = _passes(min(first, first_least) / _FIRST_OFF, gain**_MOST_GAIN, tol, flat=flat)
    high = _passes(first * _FIRST_OFF, gain**_LEAST_GAIN, tol, flat=flat)
    # One pass cannot show where noise ends, nor be exact where gaps are filled with what it finds, or rough.
    in_bulk = stop == "signal" and signal < plan.k
    unfilled = plan.request.missing == "mean" and plan.features_axis == 1
    least = 2 if in_bulk or unfilled or plan.rough else 1
    if stop == "estimate":
        low -= 1  # the pass that would prove it
    return Outlook(max(least, low), max(least, high), flat, _told(plan.k, signal, flat=flat))


def revised(plan: Plan, seen: Seen, decided: str = "") -> tuple[Plan, Outlook]:
    """The plan as its sample makes it: what is to be expected, and the method that it may turn to if faster.

    It turns where even the fewest passes that are expected would take longer, or are more than the run may
    make, unless the method has been `decided` before. All this hangs on the plan and the data alone.
    """
    ahead = outlook(seen, plan)
    seconds = plan.pass_seconds
    fewest = seconds.of(ahead.low, corrects=not ahead.flat)
    turn = plan.turn
    if turn is not None and (decided or _better(turn, ahead, fewest, plan)) == turn.method:
        why = (
            f"{ahead.why}: {plan.method} would take {ahead.low} passes or more, {fewest:.2g} s, "
            f"{turn.method} {turn.seconds:.2g} s"
        )
        ahead = Outlook(round(turn.passes), round(turn.passes), ahead.flat, why)
        memory = turn.memory_after(plan.memory)
        plan = replace(plan, method=turn.method, reason=why, cache_bytes=turn.cache_bytes, memory=memory)
        plan = replace(plan, rough_dtype=plan.compute_dtype)
        likely = turn.seconds
    else:
        most = plan.max_passes
        ahead = replace(ahead, low=min(ahead.low, most), high=min(ahead.high, most))
        ends = (seconds.of(passes, corrects=not ahead.flat) for passes in (ahead.low, ahead.high))
        likely = math.sqrt(math.prod(ends))
    predicted = plan.predicted_seconds | {"passes": likely}
    expected = ahead.likely + plan.sample_share + plan.stays_on_device + plan.sums_apart
    return replace(plan, expected_passes=expected, predicted_seconds=predicted), ahead


def _better(turn: Turn, ahead: Outlook, fewest: float, plan: Plan) -> str:
    """The method that a run goes on with, whose `fewest` passes take so many seconds by the one it has."""
    cannot = ahead.low > plan.max_passes
    if turn.passes <= plan.max_passes and (cannot or turn.seconds < fewest):
        return turn.method
    return plan.method


def full_spectrum(seen: Seen, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The values of BᵀB, (min(M, N),) descending, and how many of them stand above the bulk of its noise.

    A sample's bulk is wider than that of all rows, and lifts what stands above it more: λ(1+x)(1+β/x) for a
    component of x times the noise, β columns for each row (Baik & Silverstein 2006). The bulk itself is that
    of Marchenko & Pastur 1967 for all rows, with what is left of the energy.
    """
    (rows, cols), theta = shape, seen.theta[: min(seen.rows, shape[1])]
    found = fit_bulk(
        Spectrum(
            s=np.sqrt(theta), frobenius=math.sqrt(seen.energy), shape=(seen.rows, cols), matrix_bytes=1,
            factor_itemsize=8,
        )
    )  # fmt: skip
    noise = found.level**2 * seen.rows
    above = theta[: found.rank]
    ratio = above / max(noise, np.finfo(float).tiny)
    middle = ratio - 1 - cols / seen.rows
    strength = (middle + np.sqrt(np.maximum(middle**2 - 4 * cols / seen.rows, 0.0))) / 2
    signal = noise * (1 + strength) * (1 + cols / rows / np.maximum(strength, 1e-300))
    count = max(0, min(shape) - signal.size)
    remaining = max(0.0, seen.energy - float(signal.sum()))
    bulk = bulk_values(count, (rows, cols))
    bulk *= remaining / max(float(bulk.sum()), np.finfo(float).tiny)
    return np.concatenate([signal, bulk]), int(signal.size)


def bulk_values(count: int, shape: tuple[int, int]) -> np.ndarray:
    """The quantiles (count,), descending, of the law of Marchenko & Pastur 1967.

    For noise of the variance 1 / max(M, N).
    """
    beta = min(shape) / max(shape)
    lowest, highest = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2
    angle = np.linspace(0, np.pi, _LAW_POINTS)
    places = lowest + (highest - lowest) * (1 - np.cos(angle)) / 2
    density = np.sin(angle) ** 2 / np.maximum(places, 1e-9)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    shares = 1 - (np.arange(count) + 0.5) / max(1, count)
    return np.interp(shares, below / below[-1], places)


def _held(plan: Plan, *, flat: bool) -> int:
    """Vectors of the sample in the first block, which has random ones beside them."""
    width = plan.width if flat else plan.narrow
    return width - max(PROBES, math.ceil(width / 10))


def _left(seen: Seen, values: np.ndarray, held: int) -> float:
    """The energy of what is not held of the sample."""
    return max(0.0, seen.energy - float(values[: max(0, held)].sum()))


def _gain(values: np.ndarray, wanted: int, width: int) -> float:
    """By which factor a further block of this width lowers the residual of the last value that is wanted."""
    if width >= values.size:
        return math.inf
    last, beyond, least = (float(values[i]) for i in (wanted - 1, width, -1))
    if beyond <= least:
        return math.inf
    return math.exp(math.acosh(1 + 2 * max(0.0, last - beyond) / (beyond - least)))


def _passes(residual: float, gain: float, tol: float, *, flat: bool) -> int:
    """Passes until a residual, of so much after the first, is at the tolerance."""
    passes, residual = 1, min(1.0, residual)
    while residual > tol and passes < _MOST_PASSES:
        corrects = not flat and residual**2 <= 2 * tol
        residual = residual**2 / 2 if corrects else residual / gain
        passes += 1
    return passes


def _told(k: int, signal: int, *, flat: bool) -> str:
    """The reason of a prediction, in words."""
    if signal < k:
        return f"{signal} of k={k} values stand above the noise, which is flat behind them"
    return f"values {_FALL[flat]} behind k={k}"
