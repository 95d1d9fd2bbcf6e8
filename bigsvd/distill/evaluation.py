"""`Evaluation`: how well a student and its rivals fill complete rows, as values, a table and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bigsvd.distill.records import Example, Record
from bigsvd.distill.table import COLUMNS, Column, aligned


@dataclass(frozen=True)
class Evaluation:
    """The outcome of `evaluate`.

    Attributes:
        records: for every way and setting. left_out: why a way was left out, by its name. k: components that
            count. rows, features: of the complete data. s: their largest singular values; s_whole: whether of
            the rows themselves, or only of their part in the teacher's span. example: one row.
        notes: what a reader has to know besides.

    """

    records: tuple[Record, ...]
    left_out: Mapping[str, str]
    k: int
    rows: int
    features: int
    s: tuple[float, ...]
    s_whole: bool
    example: Example
    notes: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The ways, in the order in which they were tried."""
        return tuple(dict.fromkeys(record.method for record in self.records))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of gaps, in order."""
        return tuple(dict.fromkeys(record.setting.pattern for record in self.records))

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares seen, ascending."""
        return tuple(sorted({record.setting.share for record in self.records}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(sorted({record.setting.seed for record in self.records}))

    def of(self, method: str, pattern: str, share: float) -> list[Record]:
        """The records of one way at one pattern and share, one for each seed."""
        return [
            record
            for record in self.records
            if record.method == method and record.setting.pattern == pattern and record.setting.share == share
        ]

    def values(self, method: str, pattern: str, share: float, measure: str) -> np.ndarray:
        """One measure, for each seed (seeds,)."""
        return np.array([getattr(record, measure) for record in self.of(method, pattern, share)])

    def mean(self, method: str, pattern: str, share: float, measure: str) -> float:
        """The mean of a measure over seeds; NaN where a way has none."""
        return _over_seeds(np.mean, self.values(method, pattern, share, measure))

    def spread(self, method: str, pattern: str, share: float, measure: str) -> float:
        """Half of what lies between the least and the largest value over seeds."""
        return _over_seeds(_half_range, self.values(method, pattern, share, measure))

    @property
    def text(self) -> str:
        """A table for each pattern and share, and what has to be said, for a person."""
        parts = [
            f"{self.rows:,} complete rows of {self.features:,} features, k = {self.k}; "
            f"mean of {len(self.seeds)} seeds ± half their range"
        ]
        for pattern in self.patterns:
            parts += [self._table(pattern, share) for share in self.shares]
        parts += [f"{name} was left out: {why}" for name, why in self.left_out.items()]
        return "\n\n".join([*parts, *self.notes])

    def _table(self, pattern: str, share: float) -> str:
        header = ("", *(column.title for column in COLUMNS))
        methods = [method for method in self.methods if self.of(method, pattern, share)]
        lines = [
            (method, *(self._cell(method, pattern, share, column) for column in COLUMNS))
            for method in methods
        ]
        return f"{pattern}, {100 * share:g} % seen\n{aligned([header, *lines])}"

    def _cell(self, method: str, pattern: str, share: float, column: Column) -> str:
        place = (method, pattern, share, column.measure)
        return column.cell(self.mean(*place), self.spread(*place))

    def to_dict(self) -> dict[str, Any]:
        """JSON values; a measure that a way does not have is null."""
        return {
            "k": self.k,
            "rows": self.rows,
            "features": self.features,
            "s": list(self.s),
            "s_whole": self.s_whole,
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
            "records": [_plain(asdict(record)) for record in self.records],
            "example": _plain(asdict(self.example)),
        }


def _over_seeds(summary: Callable[[np.ndarray], Any], values: np.ndarray) -> float:
    """NaN where there is nothing."""
    if not values.size:
        return float("nan")
    return float(summary(values))


def _half_range(values: np.ndarray) -> float:
    return float(np.ptp(values)) / 2


def _plain(value: Any) -> Any:
    """Values that JSON has: no NaN, no NumPy."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(each) for each in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
