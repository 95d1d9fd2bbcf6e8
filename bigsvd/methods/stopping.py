"""When a run may stop: the test of the answer after each pass, and what else ends the passes.

A test belongs to the request, not to the method: any iteration that has an `Estimate` after a step is
stopped by it. A new one is a subclass of `StoppingTest` and a row in `TESTS`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bigsvd.errors import RankZeroError
from bigsvd.events import Certified
from bigsvd.methods.choosing import GivenRank, Pick, RankByRule, Shortfall, Values, noise_of
from bigsvd.methods.estimate import COARSEST, Estimate
from bigsvd.methods.matrix import Matrix
from bigsvd.request import Request
from bigsvd.results.certificate import Signal, relative_error

_STUCK = 0.5  # of the residual of the pass before: one that falls by less no longer falls
_STALLED = 0.9  # of the residual of the pass before, above which rough products are given up
_ROUGH_EPS = 2.0**-7  # of bfloat16
_MOST_RESIDUAL = 1e6  # beyond which a bound from it says nothing, and its square is no use either


@dataclass(frozen=True)
class Answer:
    """The answer after a step.

    Attributes:
        k: how many triplets it has; None where a rank rule has not chosen yet. pick: that choice.
        values: of the singular values, what passes have found. estimate: what they were taken from.
        worst: the greatest residual of those that have to be small.
        error: ‖B−U·S·Vᵀ‖_F/‖B‖_F. excess: what of it is above the best possible for k, if known.
        converged: whether the test is passed, and a rule's k settled.

    """

    k: int | None
    pick: Pick
    values: Values
    estimate: Estimate
    worst: float
    error: float
    excess: float | None
    converged: bool


class StoppingTest(ABC):
    """Whether the answer after a step is good enough. It remembers the steps before."""

    def __init__(self, request: Request, matrix: Matrix, chooser: GivenRank | RankByRule) -> None:
        self.tol = request.tol
        self._matrix = matrix
        self._plan = matrix.context.plan
        self._chooser = chooser
        self._errors: list[float] = []
        self._worsts: list[float] = []
        self._passes: list[int] = []
        self._residuals = np.zeros(0)
        self._in_float64_again = False
        self._reached: int | None = None
        self._counted: int | None = None

    @property
    @abstractmethod
    def resolution(self) -> float:
        """The relative residual that the products must be able to show."""

    @property
    @abstractmethod
    def counts_residuals(self) -> bool:
        """Whether each of the k vectors has to be good, so that a further pass is aimed at the worst."""

    @property
    def settled(self) -> bool:
        """Whether it is known which of the triplets have to be good."""
        return True

    @abstractmethod
    def _passed(self, values: Values, residuals: np.ndarray, floor: np.ndarray, excess: float | None) -> bool:
        """Whether these residuals of k triplets, or this excess, suffice; no pass lowers those below `floor`.

        `values`: all that are known.
        """

    def aim(self, answer: Answer) -> int | None:
        """How many leading triplets a further step is to improve; None for the whole subspace."""
        return answer.k if self.counts_residuals else None

    def signal(self, sigma: np.ndarray, beyond: np.ndarray) -> Signal | None:
        """Which of the final values (k,) stand above the noise, prescaled; None where all are wanted.

        `beyond` (c,): computed values behind them.
        """
        del sigma, beyond
        return None

    def judge(self, estimate: Estimate) -> Answer:
        """The answer that an estimate is.

        Raises:
            RankZeroError: a rank rule finds nothing above the noise.

        """
        plan, matrix = self._plan, self._matrix
        norm = matrix.norm_squared**0.5
        known = estimate.sigma, estimate.residuals
        values = Values(*known, norm, matrix.dtype, estimate.complete, matrix.lengths)
        pick = self._chooser.pick(values)
        if pick.k == 0 and pick.settled:
            raise nothing_above_noise(pick)
        k = pick.k or None
        shown = min(k or plan.k, estimate.sigma.size)
        sigma, rounding = estimate.sigma[:shown], estimate.rounding[:shown]
        error, _ = relative_error(sigma, norm, matrix.eps)
        residuals, floor = estimate.residuals[:shown] + rounding, 100 * rounding
        excess = self._excess(sigma, estimate.growth[:shown] + rounding, error)
        passed = self._passed(values, residuals, floor, excess)
        worst = float(np.max(residuals[: self._counted][floor[: self._counted] < 1], initial=0.0))
        self._errors.append(error)
        self._worsts.append(worst)
        self._passes.append(matrix.passes)
        enough = shown == (k or plan.k)
        return Answer(
            k, pick, values, estimate, worst, error, excess, passed and enough and self._decided(pick)
        )

    def outgrows_rough(self, answer: Answer) -> bool:
        """Whether rough products have little more to show.

        What is left is below their rounding, or the last step has hardly lowered the greatest residual.
        """
        theta = answer.estimate.sigma**2
        last = theta[min(self._plan.k, theta.size) - 1]
        hidden = answer.worst <= _ROUGH_EPS or last <= _ROUGH_EPS * theta[0]
        return hidden or (len(self._worsts) > 1 and self._worsts[-1] > _STALLED * self._worsts[-2])

    def begin_again(self) -> None:
        """Judge what follows by itself: products are more precise from now on."""
        self._errors.clear()
        self._residuals = np.zeros(0)
        self._in_float64_again = self._matrix.dtype == "float64"

    def needs_float64(self, answer: Answer, *, exhausted: bool) -> bool:
        """Whether float32 cannot resolve what is asked; `exhausted`: no pass finds a further direction."""
        if self._matrix.dtype == "float64":
            return False
        if self._undecided(answer.pick) and (answer.pick.settled or exhausted):
            return True
        if exhausted:
            return True
        if answer.k is None:
            return False
        theta = answer.estimate.sigma**2
        last = max(1, min(answer.k if self._counted is None else self._counted, theta.size))
        return self._matrix.unresolved(theta[0], theta[last - 1], self.resolution)

    def passes_left(self) -> int | None:
        """About how many passes are still needed, as the last step went; None where that tells nothing.

        After the first step, as the plan has it.
        """
        if len(self._worsts) < 2:
            plan = self._matrix.context.plan
            ahead = round(plan.expected_passes - plan.sample_share - plan.sums_apart)
            return max(0, ahead - self._passes[-1]) or None
        if not 0 < self._worsts[-1] < self._worsts[-2]:
            return None
        rate = np.log(self._worsts[-1] / self._worsts[-2])
        steps = max(0, int(np.ceil(np.log(self.tol / self._worsts[-1]) / rate)))
        return steps * (self._passes[-1] - self._passes[-2])

    def event(self, answer: Answer) -> Certified:
        """What is said of an answer."""
        left = self.passes_left()
        return Certified(
            passes=self._matrix.passes,
            relative_error=answer.error,
            max_residual=answer.worst,
            excess_error=answer.excess,
            converged=answer.converged and not self._matrix.rough,
            passes_left=left,
            seconds_left=left and left * self._matrix.costs[-1].seconds,
            k=answer.k,
            reached=self._reached,
            above_noise=self._counted,
            foretold=answer.estimate.foretold,
        )

    def _decided(self, pick: Pick) -> bool:
        """Whether a rule's k is what it would be of exact values."""
        return pick.settled and not self._undecided(pick)

    def _undecided(self, pick: Pick) -> bool:
        """Whether it is the rounding of float32 that decides which k a rule chooses."""
        return pick.rounded and self._matrix.dtype == "float32"

    def _excess(self, sigma: np.ndarray, growth: np.ndarray, error: float) -> float | None:
        """Relative error above the best possible: by what growth is left, or estimated by the last gain."""
        share = sigma**2 / self._matrix.norm_squared
        captured = float(np.sum(share * (1 + np.minimum(growth, _MOST_RESIDUAL))))
        bound = error - float(np.sqrt(max(0.0, 1.0 - captured)))
        if self._errors:
            return min(bound, max(0.0, self._errors[-1] - error))
        # The first basis in float64 is that of the float32 passes, whose values may all be too small.
        return None if self._in_float64_again else bound


class ResidualTest(StoppingTest):
    """Every relative residual, or its bound, at the tolerance, or where no pass could lower it."""

    @property
    def resolution(self) -> float:
        """The tolerance."""
        return self.tol

    @property
    def counts_residuals(self) -> bool:
        """It does."""
        return True

    def _passed(self, values: Values, residuals: np.ndarray, floor: np.ndarray, excess: float | None) -> bool:
        del values, excess
        lowest = self._at_rounding(residuals, floor) & (self._matrix.dtype == "float64")
        good = ((residuals <= self.tol) | lowest)[: self._counted]
        self._reached = int(np.sum(good))
        return bool(np.all(good))

    def _at_rounding(self, residuals: np.ndarray, floor: np.ndarray) -> np.ndarray:
        """Which residuals no pass can lower: near the rounding of BᵀB, and no longer halving."""
        before, self._residuals = self._residuals, residuals
        count = min(before.size, residuals.size)
        stuck = np.zeros(residuals.size, dtype=bool)
        stuck[:count] = residuals[:count] > _STUCK * before[:count]
        return (floor >= 1) | ((residuals <= floor) & stuck)


class ErrorTest(StoppingTest):
    """‖B−U·S·Vᵀ‖_F/‖B‖_F within the tolerance of the best possible for k, however good single vectors are."""

    @property
    def resolution(self) -> float:
        """Coarse: a vector only has to point where there is energy."""
        return COARSEST

    @property
    def counts_residuals(self) -> bool:
        """It does not."""
        return False

    def passes_left(self) -> int | None:
        """Residuals tell nothing about it."""
        return None

    def _passed(self, values: Values, residuals: np.ndarray, floor: np.ndarray, excess: float | None) -> bool:
        del values, residuals, floor
        return excess is not None and excess <= self.tol

    def _decided(self, pick: Pick) -> bool:
        return not self._undecided(pick)


class SignalTest(ResidualTest):
    """The residuals of those of the k triplets that stand above the noise; in its bulk all vectors are alike.

    Where the bulk ends is known once no component is on its way out of it (`rank.is_settled`), which one pass
    cannot show: until then steps improve the whole subspace. Where all k stand above it is `ResidualTest`.
    """

    def __init__(self, request: Request, matrix: Matrix, chooser: GivenRank | RankByRule) -> None:
        super().__init__(request, matrix, chooser)
        self._settled = False

    @property
    def settled(self) -> bool:
        """Whether the edge of the noise is."""
        return self._settled

    def aim(self, answer: Answer) -> int | None:
        """The triplets above the noise, once these are known."""
        return max(1, self._counted or 0) if self._settled and answer.k is not None else None

    def signal(self, sigma: np.ndarray, beyond: np.ndarray) -> Signal | None:
        """See `StoppingTest`."""
        matrix = self._matrix
        known = np.sort(np.concatenate([sigma, beyond]))[::-1]
        norm, exact = matrix.norm_squared**0.5, np.zeros(known.size)
        values = Values(known, exact, norm, matrix.dtype, complete=True, shape=matrix.lengths)
        edge = noise_of(values, self._plan).edge
        return Signal(edge, int(np.sum(sigma > edge)))

    def _passed(self, values: Values, residuals: np.ndarray, floor: np.ndarray, excess: float | None) -> bool:
        noise = noise_of(values, self._plan)
        self._counted = min(noise.above, residuals.size)
        shown = noise.settled and (self._matrix.passes > 1 or values.complete)
        self._settled = shown or noise.above >= residuals.size
        return super()._passed(values, residuals, floor, excess) and self._settled


TESTS: dict[str, type[StoppingTest]] = {
    "residual": ResidualTest, "error": ErrorTest, "signal": SignalTest, "estimate": ResidualTest,
}  # fmt: skip


def nothing_above_noise(pick: Pick) -> RankZeroError:
    """A rank rule that finds no triplet to keep."""
    return RankZeroError(f"no singular value stands above the noise ({pick.note})", "give a number k")


@dataclass
class PassBudget:
    """What ends the passes before the test is passed: their number, a deadline, the user."""

    matrix: Matrix
    deadline: float | None
    stopped_by_user: Callable[[], bool]
    start: float = field(default_factory=time.monotonic)

    @property
    def elapsed_seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.start

    def lack(self, following: str, count: int) -> Shortfall | None:
        """Why a step of `count` passes may not start; None if it may, as it may if it is only replayed.

        `following`: the first of these passes.
        """
        passes, context = self.matrix.passes, self.matrix.context
        goes_on = "and overwrite=True, which goes on from here"
        if passes + count > context.plan.max_passes:
            cause = f"stopped after {passes} passes, the most allowed"
            return Shortfall(cause, f"allow more with max_passes={2 * passes} {goes_on}")
        if context.scratch.recorded(f"{following}/done") is not None:
            return None
        elapsed = self.elapsed_seconds
        latest = [cost.seconds for cost in self.matrix.costs[-count:]]
        step = count * sum(latest) / len(latest)
        if self.deadline is not None and elapsed + step > self.deadline:
            limit = f"the deadline of {self.deadline:g} s"
            cause = f"stopped after {elapsed:.0f} s: another pass would miss {limit}"
            return Shortfall(cause, f"allow more with a later deadline {goes_on}")
        if self.stopped_by_user():
            return Shortfall(
                "stopped by its user", "run it again with overwrite=True, which goes on from here"
            )
        return None
