"""The ways that an evaluation compares: baselines, and the student's own stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import numpy as np

from bigsvd.distill.adapt import adapt_bytes
from bigsvd.distill.adapting import NAME as ADAPT
from bigsvd.distill.baselines import (
    Baseline,
    ColumnMean,
    Learned,
    Learnt,
    Panels,
    gappy,
    isotropic,
    some_of,
    too_large,
    zero_filled,
)
from bigsvd.distill.basis import Basis
from bigsvd.distill.gate import Verdict, judge
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.kernel_regression import KernelRegression
from bigsvd.distill.learners import Learners
from bigsvd.distill.order import STAGES
from bigsvd.distill.prior import NAME as MAP
from bigsvd.distill.prior import rows_needed
from bigsvd.distill.soft_impute import SoftImpute
from bigsvd.distill.student import Student
from bigsvd.errors import BadInputError

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


def of_student(student: Student, k: int, budget_bytes: int) -> Rivals:
    """The student's stages, from the cheapest on, as a prediction has them."""
    reasons = {name: _why_not(student, name, budget_bytes) for name in stages_of(student)}
    left_out = {name: why for name, why in reasons.items() if why}
    able = (name for name in reasons if name not in left_out)
    return Rivals(tuple(Learnt(name, k, partial(learned, student, name)) for name in able), left_out)


def stages_of(student: Student) -> tuple[str, ...]:
    """All that it has, and those that are made of it on new data."""
    made = {*student.stages, MAP, ADAPT}
    return tuple(name for name in STAGES if name in made)


def _why_not(student: Student, name: str, budget_bytes: int) -> str:
    """Why a stage cannot be had; empty where it can."""
    if name == ADAPT:
        n, r = student.basis.n, student.basis.r
        return too_large(f"adapt of {n:,} features", adapt_bytes(n, r), budget_bytes) or ""
    if name == MAP:
        return ""
    try:
        student.stage(name)
    except BadInputError as error:
        return error.message
    return ""


def learned(student: Student, name: str, new: Panels) -> Learned:
    """A stage that has seen some new rows, and whose coordinates it infers."""
    learners = Learners(student, list(some_of(new, rows_needed(student.basis.r))))
    found = learners.candidate(name, new())
    return found.basis, found.stage


def verdict_of(student: Student, able: Sequence[str], k: int, new: Panels) -> Verdict:
    """What the gate says of some of the student's stages on new rows."""
    holdout, judged = Holdout(0), list(some_of(new, rows_needed(student.basis.r)))
    shown = [rows.hide(holdout.hidden(rows)) for rows in judged]
    learners = Learners(student, shown)
    candidates = [learners.candidate(name, shown) for name in able]
    return judge(judged, candidates, holdout=holdout, components=k)
