"""Which stage predicts new data: what was asked for, or what the gate chooses on their own hidden entries.

Stages that learn from the new data, `map`, `mixture` (its scale) and `adapt`, are judged by what they learn
from a sample without its hidden entries; the one that is chosen learns again from all that was seen.
That is done on the host: rows to judge by are few, and it decides alike whatever device infers the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from bigsvd.distill import adapting
from bigsvd.distill.gate import NETWORK, Candidate, Verdict, judge
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.intervals import interval_scale, ratios, row_deviations
from bigsvd.distill.learners import Learners
from bigsvd.distill.observed import observe
from bigsvd.distill.prior import NAME as MAP
from bigsvd.distill.span import span_of
from bigsvd.events import PhaseStarted, Progress, StageChosen

if TYPE_CHECKING:
    from bigsvd.distill.basis import Basis
    from bigsvd.distill.order import Order
    from bigsvd.distill.panels import RowPanels
    from bigsvd.distill.plan import PredictionPlan
    from bigsvd.distill.rows import Rows
    from bigsvd.distill.stage import Array, Coordinates, Move, Stage

_SAMPLED_PANELS = 16  # from which rows to judge by are taken, at most


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is to infer the coordinates of new data.

    Attributes:
        name: of the stage. basis: whose coordinates it infers. components: k, that are published.
        interval: what standard deviations are multiplied by, so that intervals hold what they say.
        hidden_error, hidden_spread, outside, verdict: see `results.prediction.Prediction`.
        digest: of the rows that decided all this, and of what they decided, which memory has a say in:
            panels that were inferred by others, or in other coordinates, are to be again.

    """

    name: str
    basis: Basis
    stage: Stage
    components: int
    interval: float = 1.0
    hidden_error: float | None = None
    hidden_spread: float | None = None
    outside: str = ""
    verdict: dict[str, Any] | None = None
    digest: int = 0

    def on(self, move: Move) -> Chosen:
        """The same on a device, to which `move` copies arrays: all that it needs there, once."""
        return replace(self, basis=self.basis.moved(move), stage=self.stage.on(move))

    def deviations(self, found: Coordinates) -> Array:
        """The standard deviation of each row's predicted entries, (b,) or (1,), in units of B."""
        return self.interval * row_deviations(self.basis, found, self.components)


def choose(order: Order, panels: RowPanels, plan: PredictionPlan, progress: Progress) -> Chosen:
    """The stage that is asked for, or of all that there are the cheapest within noise of the best."""
    progress(PhaseStarted(f"judging stages on {plan.rows_judged:,} samples"))
    trial = _Trial(list(sample_of(panels, plan)), Holdout(order.seed), order.k)
    judged = Learners(order.student, trial.shown, order.seed)
    candidates = {name: judged.candidate(name, trial.shown) for name in _names(order, plan, judged)}
    verdict = judge(trial.sample, list(candidates.values()), holdout=trial.holdout, components=order.k)
    said = _said(verdict, order)
    progress(StageChosen(verdict.choice, said))
    learners = Learners(order.student, trial.sample, order.seed)
    final = learners.candidate(verdict.choice, _all_rows(panels, plan, progress))
    best = candidates[verdict.choice]
    return Chosen(
        verdict.choice,
        final.basis,
        final.stage,
        order.k,
        interval=trial.interval_scale(best),
        hidden_error=_error_of(verdict),
        hidden_spread=trial.spread,
        outside=_told_of_span(trial.outside(judged.candidate(MAP, trial.shown)), verdict.choice),
        verdict=verdict.to_dict() | {"said": said.rpartition("\n")[2]},
        digest=_digest(trial.digest, final),
    )


@dataclass(frozen=True, eq=False)
class _Trial:
    """Rows of the new data, of which some entries are hidden."""

    sample: list[Rows]
    holdout: Holdout
    components: int

    @cached_property
    def hidden(self) -> list[np.ndarray]:
        """Which entries, batch by batch."""
        return [self.holdout.hidden(rows) for rows in self.sample]

    @cached_property
    def shown(self) -> list[Rows]:
        """The rows without them."""
        return [rows.hide(some) for rows, some in zip(self.sample, self.hidden, strict=True)]

    @property
    def digest(self) -> int:
        """Changes with the rows."""
        crc = 0
        for rows in self.sample:
            crc = google_crc32c.extend(crc, np.ascontiguousarray(rows.values))
        return crc

    @property
    def spread(self) -> float | None:
        """RMS of the hidden entries: the error of the teacher's mean; None where there are none."""
        values = np.concatenate(
            [rows.values[some] for rows, some in zip(self.sample, self.hidden, strict=True)]
        )
        return float(np.sqrt(np.mean(values**2))) if values.size else None

    def outside(self, by_map: Candidate) -> str:
        """What the span alarm says of the teacher's components; empty where nothing is wrong."""
        return span_of(self.sample, by_map.basis, by_map.stage, self.holdout, self.components).outside

    def interval_scale(self, candidate: Candidate) -> float:
        """What makes the deviations of a candidate right on the hidden entries."""
        parts = zip(self.sample, self.hidden, self.shown, strict=True)
        return interval_scale([self._ratios(candidate, *part) for part in parts])

    def _ratios(self, candidate: Candidate, rows: Rows, hidden: np.ndarray, shown: Rows) -> np.ndarray:
        basis, k = candidate.basis, self.components
        found = candidate.stage.infer(observe(basis, shown))
        predicted = found.mean[:, :k] @ basis.V[:, :k].T
        return ratios(rows, hidden, predicted, row_deviations(basis, found, k)[:, None])


def _digest(rows: int, final: Candidate) -> int:
    """Of the digest of rows, and the stage that infers the others: components may move, or not."""
    found = google_crc32c.extend(rows, final.name.encode())
    return int(google_crc32c.extend(found, np.ascontiguousarray(final.basis.V)))


def _names(order: Order, plan: PredictionPlan, judged: Learners) -> tuple[str, ...]:
    """Of the stages that may be published, from the cheapest on."""
    if order.stage != "auto":
        return (order.stage,)
    found = order.candidates(adapts=plan.adapts)
    return found if judged.alike else tuple(name for name in found if name != NETWORK)


def _all_rows(panels: RowPanels, plan: PredictionPlan, progress: Progress) -> Iterator[Rows]:
    """Those of a pass, in batches that the host can infer."""
    facts = panels.source.facts
    for rows in adapting.told(panels, facts.nbytes, panels.samples, progress):
        yield from rows.batches(plan.rows_judged_at_a_time)


def sample_of(panels: RowPanels, plan: PredictionPlan) -> Iterator[Rows]:
    """The rows to judge by: the first of panels that are spread over the data, in batches."""
    number = min(len(panels), _SAMPLED_PANELS)
    spread = np.unique(np.linspace(0, len(panels) - 1, number).round().astype(int)).tolist()
    each = -(-plan.rows_judged // len(spread))
    for rows in panels.some(spread, leading=each):
        yield from rows.batches(plan.rows_judged_at_a_time)


def _told_of_span(alarm: str, choice: str) -> str:
    """The alarm; of components that have moved, which nobody has looked at, that they have."""
    if alarm and choice == adapting.NAME:
        return "the data leave the teacher's span: components were moved to them, an SVD would be surer"
    return alarm


def _said(verdict: Verdict, order: Order) -> str:
    """The table, and in its last line why that stage."""
    if order.stage != "auto":
        return f"{verdict.sentences[0]} Stage {order.stage} was asked for."
    table = verdict.text.split("\n")[: -len(verdict.sentences)]
    return "\n".join([*table, " ".join(verdict.sentences)])


def _error_of(verdict: Verdict) -> float | None:
    """RMS error of the choice on hidden entries; None where none could be hidden."""
    return verdict[verdict.choice].rmse if verdict.table else None
