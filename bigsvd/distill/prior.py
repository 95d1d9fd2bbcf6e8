"""`map`: the prior of coordinates estimated anew on new data, held to what few numbers can tell.

Expectation-maximisation alone overfits where little is seen: on data like the teacher's own it makes the
singular values worse. So S = mean(zzᵀ + C) is held to fewer numbers, as if these were ν further samples:
Λ = (m′·S + ν·D)/(m′ + ν), where D is the teacher's prior rescaled by one number, or the variances of the new
coordinates one by one. Which D, and how much of it, is chosen on hidden entries of the new data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bigsvd.distill.basis import Basis
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.holds import HOLDS, SCALED, Hold
from bigsvd.distill.observed import observe
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Coordinates, Stage

NAME = "map"
_STEPS = 12  # of each estimate, at most
_STAYS = 1e-2  # of every variance, by which a step that changes none by more is the last
_ALIKE = (
    5e-3  # of the least mean square on hidden entries, by which a stiffer hold may be worse: by chance it is
)
_TOLD = 1e-13  # of a variance, noise less than which float64 does not tell from none when both are added
_WORK = 1e8  # rows·r³ of a step, about
_FEWEST, _MOST = 384, 1024  # rows that are learnt from
_INNER = 2**20  # added to a seed, so that what is hidden here is not what another use of the seed hides


@dataclass(frozen=True, eq=False)
class Reestimate:
    """A prior of new data.

    Attributes:
        prior: Λ, (r, r). hold: to what it was held. errors: mean squares on hidden entries, by hold.

    """

    prior: np.ndarray
    hold: Hold
    errors: dict[str, float]

    @property
    def stage(self) -> Ridge:
        """The ridge with this prior."""
        return Ridge(self.prior, NAME)


def rows_needed(r: int) -> int:
    """How many rows of the new data a prior of r coordinates is estimated on, at most."""
    return int(np.clip(_WORK / r**3, _FEWEST, _MOST))


def fit_prior(basis: Basis, rows: Sequence[Rows], seed: int = 0) -> Reestimate:
    """The prior Λ that fits new data, each estimate repeated until it stays.

    Args:
        basis: of the teacher.
        rows: of the new data, without whatever they are to be judged by; no more than `rows_needed` count.
        seed: of the entries that are hidden to choose the hold.

    """
    few, hidden, shown = _blinded(basis, rows, seed)
    errors = {hold: shown.error(hold, few, hidden) for hold in HOLDS}
    enough = (1 + _ALIKE) * min(errors.values())
    best = next(hold for hold in HOLDS if errors[hold] <= enough)
    prior = _Trials(basis, few).estimate(best)
    return Reestimate(prior, best, {hold.name: error for hold, error in errors.items()})


def first_of_best(stages: Sequence[Stage], basis: Basis, rows: Sequence[Rows], seed: int = 0) -> Stage:
    """The first of some stages, of which the stiffest is the first, whose mean square on hidden entries is
    within chance of the least; for the rest see `fit_prior`.
    """
    few, hidden, shown = _blinded(basis, rows, seed)
    errors = [shown.missed(stage, few, hidden) for stage in stages]
    return stages[next(i for i, error in enumerate(errors) if error <= (1 + _ALIKE) * min(errors))]


def _blinded(basis: Basis, rows: Sequence[Rows], seed: int) -> tuple[list[Rows], list[np.ndarray], _Trials]:
    """A few of the rows, which of their entries are hidden, and trials on what is left."""
    few, holdout = _leading(rows, rows_needed(basis.r)), Holdout(seed + _INNER)
    hidden = [holdout.hidden(each) for each in few]
    return few, hidden, _Trials(basis, [each.hide(some) for each, some in zip(few, hidden, strict=True)])


class _Trials:
    """Estimates from what was seen of some rows."""

    def __init__(self, basis: Basis, rows: list[Rows]) -> None:
        self._basis = basis
        self._observed = [observe(basis, each) for each in rows]

    @cached_property
    def _scaled(self) -> np.ndarray:
        """The teacher's prior, rescaled: what the other estimates begin with."""
        return self._stepped(np.diag(self._basis.prior), SCALED)

    def estimate(self, hold: Hold) -> np.ndarray:
        """Λ, (r, r)."""
        return self._scaled if hold is SCALED else self._stepped(self._scaled, hold)

    def error(self, hold: Hold, rows: list[Rows], hidden: list[np.ndarray]) -> float:
        """The mean square of what the answers of its estimate miss of hidden entries."""
        return self.missed(Ridge(self.estimate(hold)), rows, hidden)

    def missed(self, stage: Stage, rows: list[Rows], hidden: list[np.ndarray]) -> float:
        """The mean square of what a stage's answers miss of hidden entries; 0 where none is."""
        squares, count = 0.0, 0
        for each, some, observed in zip(rows, hidden, self._observed, strict=True):
            missed = (each.values - stage.infer(observed).mean @ self._basis.V.T)[some]
            squares += float(missed @ missed)
            count += missed.size
        return squares / max(1, count)

    def _stepped(self, prior: np.ndarray, hold: Hold) -> np.ndarray:
        for _ in range(_STEPS):
            before, prior = prior, hold.held(self._second_moment(Ridge(prior)), self._basis.prior)
            if not self._is_told(prior):
                return before
            if _stays(before, prior):
                break
        return prior

    def _is_told(self, prior: np.ndarray) -> bool:
        """Whether noise still counts beside the variances: they run away where the teacher left no noise."""
        return bool(_TOLD * np.max(np.diag(prior)) < np.min(self._basis.noise))

    def _second_moment(self, stage: Ridge) -> np.ndarray:
        """S = mean(zzᵀ + C)."""
        total = sum(_moment(stage.infer(each)) for each in self._observed)
        S = np.asarray(total / sum(len(each) for each in self._observed))
        return np.asarray((S + S.T) / 2)


def _stays(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether no variance has changed by more than `_STAYS` of itself."""
    return bool(np.allclose(np.diag(now), np.diag(before), rtol=_STAYS, atol=0.0))


def _moment(found: Coordinates) -> np.ndarray:
    """Σ zzᵀ + C over rows."""
    spread = np.sum(found.covariance, axis=0) * (len(found) / len(found.covariance))
    return np.asarray(found.mean.T @ found.mean + spread)


def _leading(rows: Sequence[Rows], most: int) -> list[Rows]:
    """No more than so many rows, the leading ones of each panel."""
    each = max(1, most // max(1, len(rows)))
    return [Rows(panel.start, panel.values[:each], panel.seen[:each]) for panel in rows]
