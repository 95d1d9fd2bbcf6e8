"""The values of an evaluation: a `Setting`, a `Record` of what a way did in it, an `Example` row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MEAN, ORACLE = "column mean", "oracle"  # the ways that bound all others


@dataclass(frozen=True)
class Setting:
    """Which entries of the complete rows are taken away.

    Attributes:
        pattern: of what is seen, as `Masks.parse` has it: "uniform", "blocks" or "columns". share: of the
            entries that is seen. seed: of the mask.

    """

    pattern: str
    share: float
    seed: int

    def __str__(self) -> str:
        return f"{self.pattern}, {100 * self.share:g} % seen, seed {self.seed}"


@dataclass(frozen=True)
class Record:
    """What one way of filling did in one setting.

    Attributes:
        rmse: on the entries taken away, in units of B. recovered: (mean − it)/(mean − oracle) of RMSE.
        coordinate_error: ‖ΔZ‖/‖Z‖ of the k leading coordinates. s_mean, s_worst: of |ŝ − s|/s. angle: the
            largest principal angle to the best directions within the teacher's span, degrees.
        coverage: share of the entries taken away that lie in their 90 % interval; coordinate_coverage: the
            same of coordinates. covered: share of entries within the interval of each of `LEVELS`; empty
            where a way has no intervals.
        seconds_per_million: to fill a million such rows. learning_seconds: that learning from the new data
            took before; training on the teacher's is counted nowhere.
        s: predicted singular values.

    """

    method: str
    setting: Setting
    rmse: float
    recovered: float
    coordinate_error: float
    s_mean: float
    s_worst: float
    angle: float
    coverage: float
    coordinate_coverage: float
    seconds_per_million: float
    learning_seconds: float
    s: tuple[float, ...]
    covered: tuple[float, ...]


@dataclass(frozen=True)
class Example:
    """One row: what it is, what was seen of it, and what some ways made of it; in units of B, (n,) each."""

    setting: Setting
    row: int
    truth: tuple[float, ...]
    seen: tuple[bool, ...]
    filled: Mapping[str, tuple[float, ...]]
