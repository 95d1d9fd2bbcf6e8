"""The gate: which stage is worth its cost, judged on hidden entries of the new data themselves.

It is the only evidence there is of new data, and it is free. Every stage answers for the same panels with the
same entries hidden; the cheapest that is within noise of the best is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from statistics import NormalDist
from typing import Any

import numpy as np

from bigsvd.distill.basis import Basis
from bigsvd.distill.holdout import Holdout, pattern_of
from bigsvd.distill.observed import Observed, observe
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Stage

NETWORK = "network"
_RESAMPLES = 2000  # of the rows
_RISK = 0.01  # that the network is taken for better than the best of the others, by chance
_RISK_OF_CLOSED = 0.25  # the same of closed forms, of which one costs hardly more than another
# Stages that may do worse than what they show on few rows: the risk, and the part of the RMSE to be gained.
_BOLD = {"adapt": (_RISK_OF_CLOSED, 0.02), NETWORK: (_RISK, 0.0)}
_FEWEST_ROWS = 5  # with hidden entries: of fewer no spread can be told
_BATCH = 256  # rows whose weights in all resamples are held at a time
_AS_THEY_LIE = {
    "single": "singly, as the gaps lie",
    "blocks": "in blocks, as the gaps lie",
    "columns": "in whole columns, as the gaps lie",
}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A stage that may be published: what it is called, and the basis whose coordinates it infers.

    A stage that has learnt from the new data, such as `map` or a basis that `adapt` has moved, must have seen
    none of what is hidden: let it learn from ``rows.hide(holdout.hidden(rows))``.
    """

    name: str
    basis: Basis
    stage: Stage


@dataclass(frozen=True)
class Scored:
    """A stage's error on the hidden entries.

    Attributes:
        rmse: in units of B. excess: of its RMSE above that of the choice, as a share; negative where it is
            better. low, high: bounds of `excess`, with a risk of 1 % on either side, shared by all stages.

    """

    name: str
    rmse: float
    excess: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes:
        choice: the name of the stage to publish. table: the stages, from the cheapest on; empty where nothing
            could be hidden. hidden: number of hidden entries. seen: of those seen, hidden ones included.
        rows: in which at least one was hidden. pattern: how they lie, see `pattern_of`.

    """

    choice: str
    table: tuple[Scored, ...]
    hidden: int
    seen: int
    rows: int
    pattern: str

    def __getitem__(self, name: str) -> Scored:
        """The row of a stage; KeyError where it was not judged."""
        return {row.name: row for row in self.table}[name]

    @property
    def network_helped(self) -> bool:
        """Whether the network is better than every cheaper stage by more than noise."""
        return self.choice == NETWORK

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict in plain words."""
        if not self.table:
            return (
                f"No entry of the new data could be hidden, so nothing is known of any stage there: "
                f"{self.choice} is published because it is the cheapest.",
            )
        return (self._evidence, self._chosen, *self._network)

    @property
    def _evidence(self) -> str:
        said = (
            f"{self.hidden:,} of {self.seen:,} entries seen were hidden in {self.rows:,} rows, "
            f"{_AS_THEY_LIE[self.pattern]}."
        )
        if self.rows < _FEWEST_ROWS:
            said += f" Fewer than {_FEWEST_ROWS} rows tell no noise: the cheapest stage is chosen."
        return said

    @property
    def _chosen(self) -> str:
        best = min(self.table, key=lambda row: row.rmse)
        own = f"{self.choice} is chosen, with RMSE {self[self.choice].rmse:.4g}"
        if best.name == self.choice:
            return f"{own}, the least of all."
        return f"{own}: it is the cheapest within noise of the best, {best.name} with {best.rmse:.4g}."

    @property
    def _network(self) -> tuple[str, ...]:
        """What is to be said of the network, where there is one."""
        judged = {row.name: row for row in self.table}
        cheaper = [row for row in self.table if row.name != NETWORK]
        if NETWORK not in judged or not cheaper:
            return ()
        network, rival = judged[NETWORK], min(cheaper, key=lambda row: row.rmse)
        gain = 1 - network.rmse / rival.rmse if rival.rmse else 0.0
        beside = f"its RMSE is {network.rmse:.4g} beside {rival.rmse:.4g} of {rival.name}"
        if self.network_helped:
            return (f"The network helped: {beside}, {100 * gain:.1f} % less, which is more than noise.",)
        if gain > 0:
            return (f"The network did not help: {beside}, which is within noise of {self.choice}.",)
        return (f"The network did not help: {beside}.",)

    @property
    def text(self) -> str:
        """The table and the sentences, for a person."""
        lines = (
            [f"{'stage':<10} {'RMSE':>10} {'beside the choice':>18}   99 % interval"] if self.table else []
        )
        for row in self.table:
            interval = f"{100 * row.low:+.2f} … {100 * row.high:+.2f} %"
            mark = "   <- chosen" if row.name == self.choice else ""
            lines.append(f"{row.name:<10} {row.rmse:>10.4g} {100 * row.excess:>+16.2f} %   {interval}{mark}")
        return "\n".join([*lines, *self.sentences])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"table": [asdict(row) for row in self.table]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Verdict:
        """The inverse of `to_dict`."""
        return cls(**{**values, "table": tuple(Scored(**row) for row in values["table"])})


@dataclass(frozen=True, eq=False)
class _Sums:
    """Over rows: squared errors of S stages (S,) and entries; both in each of R resamples (S, R), (R,)."""

    squares: np.ndarray
    resampled: np.ndarray
    entries: int
    entries_resampled: np.ndarray
    seen: int
    rows: int
    patterns: tuple[str, ...]

    def __add__(self, other: _Sums) -> _Sums:
        names = self.__dataclass_fields__
        return _Sums(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def mean_squares(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the rows (S,), and of their resamples (S, R); one without any entry is as the rows are."""
        mean = self.squares / self.entries
        resampled = self.resampled / np.maximum(1, self.entries_resampled)
        return mean, np.where(self.entries_resampled > 0, resampled, mean[:, None])


def judge(
    panels: Iterable[Rows],
    candidates: Sequence[Candidate],
    *,
    holdout: Holdout,
    components: int | None = None,
) -> Verdict:
    """Hide entries of the new data, score every candidate on them, and choose.

    The cheapest closed form is chosen that is not worse than the best of them by more than noise, and the
    network where it is better than that by more than noise, which it has to show with more certainty. Noise
    is told by a paired bootstrap over rows (Efron & Tibshirani 1993, ch. 13): the same rows, drawn again for
    all stages at once.

    Args:
        panels: rows of the new data, as they were seen, in the memory of the host.
        candidates: from the cheapest on; at least one.
        holdout: which of the entries are hidden.
        components: how many of the leading ones are published; all by default.

    """
    parts = (_panel_sums(rows, candidates, holdout, components) for rows in panels)
    found = reduce(_Sums.__add__, parts, _empty(len(candidates)))
    pattern = max(sorted({*found.patterns}), key=found.patterns.count, default="single")
    if not found.entries:
        return Verdict(candidates[0].name, (), 0, found.seen, 0, pattern)
    mean, resampled = found.mean_squares()
    chosen = _chosen([each.name for each in candidates], mean, resampled, found.rows)
    table = _table([each.name for each in candidates], chosen, mean, resampled, found.rows)
    return Verdict(candidates[chosen].name, table, found.entries, found.seen, found.rows, pattern)


def _empty(stages: int) -> _Sums:
    return _Sums(np.zeros(stages), np.zeros((stages, _RESAMPLES)), 0, np.zeros(_RESAMPLES), 0, 0, ())


def _panel_sums(
    rows: Rows, candidates: Sequence[Candidate], holdout: Holdout, components: int | None
) -> _Sums:
    hidden = holdout.hidden(rows)
    errors, counts = squared_errors(rows, hidden, candidates, components), np.sum(hidden, axis=1)
    told = counts > 0
    found = reduce(_Sums.__add__, _parts(errors[:, told], counts[told], holdout.seed, rows.start))
    seen = np.asarray(rows.seen)
    return replace(found, seen=int(np.sum(seen)), patterns=(pattern_of(seen),))


def _parts(errors: np.ndarray, counts: np.ndarray, seed: int, start: int) -> Iterator[_Sums]:
    """The sums over a batch of rows after the other, drawn again by numbers of the panel's own."""
    yield _empty(len(errors))
    random = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 2, start]))
    for first in range(0, len(counts), _BATCH):
        some = slice(first, first + _BATCH)
        yield _resampled(errors[:, some], counts[some], random)


def _resampled(errors: np.ndarray, counts: np.ndarray, random: np.random.Generator) -> _Sums:
    """Each row is in a resample as often as a Poisson number says, which of many rows is drawing with return.

    Panels then need not know of each other (Chamandy et al. 2012, "Estimating uncertainty for massive data
    streams").
    """
    often = random.poisson(1.0, (len(counts), _RESAMPLES)).astype(np.float64)
    return _Sums(
        np.sum(errors, axis=1), errors @ often, int(np.sum(counts)), counts @ often, 0, len(counts), ()
    )


def squared_errors(
    rows: Rows, hidden: np.ndarray, candidates: Sequence[Candidate], components: int | None = None
) -> np.ndarray:
    """Σ (x − x̂)² over the hidden entries of each row, in units of B, (stages, b).

    Every stage sees what is left; candidates that share a basis share what follows from it.
    """
    if not np.any(hidden):
        return np.zeros((len(candidates), len(rows)))
    shown = rows.hide(hidden)
    bases = {id(each.basis): each.basis for each in candidates}
    observed = {key: observe(basis, shown) for key, basis in bases.items()}
    predicted = (_entries(each, observed[id(each.basis)], components) for each in candidates)
    return np.array([np.sum(((rows.values - found) * hidden) ** 2, axis=1) for found in predicted])


def _entries(candidate: Candidate, observed: Observed, components: int | None) -> np.ndarray:
    """Every entry of the rows as predicted, (b, n)."""
    k = components or candidate.basis.r
    z = np.asarray(candidate.stage.infer(observed).mean)[:, :k]
    return np.asarray(z @ candidate.basis.V[:, :k].T)


def _chosen(names: Sequence[str], mean: np.ndarray, resampled: np.ndarray, rows: int) -> int:
    """The number of the stage to publish: a posterior in closed form, unless others are surely better.

    Components that move, and the network, are more than another prior: each has to be better than what was
    chosen before it.
    """
    places = {name: place for place, name in enumerate(names)}
    closed = [place for name, place in places.items() if name not in _BOLD] or [0]
    best = closed[_cheapest(mean[closed], resampled[closed], rows, _RISK_OF_CLOSED)]
    for name, (risk, gain) in _BOLD.items():
        if name in places and places[name] != best:
            both = [best, places[name]]
            better = bool(np.sqrt(mean[both[1]]) <= (1 - gain) * np.sqrt(mean[best]))
            best = both[better * _cheapest(mean[both], resampled[both], rows, risk)]
    return best


def _cheapest(mean: np.ndarray, resampled: np.ndarray, rows: int, risk: float) -> int:
    """The number of the first stage that is not worse than the best by more than noise."""
    if rows < _FEWEST_ROWS:
        return 0
    best = int(np.argmin(mean))
    for place in range(best):
        low, _ = _bounds(mean[place] - mean[best], resampled[place] - resampled[best], len(mean), rows, risk)
        if low <= 0:
            return place
    return best


def _bounds(
    value: float, resampled: np.ndarray, stages: int, rows: int, risk: float = _RISK
) -> tuple[float, float]:
    """Bounds that hold for all stages at once: each has its part of the risk (Bonferroni).

    Resamples of few rows vary less than rows do: their deviations are widened as Student's t is.
    """
    each = risk / max(1, stages - 1)
    low, high = value + _widening(each, rows) * (np.quantile(resampled, [each, 1 - each]) - value)
    return float(low), float(high)


def _widening(risk: float, rows: int) -> float:
    """Student's t by the normal quantile (Abramowitz & Stegun 1964, 26.7.5), and n/(n − 1) of variance."""
    z, free = NormalDist().inv_cdf(1 - risk), max(1, rows - 1)
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return float(t / z * np.sqrt((free + 1) / free))


def _table(
    names: Sequence[str], chosen: int, mean: np.ndarray, resampled: np.ndarray, rows: int
) -> tuple[Scored, ...]:
    rmse, again = np.sqrt(mean), np.sqrt(resampled)
    own, found = max(float(rmse[chosen]), np.finfo(float).tiny), []
    for place, name in enumerate(names):
        excess = float(rmse[place] - rmse[chosen]) / own
        low, high = _bounds(excess, (again[place] - again[chosen]) / own, len(names), rows)
        found.append(Scored(name, float(rmse[place]), excess, low, high))
    return tuple(found)
