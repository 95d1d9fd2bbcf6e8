"""What a benchmark was to show, and what it showed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """One promise in words, the limit, what was measured, and whether it holds."""

    what: str
    bar: str
    measured: str
    met: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def at_most(what: str, values: Sequence[float], limit: float, form: str = "{:.4f}") -> Bar:
    """The mean over seeds is no more."""
    return Bar(what, f"≤ {form.format(limit)}", _shown(values, form), bool(values) and fmean(values) <= limit)


def at_least(what: str, values: Sequence[float], limit: float, form: str = "{:.4f}") -> Bar:
    """The mean over seeds is no less."""
    return Bar(what, f"≥ {form.format(limit)}", _shown(values, form), bool(values) and fmean(values) >= limit)


def within(what: str, values: Sequence[float], low: float, high: float, form: str = "{:.3f}") -> Bar:
    """The mean over seeds lies between."""
    met = bool(values) and low <= fmean(values) <= high
    return Bar(what, f"{form.format(low)} to {form.format(high)}", _shown(values, form), met)


def worst_at_most(what: str, values: Sequence[float], limit: float, form: str = "{:.1%}") -> Bar:
    """No seed has more."""
    worst = max(values, default=float("inf"))
    return Bar(what, f"≤ {form.format(limit)}", form.format(worst), worst <= limit)


def worst_at_least(what: str, values: Sequence[float], limit: float, form: str = "{:.1%}") -> Bar:
    """No seed has less."""
    worst = min(values, default=float("-inf"))
    return Bar(what, f"≥ {form.format(limit)}", form.format(worst), worst >= limit)


def holds(what: str, bar: str, found: Sequence[bool]) -> Bar:
    """It is so for every seed."""
    return Bar(what, bar, f"{sum(found)} of {len(found)} seeds", bool(found) and all(found))


def _shown(values: Sequence[float], form: str) -> str:
    if not values:
        return "not measured"
    mean = form.format(fmean(values))
    return mean if len(values) < 2 else f"{mean} ± {form.format(stdev(values))}"


def picked(rows: Sequence[Row], problem: str, setting: str, method: str) -> list[Row]:
    """One row for each seed, in their order."""
    wanted = (problem, setting, method)
    found = [row for row in rows if (row["problem"], row["setting"], row["method"]) == wanted]
    return sorted(found, key=lambda row: int(row["seed"]))


def values(rows: Sequence[Row], problem: str, setting: str, method: str, measure: str) -> list[float]:
    """One measure, for each seed that has it."""
    found = [row.get(measure) for row in picked(rows, problem, setting, method)]
    return [value for value in found if value is not None]


def ratios(
    rows: Sequence[Row], problem: str, setting: str, methods: tuple[str, str], measure: str = "rmse"
) -> list[float]:
    """A measure of one way over that of another, by seed."""
    one, other = (values(rows, problem, setting, method, measure) for method in methods)
    return [first / second for first, second in zip(one, other, strict=True)]


def settings(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Each problem with each of its settings, in order."""
    return list(dict.fromkeys((row["problem"], row["setting"]) for row in rows))
