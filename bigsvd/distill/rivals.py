"""The ways that an evaluation compares: baselines, and the student's own stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import numpy as np

from bigsvd.distill.baselines import (
    Baseline,
    ColumnMean,
    Learned,
    Learnt,
    Panels,
    by_stage,
    gappy,
    isotropic,
    some_of,
    zero_filled,
)
from bigsvd.distill.basis import Basis
from bigsvd.distill.gate import Candidate, Verdict, judge
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.kernel_regression import KernelRegression
from bigsvd.distill.prior import fit_prior, rows_needed
from bigsvd.distill.soft_impute import SoftImpute
from bigsvd.distill.student import Student
from bigsvd.errors import RequestError

KERNEL, PLAIN = "kernel regression", "plain network"


@dataclass(frozen=True, eq=False)
class Rivals:
    """All ways that can be had, and why the others cannot.

    Attributes:
        baselines: in the order of tables, the column mean first. left_out: reasons, by name.

    """

    baselines: tuple[Baseline, ...]
    left_out: dict[str, str]

    def __add__(self, other: Rivals) -> Rivals:
        return Rivals((*self.baselines, *other.baselines), self.left_out | other.left_out)

    def fitting(self, rows: int) -> Rivals:
        """Those that can be had for so many new rows."""
        refused = {each.name: each.refusal(rows) for each in self.baselines}
        reasons = {name: why for name, why in refused.items() if why is not None}
        able = tuple(each for each in self.baselines if each.name not in reasons)
        return Rivals(able, self.left_out | reasons)


def without_teacher(student: Student, k: int, budget_bytes: int) -> Rivals:
    """Those that need no more than the student and the new data."""
    basis, centred = student.basis, student.standard.mean is not None
    simple = (ColumnMean(basis, k, centred), zero_filled(basis, k), gappy(basis, k), isotropic(basis, k))
    return Rivals((*simple, SoftImpute(basis, k, 0, budget_bytes)), {})


def by_memory(
    known: np.ndarray, basis: Basis, k: int, shares: tuple[float, float], budget_bytes: int
) -> Rivals:
    """Those that hold the teacher's rows (m, n); the network is trained on shares seen from `shares`."""
    kernel = KernelRegression(known, basis, k, 0, budget_bytes)
    return Rivals((kernel,), {}) + _plain(known, basis, k, shares, budget_bytes)


def _plain(known: np.ndarray, basis: Basis, k: int, shares: tuple[float, float], budget_bytes: int) -> Rivals:
    try:
        kind = import_module("bigsvd.distill.plain_network").PlainNetwork
    except ModuleNotFoundError as error:
        return Rivals((), {PLAIN: f"{error.name} is not installed; pip install 'bigsvd[distill]'"})
    network = kind(known, basis, k, shares, 0, budget_bytes)
    why = network.refusal()
    if why is not None:
        return Rivals((), {PLAIN: why})
    return Rivals((network.trained(),), {})


def without_memory(why: str) -> Rivals:
    """None of those, for a reason."""
    return Rivals((), dict.fromkeys((KERNEL, PLAIN), why))


def of_student(student: Student, k: int) -> Rivals:
    """The student's stages, from the cheapest on; `map` learns from the new data."""
    basis = student.basis
    ridge, *learnt = (_stage(student, name, k) for name in student.stages)
    own = [ridge, Rivals((Learnt("map", k, partial(reestimated, basis)),), {}), *learnt]
    return sum(own, Rivals((), {}))


def _stage(student: Student, name: str, k: int) -> Rivals:
    try:
        return Rivals((by_stage(student.basis, k, student.stage(name)),), {})
    except RequestError as error:
        return Rivals((), {name: error.message})


def reestimated(basis: Basis, new: Panels) -> Learned:
    """The `map` stage of new rows."""
    return basis, fit_prior(basis, list(some_of(new, rows_needed(basis.r)))).stage


def verdict_of(student: Student, able: Sequence[str], k: int, new: Panels) -> Verdict:
    """What the gate says of some of the student's stages, the ridge first, and of `map`, on new rows."""
    holdout, judged = Holdout(0), list(some_of(new, rows_needed(student.basis.r)))
    _, stage = reestimated(student.basis, lambda: (rows.hide(holdout.hidden(rows)) for rows in judged))
    ridge, *learnt = (Candidate(name, student.basis, student.stage(name)) for name in able)
    candidates = [ridge, Candidate(stage.name, student.basis, stage), *learnt]
    return judge(judged, candidates, holdout=holdout, components=k)
