"""The columns of an evaluation's table, and how it is aligned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_TIGHT = 5e-4  # of a mean, below which a spread is not shown


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    title: str
    measure: str
    written: Callable[[float], str]
    with_spread: bool = True

    def cell(self, mean: float, spread: float) -> str:
        """A mean and its spread, as far as there are such."""
        if not np.isfinite(mean):
            return "-"
        if not self.with_spread or spread <= _TIGHT * abs(mean):
            return self.written(mean)
        return f"{self.written(mean)} ± {self.written(spread)}"


def _four(value: float) -> str:
    return f"{value:.4g}"


def _three_digits(value: float) -> str:
    return f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _three(value: float) -> str:
    return f"{value:.3f}"


def _degrees(value: float) -> str:
    return f"{value:.0f}°"


COLUMNS = (
    Column("RMSE", "rmse", _four),
    Column("recovered", "recovered", _percent),
    Column("|dZ|/|Z|", "coordinate_error", _three),
    Column("s mean", "s_mean", _percent),
    Column("s worst", "s_worst", _percent, with_spread=False),
    Column("angle", "angle", _degrees, with_spread=False),
    Column("in 90 %", "coverage", _percent, with_spread=False),
    Column("s / 10^6 rows", "seconds_per_million", _three_digits, with_spread=False),
    Column("learning, s", "learning_seconds", _three_digits, with_spread=False),
)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Cells as text, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    return "\n".join("  ".join(cells).rstrip() for cells in shown)
