"""Which k a run takes: the one asked for, or by a rank rule from the values of its passes.

Ritz values never exceed the singular values of A, so a rule that sums them may ask for too many and never for
too few. A k is settled where the rule chooses it also of the largest values that the residuals allow, and of
values that differ by the rounding of the products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bigsvd.catalog.widths import AUTO_SHARE
from bigsvd.errors import MemoryBudgetError, RankError
from bigsvd.facts import Machine
from bigsvd.planning.plan import Plan
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request
from bigsvd.results.rank import Choice, Rule, Spectrum, extended, fit_bulk, is_settled, raised, resolution
from bigsvd.units import human_bytes, round_up

_UNFOUND = 0.3  # residual of a Ritz value that says little yet about a singular value
_ROUNDINGS = 8  # by which the sums of squares of float32 products were seen to be off, and no more
_FINE = 1e3  # roundings of a sum of squares, below which single values still tell what their sum does not
_MOST_BYTES = 2**50  # of memory, beyond which no budget is looked for


@dataclass(frozen=True)
class Values:
    """What is known of the singular values of B after some passes.

    Attributes:
        sigma: descending, prescaled; residuals: relative, of the same number of them.
        norm: ‖B‖_F. dtype: of the products.
        complete: whether there can be no further values.
        shape: of A without the lines that are 0 in B whatever the data; see `informed`.

    """

    sigma: np.ndarray
    residuals: np.ndarray
    norm: float
    dtype: str
    complete: bool
    shape: tuple[int, int]


@dataclass(frozen=True)
class Pick:
    """The k that is chosen; None where it needs more values, 0 where nothing stands above noise.

    Attributes:
        settled: whether no residual of these values, and no rounding of their products, could change it.
        rounded: whether rounding alone could.
        note: what the rule says.

    """

    k: int | None
    settled: bool
    rounded: bool
    note: str = ""


@dataclass(frozen=True)
class Shortfall:
    """Why a run ended before it had what was asked for, and what would let it; `of_rule`: before it had k."""

    cause: str
    remedy: str
    of_rule: bool = False


@dataclass(frozen=True)
class GivenRank:
    """A number k that was asked for."""

    k: int

    def pick(self, values: Values) -> Pick:
        """K."""
        del values
        return Pick(self.k, settled=True, rounded=False)


@dataclass(frozen=True)
class RankByRule:
    """k by a rule of `bigsvd.results.rank`."""

    rule: Rule
    plan: Plan

    def pick(self, values: Values) -> Pick:
        """See `Pick`."""
        spectrum = self.spectrum(values)
        chosen = self._choose(self.rule, spectrum)
        k, size = chosen.k, _ROUNDINGS * float(np.finfo(values.dtype).eps)
        lowest, highest = (self._choose(self.rule.allowing(sign * size), spectrum).k for sign in (1, -1))
        rounded = not lowest == k == highest or self._hidden(chosen, values)
        settled = k is None or self._by_largest(spectrum, _rise(values, spectrum, k), k) == k
        growing = not values.complete and k is not None and k > AUTO_SHARE * spectrum.known
        growing = growing and self.rule.max_bytes is None
        return Pick(None if growing else k, settled, rounded, chosen.note)

    def _by_largest(self, spectrum: Spectrum, rise: np.ndarray, k: int) -> int | None:
        """What the rule chooses of the largest values: a sum for it needs those before the k-th alone."""
        if self.rule.share_left is None:
            return self._choose(self.rule, raised(spectrum, rise)).k
        return self._choose(self.rule.allowing(float(rise[: max(0, k - 1)].sum())), spectrum).k

    def _hidden(self, choice: Choice, values: Values) -> bool:
        """Whether noise, if there is any, lies below what float32 products show."""
        by_noise = self.rule == Rule() and values.dtype == "float32"
        return by_noise and "below rounding" in choice.note

    def _choose(self, rule: Rule, spectrum: Spectrum) -> Choice:
        choice = rule.choose(spectrum)
        if choice.k == 0 and self.rule.max_bytes is not None:
            raise RankError(f"max_bytes={self.rule.max_bytes} is too little ({choice.note})", "allow that")
        return choice

    def refit(self, sigma: np.ndarray, behind: np.ndarray, values: Values, *, summed: bool) -> int | None:
        """What the rule chooses of the factors that are about to be stored, as anyone can check with them."""
        rest = float(np.linalg.norm(behind)) / values.norm if summed else None
        found = replace(self.spectrum(replace(values, sigma=sigma)), rest=rest, next_sigma=next_of(behind))
        return self._choose(self.rule, found).k

    def spectrum(self, values: Values) -> Spectrum:
        """The values as rank rules take them."""
        facts = self.plan.facts
        return Spectrum(
            s=values.sigma[: min(values.shape)], frobenius=values.norm, shape=values.shape,
            matrix_bytes=facts.nbytes, factor_itemsize=np.dtype(values.dtype).itemsize,
        )  # fmt: skip

    def wants_fine(self, values: Values) -> bool:
        """Whether the rule asks about values so small that only they themselves, not their squares, tell."""
        left = self.rule.share_left
        return values.dtype == "float64" and left is not None and left < _FINE * resolution(8)

    def needed(self, values: Values) -> int | None:
        """About how many values the rule needs, judged by those that the passes have found well enough."""
        solid = int(np.sum(np.cumprod(values.residuals < _UNFOUND)))
        known = max(1, solid if solid > 1 else values.sigma.size // 2)
        found = self.spectrum(replace(values, sigma=values.sigma[:known]))
        return self._choose(self.rule, extended(found)).k

    def capacity(self) -> int:
        """Singular values that this plan can hold through restarts, or all where it needs none."""
        if self.plan.cols <= self.plan.max_width:
            return min(self.plan.rows, self.plan.cols)
        return max(self.plan.max_width - self.plan.width, self.plan.width)

    def lack_of_memory(self, values: Values) -> Shortfall:
        """What to ask for where the rule needs more values than the plan was laid out for."""
        most = min(self.plan.facts.shape)
        about = min(most, max(round_up(self.needed(values) or most), self.capacity() + 1))
        cause = f"the rank rule needs about {about} singular values, this plan holds {self.capacity()}"
        memory = memory_for(about, self.plan)
        if memory is None:
            remedy = "ask for less accuracy, or a device with more memory"
        elif memory <= self.plan.budget_bytes:
            remedy = f"ask for k={about}, for which a plan is laid out that fits the same memory"
        else:
            remedy = f"ask for k={about} with memory={human_bytes(round_up(memory)).replace(' ', '')}"
        return Shortfall(cause, remedy, of_rule=True)

    def lack_of_precision(self, values: Values, solid: int) -> Shortfall:
        """What to ask for where rounding hides what the rule asks about: all but the first `solid` values."""
        floor = float(np.sqrt(2 * resolution(np.dtype(values.dtype).itemsize)))
        if values.complete:
            floor = float(np.linalg.norm(values.sigma[solid:])) / values.norm
        cause = f"{values.dtype} resolves relative errors down to {floor:.1e} here, less is asked for"
        if self.rule.energy is not None:
            return Shortfall(cause, "ask for less energy or a number k", of_rule=True)
        return Shortfall(cause, f"ask for error={1.05 * floor:.1e} or more, or a number k", of_rule=True)


@dataclass(frozen=True)
class Noise:
    """What of the values is noise.

    Attributes:
        edge: the greatest σ of noise, prescaled. above: values beyond it.
        settled: whether there can be no others, as far as residuals show.

    """

    edge: float
    above: int
    settled: bool


def noise_of(values: Values, plan: Plan) -> Noise:
    """Values against the law of noise: that of a sample less where means were subtracted."""
    facts = plan.facts
    lengths = list(values.shape)
    lengths[facts.samples_axis] = max(1, lengths[facts.samples_axis] - plan.request.center)
    shape = lengths[0], lengths[1]
    known = min(values.sigma.size, *shape)
    spectrum = Spectrum(
        s=values.sigma[:known], frobenius=values.norm, shape=shape, matrix_bytes=facts.nbytes,
        factor_itemsize=np.dtype(values.dtype).itemsize, residuals=values.residuals[:known],
    )  # fmt: skip
    fit = fit_bulk(spectrum)
    settled = values.complete or not fit.resolved or is_settled(spectrum, fit)
    return Noise(fit.threshold, fit.rank, settled)


def next_of(behind: np.ndarray) -> float | None:
    """σ of the first of the values behind, if any were computed."""
    return float(behind[0]) if behind.size else None


def _rise(values: Values, spectrum: Spectrum, k: int | None) -> np.ndarray:
    """(known,) how much greater the squares of the first k+1 values may be, as shares.

    By ‖r‖, and where there is a gap to what has not been found yet by ‖r‖² over it (Parlett 1998, 11.7.1).
    """
    rise = np.zeros(spectrum.known)
    if values.complete or k is None:
        return rise
    count = min(k + 1, spectrum.known, values.residuals.size)
    theta = (values.sigma[:count] / values.norm) ** 2
    distance = np.where(theta > 0, values.residuals[:count], 0.0) * theta
    unfound = np.flatnonzero(~(values.residuals < _UNFOUND))
    outside = (values.sigma[unfound[0]] / values.norm) ** 2 if unfound.size else 0.0
    gap = theta - outside
    quadratic = distance**2 / np.where(gap > 0, gap, 1.0)
    rise[:count] = np.where(gap > 0, np.minimum(distance, quadratic), distance)
    return rise


def chooser_of(request: Request, plan: Plan) -> GivenRank | RankByRule:
    """How the k of a request is chosen."""
    return RankByRule(Rule.of(request), plan) if request.k == "auto" else GivenRank(plan.k)


def memory_for(k: int, plan: Plan) -> int | None:
    """The least budget, to a few per cent, with which a plan for k triplets fits; None if there is none."""
    request = replace(plan.request, k=k, energy=None, error=None, max_bytes=None, memory=None)
    machine = Machine(
        plan.budget_bytes, plan.threads, plan.device, plan.device_reason, plan.has_own_memory,
        plan.device_budget_bytes, plan.device_budget_bytes, plan.readers,
    )  # fmt: skip

    def fits(budget_bytes: int) -> bool:
        try:
            make_plan(request, plan.facts, replace(machine, budget_bytes=budget_bytes))
        except MemoryBudgetError:
            return False
        return True

    if fits(plan.budget_bytes):
        return plan.budget_bytes
    low, high = plan.budget_bytes, 2 * plan.budget_bytes
    while not fits(high):
        if high > _MOST_BYTES:
            return None
        low, high = high, 2 * high
    while high > 1.02 * low:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
