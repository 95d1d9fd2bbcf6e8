"""Which stage predicts new data: what was asked for, or what the gate chooses on their own hidden entries.

Stages that learn from the new data, `map`, `mixture` (its scale) and `adapt`, are judged by what they learn
from a sample without its hidden entries; the one that is chosen learns again from all that was seen.
That is done on the host: rows to judge by are few, and it decides alike whatever device infers the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from bigsvd.distill import adapting, prior
from bigsvd.distill.gate import Candidate, Verdict, judge
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.intervals import interval_scale, ratios, row_deviations
from bigsvd.distill.observed import observe
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
_ALIKE = 2.0  # times more or less variance than the teacher's: of other data a network was taught nothing


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is to infer the coordinates of new data.

    Attributes:
        name: of the stage. basis: whose coordinates it infers. components: k, that are published.
        interval: what standard deviations are multiplied by, so that intervals hold what they say.
        hidden_error, hidden_spread, outside, verdict: see `results.prediction.Prediction`.
        digest: of the rows that decided all this: panels that were inferred by others are to be again.

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
    judged = _Learners(order, plan, trial.shown)
    candidates = {name: judged.candidate(name) for name in judged.names}
    verdict = judge(trial.sample, list(candidates.values()), holdout=trial.holdout, components=order.k)
    said = _said(verdict, order)
    progress(StageChosen(verdict.choice, said))
    final = _Learners(order, plan, trial.sample).refitted(verdict.choice, panels, progress)
    best = candidates[verdict.choice]
    return Chosen(
        verdict.choice,
        final.basis,
        final.stage,
        order.k,
        interval=trial.interval_scale(best),
        hidden_error=_error_of(verdict),
        hidden_spread=trial.spread,
        outside=_told_of_span(trial.outside(judged.candidate(prior.NAME)), verdict.choice),
        verdict=verdict.to_dict() | {"said": said.rpartition("\n")[2]},
        digest=trial.digest,
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


class _Learners:
    """The stages of a prediction, and how each comes to be of some rows of the new data."""

    def __init__(self, order: Order, plan: PredictionPlan, rows: Sequence[Rows]) -> None:
        self._order = order
        self._plan = plan
        self._rows = rows
        self._basis = order.student.basis

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that may be published, from the cheapest on."""
        if self._order.stage != "auto":
            return (self._order.stage,)
        found = self._order.candidates(adapts=self._plan.adapts)
        return found if self._alike else tuple(name for name in found if name != "network")

    @cached_property
    def _prior(self) -> prior.Reestimate:
        return prior.fit_prior(self._basis, self._rows, self._order.seed)

    @property
    def _alike(self) -> bool:
        """Whether coordinates vary about as much as the teacher's."""
        scale = float(np.mean(np.diag(self._prior.prior) / self._basis.prior))
        return 1 / _ALIKE <= scale <= _ALIKE

    def candidate(self, name: str) -> Candidate:
        """A stage, which has seen no more than the rows."""
        if name == adapting.NAME:
            return self._adapted(self._rows)
        return Candidate(name, self._basis, self._stage(name))

    def refitted(self, name: str, panels: RowPanels, progress: Progress) -> Candidate:
        """The stage to publish; components move by a pass over all rows."""
        if name != adapting.NAME:
            return self.candidate(name)
        return self._adapted(adapting.told(panels, panels.source.facts.nbytes, panels.samples, progress))

    def _stage(self, name: str) -> Stage:
        if name == prior.NAME:
            return self._prior.stage
        if name == "mixture":
            return self._mixture
        return self._order.student.stage(name)

    @property
    def _mixture(self) -> Stage:
        """As the teacher's coordinates lie, or moved to the new data's scale where that pays."""
        as_it_was = self._order.student.mixture
        moved = as_it_was.moved(self._prior.prior)
        return prior.first_of_best((as_it_was, moved), self._basis, self._rows, self._order.seed)

    def _adapted(self, every: Iterable[Rows]) -> Candidate:
        stage = self._prior.stage
        kappa = adapting.kappa_of(self._basis, stage, self._rows, self._order.seed)
        batches = (part for rows in every for part in rows.batches(self._plan.rows_judged_at_a_time))
        moved = adapting.moved_by(self._basis, stage, batches, kappa)
        return Candidate(adapting.NAME, moved, adapting.ridge_of(moved))


def sample_of(panels: RowPanels, plan: PredictionPlan) -> Iterator[Rows]:
    """The rows to judge by: the first of panels that are spread over the data, in batches."""
    number = min(len(panels), _SAMPLED_PANELS)
    spread = np.unique(np.linspace(0, len(panels) - 1, number).round().astype(int)).tolist()
    each = -(-plan.rows_judged // len(spread))
    for rows in panels.some(spread):
        first = replace(rows, values=rows.values[:each].copy(), seen=rows.seen[:each].copy())
        yield from first.batches(plan.rows_judged_at_a_time)


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
