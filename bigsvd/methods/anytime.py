"""The loop that iterations share: steps until the answer is good enough, then the triplets of the last."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from bigsvd.errors import RankZeroError
from bigsvd.events import Formed, PhaseStarted
from bigsvd.methods.choosing import GivenRank, RankByRule, Shortfall, Values
from bigsvd.methods.goal import Goal, Solution
from bigsvd.methods.iteration import Iteration
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.result import (
    Finish,
    Refit,
    Triplets,
    as_formed,
    noise_floor,
    rounding_of,
    zero_triplets,
)
from bigsvd.methods.stopping import Answer, nothing_above_noise
from bigsvd.results.certificate import Audit, Signal


def iterate(run: Iteration, goal: Goal) -> Solution:
    """Steps until the tolerance, the budget, the deadline or the user says stop."""
    return _Loop(run, goal).solution()


def passes_made(matrix: Matrix) -> float:
    """Passes over all panels, with the share of one that the sample is."""
    return matrix.passes + (matrix.context.plan.sample_share if matrix.sample_costs else 0.0)


def within_tolerance(matrix: Matrix, triplets: Triplets, tol: float, signal: Signal | None) -> bool:
    """Whether every residual is at the tolerance, or at the rounding of what it was computed from.

    Of a `signal` alone, if there is one.
    """
    sigma = triplets.sigma
    if sigma[0] == 0:
        return True
    power = 1 if triplets.basis == "two-sided" else 2
    least = 100 * matrix.eps if matrix.dtype == "float64" else 0.0
    rounding = least * (sigma[0] / sigma) ** power
    good = triplets.judged <= np.maximum(tol, rounding)
    return bool(np.all(good if signal is None else good[: signal.count]))


class _Loop:
    """One iteration on its way to a goal."""

    def __init__(self, run: Iteration, goal: Goal) -> None:
        self._run = run
        self._goal = goal
        self._matrix = run.matrix
        self._progress = run.context.progress
        self._audit: Audit | None = None

    def solution(self) -> Solution:
        """The triplets of the last answer, and what is to be said of them."""
        goal, matrix = self._goal, self._matrix
        answer, stopped = self._advance_until_good()
        if answer is None:
            return self._zero()
        self._progress(PhaseStarted("forming the singular vectors"))
        triplets, lack = self._form(answer, stopped)
        self._progress(Formed())
        by_error = answer.converged and not goal.test.counts_residuals
        followed = lack is None or not lack.of_rule
        signal = goal.test.signal(triplets.sigma, triplets.beyond)
        within = goal.test.settled and within_tolerance(matrix, triplets, goal.request.tol, signal)
        missed = stopped is not None and self._missed
        return Solution(
            matrix, triplets, (by_error or within) and followed and not missed, passes_made(matrix),
            goal.budget.elapsed_seconds, lack, self._audit, answer.excess, signal,
        )  # fmt: skip

    def _advance_until_good(self) -> tuple[Answer | None, Shortfall | None]:
        """The last answer, None of a zero matrix; and what ended the passes before it was good, if any."""
        run, goal, matrix = self._run, self._goal, self._matrix
        wanted = matrix.context.plan.k if isinstance(goal.chooser, GivenRank) else None
        while True:
            run.advance()
            if matrix.known and matrix.norm_squared == 0:
                return None, None
            steps = 2 if matrix.rough else 1  # after a rough one another has to follow
            over = goal.budget.lack(run.next_name, steps * run.passes_a_step)
            estimate = run.estimate(wanted, goal.test.resolution)
            if estimate.sigma.size == 0:
                matrix.rough = False
                continue
            answer = goal.test.judge(estimate)
            wanted = answer.k
            self._progress(goal.test.event(answer))
            self._audit = run.audit(min(answer.k or 1, estimate.sigma.size))
            if matrix.rough:
                self._go_on(answer, over)
                continue
            if self._good(answer):
                return answer, None
            if over is not None:
                return answer, over
            run.extend(goal.test.aim(answer), goal.request.tol)
            if goal.test.needs_float64(answer, exhausted=run.exhausted):
                run.restart_in_float64()
                goal.test.begin_again()
            elif self._finished(answer):
                return answer, None

    def _go_on(self, answer: Answer, over: Shortfall | None) -> None:
        """Choose the step after one with rough products, on which no answer rests.

        It is one with products in full where the answer seems good, where no further may follow, and where
        rounding has begun to hide what is left.
        """
        run, test, tol = self._run, self._goal.test, self._goal.request.tol
        k = test.aim(answer)
        if over is None and not (self._good(answer) or test.outgrows_rough(answer)):
            run.extend(k, tol)
            if self._matrix.rough and not run.exhausted:
                return
        if self._matrix.rough:
            run.restart_in_full(k, tol)
        test.begin_again()

    def _good(self, answer: Answer) -> bool:
        """Whether the test is passed, and the probes show no direction that the basis has missed."""
        return answer.converged and answer.k is not None and not self._missed

    @property
    def _missed(self) -> bool:
        """Whether the probes show a direction that the basis has missed."""
        return self._audit is not None and self._audit.unseen_direction

    def _finished(self, answer: Answer) -> bool:
        """Whether no pass could help: no direction is left, or no room for those that a rule needs."""
        chooser, run = self._goal.chooser, self._run
        if isinstance(chooser, GivenRank):
            return run.exhausted
        if run.exhausted:
            return not (chooser.wants_fine(answer.values) and run.fill())
        if not run.full or (answer.k is not None and answer.k <= chooser.capacity()):
            return False
        needed = chooser.needed(answer.values)
        return needed is None or needed > chooser.capacity()

    def _form(self, answer: Answer, stopped: Shortfall | None) -> tuple[Triplets, Shortfall | None]:
        """The triplets of the last answer, and what they lack, if anything.

        Raises:
            RankZeroError: nothing stands above the noise.

        """
        run, chooser = self._run, self._goal.chooser
        values, k, fine, lack = answer.values, answer.k, False, stopped
        if isinstance(chooser, RankByRule) and chooser.wants_fine(values):
            fine, values = True, replace(values, sigma=run.fine_sigma())
            k = chooser.refit(values.sigma, np.zeros(0), values, summed=values.complete)
            k = k if k is not None and k <= self._solid(values.sigma) else None
        if answer.pick.k == 0:
            raise nothing_above_noise(answer.pick)
        if k is None and isinstance(chooser, RankByRule):
            lack = self._lack_of_values(chooser, values, stopped)
        elif stopped is None and not answer.converged and not fine:
            lack = self._lack_of_directions(answer)
        refit: Refit = as_formed
        if k is not None and isinstance(chooser, RankByRule):
            refit = partial(chooser.refit, values=values, summed=fine and values.complete)
        if k is None:
            k = max(1, answer.estimate.sigma.size // 2)
        finish = Finish(k, self._goal.request.tol, refit, self._eps(), fine, values.complete)
        triplets = run.finish(finish)
        if (
            lack is None
            and isinstance(chooser, RankByRule)
            and refit(triplets.sigma, triplets.beyond) is None
        ):
            lack = chooser.lack_of_precision(values, triplets.sigma.size)
        return triplets, lack

    def _zero(self) -> Solution:
        """Of the zero matrix."""
        matrix, goal = self._matrix, self._goal
        if goal.request.k == "auto":
            raise RankZeroError("the matrix is zero, so no rank explains it", "give a number k")
        triplets = zero_triplets(matrix, matrix.context.plan.k)
        return Solution(matrix, triplets, True, passes_made(matrix), goal.budget.elapsed_seconds, excess=0.0)

    def _eps(self) -> float:
        """Relative rounding below which values are not formed: of data too, unless a rule counts on them."""
        by_share = isinstance(self._goal.chooser, RankByRule) and self._goal.request.max_bytes is None
        return self._matrix.eps if by_share else rounding_of(self._matrix)

    def _solid(self, sigma: np.ndarray) -> int:
        """How many of these values are above rounding."""
        return max(1, int(np.sum(sigma > noise_floor(self._matrix, float(sigma[0]), self._eps()))))

    def _lack_of_values(self, chooser: RankByRule, values: Values, stopped: Shortfall | None) -> Shortfall:
        """Why a rule found no k: memory that no pass replaces, else what ended the passes, else rounding."""
        needed, solid = chooser.needed(values), self._solid(values.sigma)
        if values.complete or self._run.exhausted:
            return chooser.lack_of_precision(values, solid)
        if needed is None or needed > chooser.capacity():
            return chooser.lack_of_memory(values)
        return replace(stopped, of_rule=True) if stopped else chooser.lack_of_precision(values, solid)

    def _lack_of_directions(self, answer: Answer) -> Shortfall:
        """That rounding ended the passes."""
        return Shortfall(
            f"rounding of {self._matrix.dtype} products shows no further direction",
            f"ask for tol={min(1.0, 1.1 * answer.worst):.1e} or a smaller k",
        )
