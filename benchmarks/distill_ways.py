"""The ways of filling that a student is held against, as `Baseline`s of `bigsvd.distill`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks import dineof
from benchmarks.distill_data import LinearGaussian
from benchmarks.distill_lab import Lab
from bigsvd.distill.adapting import NAME as ADAPT
from bigsvd.distill.baselines import (
    Baseline,
    ByEntries,
    ColumnMean,
    Filler,
    Fixed,
    Learnt,
    Panels,
    by_stage,
    gappy,
    isotropic,
    zero_filled,
)
from bigsvd.distill.basis import Basis
from bigsvd.distill.kernel_regression import KernelRegression
from bigsvd.distill.prior import fit_prior
from bigsvd.distill.rivals import learned
from bigsvd.distill.rows import Rows
from bigsvd.distill.soft_impute import SoftImpute

OPTIMAL, DINEOF = "optimal linear", "DINEOF"
_RANKS_TRIED = 30
_MEMORY_BYTES = 2**31  # that a rival may take


def ways(lab: Lab) -> list[Baseline]:
    """From the column mean, which is the first, to all stages of the student; those that fit in memory."""
    basis, k = lab.student.basis, lab.problem.k
    mean, *stages = stages_alone(lab)
    found = [
        mean,
        zero_filled(basis, k),
        gappy(basis, k),
        SoftImpute(basis, k, lab.seed, _MEMORY_BYTES),
        KernelRegression(lab.known, basis, k, lab.seed, _MEMORY_BYTES),
        isotropic(basis, k),
        *stages,
    ]
    if lab.problem.truth is not None:
        found.append(optimal(lab, lab.problem.truth))
    return [each for each in found if each.refusal(len(lab.problem.new)) is None]


def stages_alone(lab: Lab) -> list[Baseline]:
    """The column mean, and what the student can do."""
    basis, k, student = lab.student.basis, lab.problem.k, lab.student
    ridge, *learnt = (by_stage(basis, k, student.stage(name)) for name in student.stages)
    reestimated = Learnt("map", k, lambda new: (basis, fit_prior(basis, list(new()), lab.seed).stage))
    return [ColumnMean(basis, k, centred=True), ridge, reestimated, *learnt]


def optimal(lab: Lab, model: LinearGaussian) -> Baseline:
    """The conditional mean under the model that the rows were drawn from."""
    mean = lab.student.standard.mean

    def predict(rows: Rows) -> np.ndarray:
        data = np.asarray(rows.values) + mean
        return np.asarray(model.best(data, np.asarray(rows.seen)) - mean)

    return Fixed(OPTIMAL, ByEntries(lab.student.basis, lab.problem.k, predict))


@dataclass(frozen=True, eq=False)
class Dineof:
    """DINEOF on the training rows and the new ones together, which is all that the student has had."""

    basis: Basis
    k: int
    training: np.ndarray
    seed: int
    name: str = DINEOF

    def refusal(self, rows: int) -> str | None:
        """See `Baseline.refusal`."""
        del rows
        return None

    def fit(self, new: Panels) -> Filler:
        """Fill all rows, and say those that are asked for."""
        panels, known = list(new()), len(self.training)
        rows = np.vstack([np.nan_to_num(self.training), *(each.values for each in panels)])
        there = np.vstack([~np.isnan(self.training), *(each.seen for each in panels)])
        filled = dineof.fill(rows, there, _RANKS_TRIED, self.seed).values[known:]
        return ByEntries(self.basis, self.k, lambda some: filled[some.start : some.start + len(some)])


def with_dineof(lab: Lab) -> list[Baseline]:
    """All ways, `adapt`, which the gate may choose on these data, and DINEOF."""
    basis, k, student = lab.student.basis, lab.problem.k, lab.student
    adapted = Learnt(ADAPT, k, partial(learned, student, ADAPT))
    known = np.where(np.isnan(lab.problem.training[:, lab.features]), np.nan, lab.known)
    return [*ways(lab), adapted, Dineof(basis, k, known, lab.seed)]
