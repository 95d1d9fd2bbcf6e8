"""`fit`: a student learns from published factors and the data that they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bigsvd.distill.columns import Columns
from bigsvd.distill.fit_plan import FitPlan, plan_fit
from bigsvd.distill.gap_laws import Masks
from bigsvd.distill.learning import Course, Learning
from bigsvd.distill.masks import empirical, parse_masks
from bigsvd.distill.mixture import Mixture
from bigsvd.distill.network import device_named
from bigsvd.distill.panels import Absence, RowPanels
from bigsvd.distill.resuming import Undertaking
from bigsvd.distill.student import Student, publish_student
from bigsvd.distill.teacher import Material
from bigsvd.errors import RequestError
from bigsvd.events import Progress, Published, unheard
from bigsvd.request import check_integer, parse_bytes
from bigsvd.results.folders import STUDENT
from bigsvd.results.output import Inputs, Output
from bigsvd.sources.open import open_source

NETWORK = "network"
STAGES = ("ridge", "mixture", NETWORK)
UNKNOWN_GAPS = "uniform:0.02..0.6"  # where nothing is known of the gaps of new data
_EPOCHS = Course().epochs
_PANEL_ROWS = 1024  # of new data whose gaps are learnt from


@dataclass(frozen=True, eq=False)
class FitOrder:
    """What is asked of one fit.

    Attributes:
        material: the teacher. masks: the gaps that rows have in training.
        stages, epochs, seed, device: see `fit`.

    """

    material: Material
    masks: Masks
    stages: tuple[str, ...] = STAGES
    epochs: int = _EPOCHS
    seed: int = 0
    device: str = "cpu"

    @property
    def problem(self) -> str:
        """JSON of all that decides the bits of the student, and so whether scratch may be continued."""
        factors = self.material.factors
        asked = {
            "teacher": [str(factors.path), factors.k, float(factors.s[0])],
            "source": self.material.source.facts.fingerprint,
            "masks": self.masks.identity,
            "stages": self.stages,
            "epochs": self.epochs,
            "seed": self.seed,
            "device": self.device,
        }
        return json.dumps(asked, sort_keys=True)

    def course(self, held_bytes: int) -> Course:
        """How the network is trained, with so many bytes of rows held between epochs."""
        return Course(epochs=self.epochs, seed=self.seed, held_bytes=held_bytes)

    @property
    def inputs(self) -> Inputs:
        """What a fit reads, none of which may be its output."""
        return Inputs((*self.material.source.places, self.material.factors.path.resolve()))

    @property
    def provenance(self) -> dict[str, Any]:
        """What a student says of where it comes from."""
        factors = self.material.factors
        told = {name: factors.provenance[name] for name in ("request", "source", "versions")}
        return told | {"teacher": str(factors.path), "fit": json.loads(self.problem)}


def fit_order_of(
    teacher: str | Path,
    *,
    source: Any = None,
    target: Any = None,
    masks: str | None = None,
    stages: Sequence[str] = STAGES,
    components: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    missing: Literal["nan", "zero"] = "nan",
    missing_value: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> FitOrder:
    """What the arguments of `fit` ask for, refused here where it cannot be."""
    _check_stages(stages)
    _check_epochs(epochs, stages)
    check_integer("seed", seed, 0)
    if target is not None and masks is not None:
        raise RequestError(
            "target and masks both say which gaps to learn with",
            "give one of them; masks='empirical:PATH' are those of a target",
        )
    if target is None and not (masks or "").startswith("empirical:"):
        _refuse_idle(missing, missing_value)
    if NETWORK in stages:
        device = device_named(device)
    material = Material.at(teacher, source, components=components, storage_options=storage_options)
    gaps = _Gaps(material, {"missing": missing, "missing_value": missing_value}, storage_options)
    drawn = gaps.of_target(target) if target is not None else gaps.asked(masks)
    return FitOrder(material, drawn, tuple(stages), epochs or _EPOCHS, seed, device)


@dataclass(frozen=True, eq=False)
class _Gaps:
    """How the gaps of rows in training are come by."""

    material: Material
    missing: Mapping[str, Any]
    storage_options: Mapping[str, Any] | None

    def of_target(self, target: Any) -> Masks:
        """Those that new data have themselves."""
        return empirical(f"empirical:{_name_of(target)}", self._rows_of(target))

    def asked(self, masks: str | None) -> Masks:
        """Those of a text; `UNKNOWN_GAPS` where there is none."""
        shape = self.material.factors.feature_shape
        return parse_masks(masks or UNKNOWN_GAPS, self.material.standard, shape, self._rows_of)

    def _rows_of(self, data: Any) -> RowPanels:
        opened = open_source(data, missing="mean", storage_options=self.storage_options)
        absence = Absence.of(opened, **self.missing)
        return RowPanels(opened, self.material.standard, _PANEL_ROWS, absence)


def _check_epochs(epochs: int | None, stages: Sequence[str]) -> None:
    if epochs is None:
        return
    if epochs < 1:
        raise RequestError(f"epochs={epochs} are none", "give one at least, or leave the network out")
    if NETWORK not in stages:
        raise RequestError(f"epochs={epochs} of a network, which is no stage", "leave out epochs")


def _refuse_idle(missing: str, missing_value: Any) -> None:
    """`RequestError` for what says which entries of a target are missing, where there is none."""
    if missing != "nan" or missing_value is not None:
        raise RequestError(
            "missing and missing_value say what a target lacks, and none was given",
            "give target, or leave them out: the teacher's own gaps are known",
        )


def _check_stages(stages: Sequence[str]) -> None:
    unknown = [name for name in stages if name not in STAGES]
    if unknown or isinstance(stages, str):
        raise RequestError(f"stages={stages!r} are not known", f"give some of {', '.join(STAGES)}")


def _name_of(data: Any) -> str:
    """What new data are called in the words of masks: their path, or that they were in memory."""
    return str(data) if isinstance(data, (str, Path)) else "<in memory>"


def plan_of(order: FitOrder, memory: int | str | None = None) -> FitPlan:
    """What it will read, hold and take; only metadata are looked at."""
    factors = order.material.factors
    return plan_fit(
        str(factors.path), order.material.source.facts, factors.k, order.stages, epochs=order.epochs,
        memory=None if memory is None else parse_bytes(memory),
    )  # fmt: skip


def fit(
    teacher: str | Path,
    out: str | Path,
    *,
    source: Any = None,
    target: Any = None,
    masks: str | None = None,
    stages: Sequence[str] = STAGES,
    components: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    memory: int | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **gaps: Any,
) -> Student:
    """A student of published factors, at `out`: it predicts those of new data with gaps.

    Args:
        teacher: path of the factors. Twice as many triplets as are to be predicted serve best.
        out: path of the student.
        source: the data of the teacher, where they are not where they were.
        target: new data, whose own gaps the network learns with: those that it is to predict best.
        masks: gaps to learn with instead, see `parse_masks`; `UNKNOWN_GAPS` where there is neither.
        stages: which to fit, some of `STAGES`; the ridge is always there.
        components: how many of the teacher's triplets are learnt; all where it is None.
        epochs: of the network, at most.
        seed: of gaps, weights and of what is drawn at random otherwise.
        device: of the network: "cpu", "gpu" (or "cuda") or "auto".
        memory: bytes that may be held beyond the interpreter and its libraries.
        overwrite: replace a published student, once the new one is whole.
        progress: called with each `bigsvd.events.Event`, from any thread.
        gaps: missing, missing_value and storage_options of the target, as `predict` has them.

    Raises:
        TeacherError: the teacher's data are not at hand. RankError: it has fewer components.
        MemoryBudgetError: it does not fit. DeviceError: torch, or the device, is not there.
        BigsvdError: the run failed; running the same again resumes it.

    """
    order = fit_order_of(
        teacher, source=source, target=target, masks=masks, stages=stages, components=components,
        epochs=epochs, seed=seed, device=device, **gaps,
    )  # fmt: skip
    return run(order, plan_of(order, memory), out, overwrite=overwrite, progress=progress or unheard)


def run(
    order: FitOrder,
    plan: FitPlan,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress = unheard,
) -> Student:
    """Carry out an order by its plan."""
    plan.check()
    sizes = {"rows_per_panel": plan.rows_per_panel, "held_bytes": plan.held_bytes}
    undertaking = Undertaking("fit", order.problem, sizes)
    with Output(out, overwrite=overwrite, inputs=order.inputs, kind=STUDENT) as output:
        scratch, sizes, _ = undertaking.scratch_in(output, progress, overwrite=overwrite)
        learning = Learning(
            order.material, order.masks, sizes["rows_per_panel"], order.seed, scratch, progress
        )
        student = publish_student(
            output, scratch, _learnt(order, learning, order.course(sizes["held_bytes"]))
        )
    progress(Published(str(student.path), str(output.scratch)))
    return student


def _learnt(order: FitOrder, learning: Learning, course: Course) -> Student:
    """The student, not yet published."""
    factors, basis = order.material.factors, learning.basis()
    learnt: dict[str, Mapping[str, Any]] = {}
    mixture: Mixture | None = None
    if "mixture" in order.stages:
        mixture = learning.mixture(basis)
        learnt["mixture"] = mixture.to_arrays()
    if NETWORK in order.stages:
        learnt["network"] = learning.network(basis, mixture, course, order.device).to_arrays()
    columns = Columns.of(order.material.source.facts)
    return Student(
        basis, factors.standard, columns, learnt, order.masks.text, factors.dtype.name,
        factors.kept.empty, order.provenance,
    )  # fmt: skip
