"""Which stage predicts new data: what was asked for, or what the gate chooses on their own hidden entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigsvd.distill.basis import Basis
from bigsvd.distill.gate import Candidate, Verdict, judge
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.order import Order
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.plan import PredictionPlan
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Stage
from bigsvd.distill.student import Student
from bigsvd.events import PhaseStarted, Progress, StageChosen

_SAMPLED_PANELS = 16  # from which rows to judge by are taken, at most


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is to infer the coordinates of new data.

    Attributes:
        name: of the stage. basis: whose coordinates it infers.
        hidden_error, hidden_spread, outside, verdict: see `results.prediction.Prediction`.

    """

    name: str
    basis: Basis
    stage: Stage
    hidden_error: float | None = None
    hidden_spread: float | None = None
    outside: str = ""
    verdict: dict[str, Any] | None = None


def choose(order: Order, panels: RowPanels, plan: PredictionPlan, progress: Progress) -> Chosen:
    """The stage that is asked for, or of all that the student has the cheapest within noise of the best."""
    progress(PhaseStarted(f"judging stages on {plan.rows_judged:,} samples"))
    sample, holdout = list(sample_of(panels, plan.rows_judged)), Holdout(order.seed)
    candidates = _candidates(order)
    verdict = judge(sample, list(candidates.values()), holdout=holdout, components=order.k)
    progress(StageChosen(verdict.choice, verdict.text))
    chosen = candidates[verdict.choice]
    return Chosen(
        chosen.name,
        chosen.basis,
        chosen.stage,
        hidden_error=_error_of(verdict),
        hidden_spread=_spread(sample, holdout),
        verdict=verdict.to_dict() | {"said": " ".join(verdict.sentences)},
    )


def _candidates(order: Order) -> dict[str, Candidate]:
    """The stages that may be published, by name, from the cheapest on."""
    names = order.student.stages if order.stage == "auto" else (order.stage,)
    return {name: _candidate(order.student, name) for name in names}


def _candidate(student: Student, name: str) -> Candidate:
    return Candidate(name, student.basis, student.stage(name))


def sample_of(panels: RowPanels, count: int) -> Iterator[Rows]:
    """About so many rows, the first of panels that are spread over the data."""
    number = min(len(panels), _SAMPLED_PANELS)
    spread = np.unique(np.linspace(0, len(panels) - 1, number).round().astype(int)).tolist()
    each = -(-count // len(spread))
    for rows in panels.some(spread):
        yield replace(rows, values=rows.values[:each].copy(), seen=rows.seen[:each].copy())


def _error_of(verdict: Verdict) -> float | None:
    """RMS error of the choice on hidden entries; None where none could be hidden."""
    return verdict[verdict.choice].rmse if verdict.table else None


def _spread(sample: list[Rows], holdout: Holdout) -> float | None:
    """RMS of the hidden entries themselves, which are the errors of the teacher's mean; None of none."""
    hidden = [rows.values[holdout.hidden(rows)] for rows in sample]
    values = np.concatenate(hidden)
    return float(np.sqrt(np.mean(values**2))) if values.size else None
