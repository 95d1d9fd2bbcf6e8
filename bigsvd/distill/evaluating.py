"""`evaluate`: how well a student fills complete rows that its teacher has not seen, beside every baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.distill.baselines import Panels, complete_coordinates, stacked, too_large
from bigsvd.distill.drawing import Drawing
from bigsvd.distill.evaluation import Evaluation
from bigsvd.distill.lines import components
from bigsvd.distill.measures import Truth
from bigsvd.distill.order import Order, order_of
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.records import MEAN, Record, Setting
from bigsvd.distill.rivals import (
    Rivals,
    by_memory,
    of_student,
    stages_of,
    verdict_of,
    without_memory,
    without_teacher,
)
from bigsvd.distill.student import Student
from bigsvd.distill.teacher import Material
from bigsvd.distill.trial import Trial
from bigsvd.distill.unseen import count_known, refuse_selected
from bigsvd.errors import FactorStoreError, OutputExistsError, RequestError, TeacherError
from bigsvd.events import PhaseStarted, Progress, unheard
from bigsvd.floats import silent
from bigsvd.machine.offers import budget_here
from bigsvd.request import check_integer, parse_bytes

SHARES = (0.05, 0.1, 0.3, 0.5)
SEEDS = (0, 1, 2)
_PANEL_ROWS = 256
_HELD_SHARE = 0.25  # of the budget, in which complete rows are held between passes where they fit
_EXAMPLE_SHARE = 0.1  # seen: the example and the gate's verdict are of the share that comes closest to it
_OF_A_PREDICTION = ("adapt", "device", "seed", "stage")  # what `order_of` takes and no evaluation heeds
_SHOWN = (MEAN, "ridge", "map", "mixture", "kernel regression", "network")  # ways that the example shows


@silent
def evaluate(
    student: Student | str | Path,
    complete: Any,
    *,
    shares: Sequence[float] = SHARES,
    patterns: Sequence[str] = ("uniform",),
    seeds: Sequence[int] = SEEDS,
    k: int | None = None,
    out: str | Path | None = None,
    source: Any = None,
    sample_shape: tuple[int, ...] | None = None,
    memory: int | str | None = None,
    overwrite: bool = False,
    progress: Progress = unheard,
    **reading: Any,
) -> Evaluation:
    """Take entries away from complete rows, let every way fill them, and compare with what they were.

    All ways fill the same rows with the same entries taken away: for each pattern, share and seed.

    Args:
        student: a `Student`, or the path of one.
        complete: rows that the teacher has not seen, opened as `svd` opens any data.
        shares: of the entries that are seen, each in 0..1.
        patterns: how they lie: "uniform" (one by one), "columns" (the same in all rows), "blocks:LENGTH" or
            "blocks:HxW" (whole blocks of neighbouring features).
        seeds: of the masks.
        k: components that count; half of the student's where it is None.
        out: folder for the table, JSON and plots; nothing is written where it is None.
        source: the data of the teacher, where they are not where they were: kernel regression and a plain
            network learn from them.
        sample_shape: the lengths of the axes of a sample, for the plot of an example; by default those that
            features were stacked of.
        memory: bytes that may be held. What cannot be streamed and does not fit is left out, and said so.
        overwrite: write into a folder that holds something.
        progress: called with each `bigsvd.events.Event`.
        reading: rows, mask, missing, missing_value, decode, samples and others, as `predict` has them.

    Raises:
        TeacherError: the teacher has seen these rows. ColumnsError: they have other features.
        RequestError: a pattern or share means nothing. OutputExistsError: `out` holds something.

    """
    _refuse_idle(reading)
    order = order_of(student, complete, k=k, **reading)
    settings = _settings(patterns, shares, seeds)
    folder = None if out is None else _folder(Path(out), overwrite=overwrite)
    budget = budget_here() if memory is None else parse_bytes(memory)
    found = _Evaluating(order, source, budget, settings, progress).evaluation()
    if folder is not None:
        write_evaluation(found, folder, sample_shape or order.student.columns.shape)
    return found


def _refuse_idle(reading: Mapping[str, Any]) -> None:
    """`RequestError` for what only a prediction is asked."""
    for name in _OF_A_PREDICTION:
        if name in reading:
            raise RequestError(f"{name} has no effect on an evaluation: all stages are tried", "leave it out")


def _settings(patterns: Sequence[str], shares: Sequence[float], seeds: Sequence[int]) -> tuple[Setting, ...]:
    for seed in seeds:
        check_integer("seed", seed, 0)
    for share in shares:
        if not 0 < share < 1:
            raise RequestError(f"share={share:g} of entries seen is not between 0 and 1", "give such as 0.1")
    found = [Setting(pattern, share, seed) for pattern in patterns for share in shares for seed in seeds]
    if not found:
        raise RequestError("there is no pattern, share or seed", "give one of each at least")
    return tuple(found)


def _folder(path: Path, *, overwrite: bool) -> Path:
    if _is_taken(path) and not overwrite:
        raise OutputExistsError(f"{path} holds something", "use overwrite, or another folder")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _is_taken(path: Path) -> bool:
    """Whether something is there, but for an empty folder."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def write_evaluation(evaluation: Evaluation, folder: Path, sample_shape: tuple[int, ...]) -> None:
    """Write evaluation.json, evaluation.txt and the plots into a folder that exists."""
    plots = import_module("bigsvd.distill.plots")  # which takes a second to import
    values = json.dumps(evaluation.to_dict(), indent=1, allow_nan=False)
    (folder / "evaluation.json").write_text(values, encoding="utf-8")
    (folder / "evaluation.txt").write_text(f"{evaluation.text}\n", encoding="utf-8")
    plots.write_plots(evaluation, folder, sample_shape)


@dataclass(frozen=True, eq=False)
class _Evaluating:
    """One evaluation."""

    order: Order
    teacher_source: Any
    budget: int
    settings: tuple[Setting, ...]
    progress: Progress

    @cached_property
    def complete(self) -> Panels:
        """The complete rows, held where they are few, else read again each time."""
        facts = self.order.facts
        panels = RowPanels(self.order.source, self.order.student.standard, _PANEL_ROWS, self.order.absence)
        if 9 * facts.shape[0] * facts.shape[1] > _HELD_SHARE * self.budget:
            return panels.__iter__
        held = list(panels)
        return lambda: iter(held)

    @cached_property
    def material(self) -> Material | TeacherError:
        """The teacher with its data, or why these are not at hand."""
        path = self.order.student.provenance["teacher"]
        try:
            return Material.at(path, self.teacher_source, components=self.order.student.basis.r)
        except (TeacherError, FactorStoreError) as error:
            return TeacherError(error.message, error.remedy)

    def evaluation(self) -> Evaluation:
        """All of it."""
        drawing = Drawing(self.order.student)
        for setting in self.settings:
            drawing.masks(setting)  # refused before anything is read
        known = self._refuse_seen()
        self.progress(PhaseStarted("reading the complete rows"))
        truth = Truth.of(self.order.student.basis, self.order.k, self.complete(), self.budget)
        trial, rivals = Trial(self.complete, truth, drawing), self._rivals().fitting(truth.rows)
        return self._outcome(trial, rivals, known)

    def _outcome(self, trial: Trial, rivals: Rivals, known: tuple[str, ...]) -> Evaluation:
        truth, shown = trial.truth, min(self.settings, key=_distance)
        records = tuple(self._records(trial, rivals))
        said = _notes(truth, shown, self._verdict(trial.incomplete(shown), rivals))
        return Evaluation(
            records=records, left_out=rivals.left_out, k=truth.k, rows=truth.rows,
            features=truth.basis.n, s=tuple(truth.s.tolist()), s_whole=truth.whole,
            example=trial.example(shown, rivals.baselines, _SHOWN), notes=(*known, *said),
        )  # fmt: skip

    def _verdict(self, new: Panels, rivals: Rivals) -> str:
        """What the gate says of the student's stages on these rows."""
        able = [name for name in stages_of(self.order.student) if name not in rivals.left_out]
        return verdict_of(self.order.student, able, self.order.k, new).text

    def _records(self, trial: Trial, rivals: Rivals) -> Iterator[Record]:
        for setting in self.settings:
            self.progress(PhaseStarted(f"filling {setting}"))
            yield from trial.records(setting, rivals.baselines)

    def _refuse_seen(self) -> tuple[str, ...]:
        """`TeacherError` where the teacher has seen the rows; what else is to be said of that."""
        if isinstance(self.material, TeacherError):
            return (f"Whether the teacher has seen these rows is not known: {self.material.message}.",)
        refuse_selected(self.material, self.order.source)
        V, rows = components(self.material.factors), next(iter(self.complete()))
        known = count_known(self.material, complete_coordinates(V, rows))
        known.refuse(self.order.source.facts.name)
        return known.sentences

    def _rivals(self) -> Rivals:
        """Every way that can be had, the student's own at last."""
        asked = (self.order.student, self.order.k, self.budget)
        return without_teacher(*asked) + self._by_memory() + of_student(*asked)

    def _by_memory(self) -> Rivals:
        """Those that learn from the teacher's rows."""
        known = self._teacher_rows()
        if isinstance(known, str):
            return without_memory(known)
        self.progress(PhaseStarted("training a plain network on the teacher's rows"))
        return by_memory(known, self.order.student.basis, self.order.k, self._trained_shares, self.budget)

    @property
    def _trained_shares(self) -> tuple[float, float]:
        """The shares seen that a plain network is trained with: those asked for, and fewer."""
        shares = [setting.share for setting in self.settings]
        return min(shares) / 2, max(shares)

    def _teacher_rows(self) -> np.ndarray | str:
        """The teacher's rows in memory, (m, n); or why they are not."""
        if isinstance(self.material, TeacherError):
            return self.material.message
        m, n = self.order.student.basis.samples, self.order.student.basis.n
        why = too_large(f"{m:,} rows of the teacher in memory", 3 * 8 * m * n, self.budget)
        return why or stacked(self.material.panels(_PANEL_ROWS).__iter__).values


def _distance(setting: Setting) -> float:
    """How far a setting is from the one that is shown."""
    return abs(math.log(setting.share / _EXAMPLE_SHARE))


def _notes(truth: Truth, shown: Setting, verdict: str) -> Iterator[str]:
    if not truth.whole:
        yield "True singular values are those of the rows' part in the teacher's span: both sides are long."
    yield f"The gate, {shown}:\n{verdict}"
