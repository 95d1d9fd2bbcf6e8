"""One problem of `distill`: its teacher, its student, and what fills its new rows, each judged alike.

Ways of filling see the new rows with their gaps, in units of the teacher's B. Beside them stands what
`predict` publishes, with the stage that the gate chose for it; that is read back from its store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import bigsvd
from benchmarks.distill_data import Gaps, Problem
from bigsvd.distill.baselines import Baseline
from bigsvd.distill.fitting import fit
from bigsvd.distill.measures import Truth, singular_value_errors
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.predicting import predict
from bigsvd.distill.records import Record, Setting
from bigsvd.distill.rows import Rows
from bigsvd.distill.student import Student
from bigsvd.distill.trial import Trial
from bigsvd.results.factors import Factors
from bigsvd.sources.open import open_source

PUBLISHED = "published"
_PANEL_ROWS = 512
_NINETY = 1.6448536269514722  # half the width of a normal interval that covers 90 %, in standard deviations
_MEMORY_BYTES = 2**30
_KEPT = ("rmse", "recovered", "coordinate_error", "s_mean", "s_worst", "coverage")


@dataclass(frozen=True, eq=False)
class Lab:
    """A student of a problem's training rows, and the new rows.

    Attributes:
        folder: where it may write. fit_seconds: that learning took.

    """

    problem: Problem
    folder: Path
    seed: int
    student: Student
    fit_seconds: float

    @classmethod
    def of(cls, problem: Problem, folder: Path, seed: int, **options: Any) -> Lab:
        """Decompose the training rows, and learn."""
        source, teacher = folder / "training.zarr", folder / "teacher"
        zarr.create_array(source, data=problem.training, chunks=(_PANEL_ROWS, problem.training.shape[1]))
        gaps: dict[str, Any] = {"missing": "mean"} if np.isnan(problem.training).any() else {}
        bigsvd.svd(source, problem.wide, teacher, center=True, **gaps)
        start = time.perf_counter()
        student = fit(teacher, folder / "student", components=problem.wide, seed=seed, **options)
        return cls(problem, folder, seed, student, time.perf_counter() - start)

    @cached_property
    def known(self) -> np.ndarray:
        """The training rows in units of B, (m, n), 0 where the data have none."""
        rows = self.problem.training[:, self.features] - np.asarray(self.student.standard.mean)
        return np.asarray(np.nan_to_num(rows))

    @cached_property
    def complete(self) -> tuple[Rows, ...]:
        """The new rows, whole, in units of B."""
        panels = RowPanels(open_source(self.problem.new, missing="mean"), self.student.standard, _PANEL_ROWS)
        return tuple(panels)

    @cached_property
    def truth(self) -> Truth:
        """Their coordinates and singular values."""
        return Truth.of(self.student.basis, self.problem.k, self.complete, _MEMORY_BYTES)

    @property
    def features(self) -> np.ndarray:
        """Which features of the data the rows of B have, (n,) indices."""
        ids = self.student.standard.ids
        return np.arange(self.problem.new.shape[1]) if ids is None else np.asarray(ids)

    def seen(self, gaps: Gaps) -> np.ndarray:
        """(p, n) bool, of the features of B."""
        rows = len(self.problem.new)
        return gaps.seen(self.seed, rows, self.problem.shape)[:, self.features]

    def trial(self, seen: np.ndarray) -> Trial:
        """What ways of filling are tried on."""

        def drawn(setting: Setting, rows: Rows) -> np.ndarray:
            del setting
            return seen[rows.start : rows.start + len(rows)]

        return Trial(lambda: iter(self.complete), self.truth, drawn)

    def tried(self, seen: np.ndarray, baselines: Sequence[Baseline], name: str) -> list[dict[str, Any]]:
        """A row for each way, and for what is published; the first way has to be the column mean."""
        records = self.trial(seen).records(Setting(name, float(seen.mean()), self.seed), baselines)
        return [self._row(record, name) for record in records]

    def _row(self, record: Record, name: str) -> dict[str, Any]:
        kept = {measure: getattr(record, measure) for measure in _KEPT}
        finite = {measure: value if np.isfinite(value) else None for measure, value in kept.items()}
        filling = record.seconds_per_million * len(self.problem.new) / 1e6
        seconds = record.learning_seconds + filling
        return self.labelled(name, record.method) | finite | {"seconds": seconds}

    def labelled(self, setting: str, method: str) -> dict[str, Any]:
        """What every row begins with."""
        return {"problem": self.problem.name, "setting": setting, "seed": self.seed, "method": method}

    def published(self, seen: np.ndarray, name: str) -> dict[str, Any]:
        """What `predict` publishes of the rows with gaps, read back from its store."""
        data = self.with_gaps(seen)
        start = time.perf_counter()
        factors = predict(
            self.student, data, self.folder / "predicted", k=self.problem.k, seed=self.seed, overwrite=True
        )
        seconds = time.perf_counter() - start
        told = factors.info()["predicted"]
        said = (told["verdict"] or {}).get("said", "")
        what = {"seconds": seconds, "stage": told["stage"], "outside": told["outside"], "said": said}
        return self.labelled(name, PUBLISHED) | self._measured(factors, seen) | what

    def with_gaps(self, seen: np.ndarray) -> np.ndarray:
        """The new rows in units of the data, NaN where nothing is seen."""
        data = np.full(self.problem.new.shape, np.nan)
        data[:, self.features] = np.where(seen, self.problem.new[:, self.features], np.nan)
        return data

    def _measured(self, factors: Factors, seen: np.ndarray) -> dict[str, Any]:
        """Errors of a published store, in units of B."""
        truth, basis = self.truth, self.student.basis
        values = np.vstack([rows.values for rows in self.complete])
        hidden = np.vstack([rows.seen for rows in self.complete]) & ~seen
        V = np.asarray(factors.Vt, dtype=np.float64)[:, self.features]
        found = (np.asarray(factors.U, dtype=np.float64) * factors.s) @ V
        z, exact = (rows @ basis.V[:, : truth.k] for rows in (found, values))
        s_mean, s_worst = singular_value_errors(np.asarray(factors.s), truth.s)
        off = np.abs(found - values) / np.asarray(factors.uncertainty)[:, None]
        return {
            "rmse": float(np.sqrt(np.mean((found - values)[hidden] ** 2))),
            "coordinate_error": float(np.linalg.norm(z - exact) / np.linalg.norm(exact)),
            "s_mean": s_mean,
            "s_worst": s_worst,
            "coverage": float(np.mean(off[hidden] <= _NINETY)),
        }


def recovered(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of one seed and setting, each with the share of (mean − oracle) that it recovers."""
    by_method = {row["method"]: row["rmse"] for row in rows}
    worst, best = by_method["column mean"], by_method["oracle"]
    for row in rows:
        yield row | {"recovered": (worst - row["rmse"]) / (worst - best)}
