"""Every way of filling, in every setting, on the same complete rows with the same entries taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bigsvd.distill.baselines import Baseline, ByStage, Filler, Panels, complete_coordinates, oracle
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.intervals import interval_scale
from bigsvd.distill.measures import Tally, Truth, ratio, singular_value_errors
from bigsvd.distill.records import MEAN, ORACLE, Example, Record, Setting
from bigsvd.distill.rows import Rows

Drawn = Callable[[Setting, Rows], np.ndarray]  # which entries of complete rows are seen, (b, n) bool
_MILLION = 1_000_000
_CALIBRATING = 4  # panels on which intervals are
_HIDDEN = 2**22  # a seed that no other use of hidden entries has


@dataclass(frozen=True, eq=False)
class Trial:
    """What is measured on.

    Attributes:
        complete: the complete rows, as often as they are asked for. truth: what they are. drawn: the masks.

    """

    complete: Panels
    truth: Truth
    drawn: Drawn

    def incomplete(self, setting: Setting) -> Panels:
        """The rows as somebody has them to whom they are new."""

        def panels() -> Iterator[Rows]:
            for rows in self.complete():
                yield rows.hide(~self.drawn(setting, rows))

        return panels

    def records(self, setting: Setting, baselines: Sequence[Baseline]) -> list[Record]:
        """What each way did, and the oracle at last; the first has to be the column mean."""
        new = self.incomplete(setting)
        fitted = [_timed(baseline, new) for baseline in baselines]
        fillers = [filler for filler, _ in fitted] + [oracle(self.truth.basis, self.truth.k)]
        tallies = [
            Tally(self.truth.basis.V, self.truth.k, interval_scale_of(filler, new)) for filler in fillers
        ]
        for complete in self.complete():
            self._count(setting, complete, fillers, tallies)
        names = [*(baseline.name for baseline in baselines), ORACLE]
        for tally, (_, seconds) in zip(tallies, fitted, strict=False):
            tally.learning_seconds = seconds
        return self._compared(setting, dict(zip(names, tallies, strict=True)))

    def _count(
        self, setting: Setting, complete: Rows, fillers: Sequence[Filler], tallies: Sequence[Tally]
    ) -> None:
        shown = complete.hide(~self.drawn(setting, complete))
        hidden = complete.seen & ~shown.seen
        z = complete_coordinates(self.truth.basis.V, complete)
        for filler, tally in zip(fillers, tallies, strict=True):
            rows = complete if filler is fillers[-1] else shown
            start = time.perf_counter()
            filled = filler.fill(rows)
            tally.add(complete, hidden, filled, z, time.perf_counter() - start)

    def _compared(self, setting: Setting, tallies: dict[str, Tally]) -> list[Record]:
        best, mean = tallies[ORACLE].rmse, tallies[MEAN].rmse
        recovered = {name: ratio(mean - tally.rmse, mean - best) for name, tally in tallies.items()}
        return [self._record(name, setting, tally, recovered[name]) for name, tally in tallies.items()]

    def _record(self, name: str, setting: Setting, tally: Tally, recovered: float) -> Record:
        s_mean, s_worst = singular_value_errors(tally.s, self.truth.s)
        return Record(
            method=name, setting=setting, rmse=tally.rmse, recovered=recovered,
            coordinate_error=tally.coordinate_error, s_mean=s_mean, s_worst=s_worst,
            angle=tally.angle(self.truth), coverage=tally.within.ninety,
            coordinate_coverage=tally.coordinates_within.ninety,
            learning_seconds=tally.learning_seconds,
            seconds_per_million=ratio(_MILLION * tally.seconds, tally.rows), s=tuple(tally.s.tolist()),
            covered=tally.within.shares,
        )  # fmt: skip

    def example(self, setting: Setting, baselines: Sequence[Baseline], names: Sequence[str]) -> Example:
        """The middle row of the first panel, filled by the ways of these names and by the oracle."""
        new = self.incomplete(setting)
        complete = next(iter(self.complete()))
        shown = complete.hide(~self.drawn(setting, complete))
        place = len(complete) // 2
        filled = {each.name: each.fit(new).fill(shown).entries for each in baselines if each.name in names}
        filled[ORACLE] = oracle(self.truth.basis, self.truth.k).fill(complete).entries
        return Example(
            setting,
            complete.start + place,
            tuple(complete.values[place].tolist()),
            tuple(shown.seen[place].tolist()),
            {name: tuple(entries[place].tolist()) for name, entries in filled.items()},
        )


def interval_scale_of(filler: Filler, new: Panels) -> float:
    """What makes its standard deviations right on hidden entries of the new data, of some panels of them."""
    if not isinstance(filler, ByStage):
        return 1.0  # no other way tells how sure it is
    holdout, found = Holdout(_HIDDEN), []
    for rows in islice(new(), _CALIBRATING):
        hidden = holdout.hidden(rows)
        found.append(filler.fill(rows.hide(hidden)).ratios(rows, hidden))
    return interval_scale(found)


def _timed(baseline: Baseline, new: Panels) -> tuple[Filler, float]:
    start = time.perf_counter()
    return baseline.fit(new), time.perf_counter() - start
