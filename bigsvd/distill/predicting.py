"""`predict`: factors of new, incomplete data from a student, in one stream, without an SVD of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bigsvd.distill.adapt import NAME as ADAPT
from bigsvd.distill.choosing import Chosen, choose
from bigsvd.distill.inference import Inference, Sums
from bigsvd.distill.order import Order, order_of
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.plan import PredictionPlan, plan_prediction
from bigsvd.distill.publishing import write_prediction
from bigsvd.distill.resuming import Undertaking
from bigsvd.errors import DamagedScratchError, NonFiniteError, RequestError
from bigsvd.events import (
    PhaseStarted,
    PredictionPlanned,
    Progress,
    Published,
    ScratchDamaged,
    unheard,
)
from bigsvd.floats import silent
from bigsvd.machine.monitor import MemoryMonitor
from bigsvd.request import parse_bytes
from bigsvd.results.output import Inputs, Output

if TYPE_CHECKING:
    from bigsvd.distill.student import Student
    from bigsvd.results.factors import Factors
    from bigsvd.scratch import Scratch

_MENDINGS = 3  # of one scratch in a run; what is damaged then is a disk
# Of a plan: what the bits depend on.
_SIZES = ("rows_per_panel", "rows_per_batch", "rows_judged", "rows_judged_at_a_time")


def _never() -> bool:
    return False


@silent
def predict(
    student: Student | str | Path,
    source: Any,
    out: str | Path,
    *,
    stage: str = "auto",
    adapt: Literal["auto", "no"] = "auto",
    k: int | None = None,
    mask: Any = None,
    missing: Literal["nan", "zero"] = "nan",
    missing_value: Any = None,
    seed: int = 0,
    memory: int | str | None = None,
    device: Literal["cpu", "gpu", "auto"] = "cpu",
    overwrite: bool = False,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = _never,
    storage_options: Mapping[str, Any] | None = None,
    **reading: Any,
) -> Factors:
    """B ≈ U·diag(s)·Vt of data with gaps, as a student expects it: predicted, not certified.

    Args:
        student: a `Student`, or the path of one.
        source: new data (m', n) with the features of the teacher, opened as `svd` opens any.
        out: path of the factor store, which says that it is predicted.
        stage: "auto" for what the gate chooses on hidden entries of the data, or one of `Student.stages`.
        adapt: whether components may move where the gate finds that to pay ("auto").
        k: how many triplets to publish; half of the student's components where it is None.
        mask: truth values in the shape of the data, true where an entry is missing: an array or a path.
        missing: "zero": an entry of 0 was not observed.
        missing_value: a stored value, or several, that stand for no number. NaN, and what the data mark
            themselves (CF attributes), is missing anyway.
        seed: of what is hidden to judge by.
        memory: bytes that may be held beyond the interpreter and its libraries.
        device: where rows are inferred; "auto" is a GPU where one is usable. Stages are judged, and learn
            from the new data, on the host. A run is resumed on the device that it began on.
        overwrite: replace a published result, once the new one is whole.
        progress: called with each `bigsvd.events.Event`, from any thread.
        should_stop: asked after each panel.
        storage_options: for the store of a URL; kept nowhere.
        reading: decode, samples, dim, sum, missing_chunks of the new data, as `svd` has them.

    Raises:
        ColumnsError: the data have other features. RankError: k is more than the student has.
        MemoryBudgetError: it does not fit. RequestError: nothing at all was seen.
        DeviceError: a GPU was asked for and none works.
        StoppedError: it was to stop. BigsvdError: the run failed; running the same again resumes it.

    """
    order = order_of(
        student, source, k=k, stage=stage, adapt=adapt, mask=mask, missing=missing,
        missing_value=missing_value, seed=seed, device=device, storage_options=storage_options, **reading,
    )  # fmt: skip
    plan = plan_of(order, memory)
    return run(order, plan, out, overwrite=overwrite, progress=progress or unheard, should_stop=should_stop)


def plan_of(order: Order, memory: int | str | None = None) -> PredictionPlan:
    """What it will read, hold and take; only metadata are looked at."""
    budget = None if memory is None else parse_bytes(memory)
    return plan_prediction(
        order.student, order.source.facts, order.offer,
        stage=order.stage, adapt=order.adapt, k=order.k, memory=budget,
    )  # fmt: skip


@silent
def run(
    order: Order,
    plan: PredictionPlan,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress = unheard,
    should_stop: Callable[[], bool] = _never,
) -> Factors:
    """Carry out an order by its plan."""
    plan.check()
    output = Output(out, overwrite=overwrite, inputs=_inputs_of(order))
    with output, MemoryMonitor() as monitor:
        undertaking = Undertaking("prediction", order.problem, {name: getattr(plan, name) for name in _SIZES})
        scratch, sizes, resumed = undertaking.scratch_in(output, progress, overwrite=overwrite)
        plan = plan.sized(sizes)
        progress(PredictionPlanned(str(plan), resumed, str(output.scratch)))
        with _swept_if_useless(output):
            _fill(order, plan, scratch, progress, partial(_asked, output, should_stop), monitor)
        factors = output.publish()
        output.tidy()
    progress(Published(str(factors.path), str(output.scratch)))
    return factors


def _inputs_of(order: Order) -> Inputs:
    """What may not be deleted: the new data and the student."""
    path = order.student.path
    return Inputs((*order.source.places, *(() if path is None else (path.resolve(),))))


def _asked(output: Output, should_stop: Callable[[], bool]) -> bool:
    """Whether the run is to stop; `SupersededError` if it is no more this one's."""
    output.check()
    return should_stop()


@contextmanager
def _swept_if_useless(output: Output) -> Iterator[None]:
    """Remove scratch where the data or the request can only be changed."""
    try:
        yield
    except (NonFiniteError, RequestError):
        output.sweep()
        raise


def _fill(
    order: Order,
    plan: PredictionPlan,
    scratch: Scratch,
    progress: Progress,
    should_stop: Callable[[], bool],
    monitor: MemoryMonitor,
) -> None:
    """Choose a stage, infer all panels, and write the factors into scratch."""
    started = time.monotonic()
    panels = RowPanels(order.source, order.student.standard, plan.rows_per_panel, order.absence)
    chosen = choose(order, panels, plan, progress)
    inference = Inference(panels, chosen, scratch, order.student.dtype, order.offer.device)
    sums = _inferred(inference, plan, progress, should_stop)
    progress(PhaseStarted("writing and checking the factors"))
    costs = _costs(plan, chosen, time.monotonic() - started, monitor)
    write_prediction(order, plan, chosen, inference, sums, costs)


def _inferred(
    inference: Inference,
    plan: PredictionPlan,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> Sums:
    """Infer all panels; where scratch turns out to be damaged, what is lost is inferred again."""
    for _ in range(_MENDINGS):
        try:
            return _inferred_once(inference, plan, progress, should_stop)
        except DamagedScratchError as error:
            progress(ScratchDamaged(error.message))
            inference.scratch.discard_damaged()
    return _inferred_once(inference, plan, progress, should_stop)


def _inferred_once(
    inference: Inference,
    plan: PredictionPlan,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> Sums:
    inference.prepare()
    inference.run(plan.rows_per_batch, plan.threads, progress, should_stop)
    return inference.sums()


def _costs(plan: PredictionPlan, chosen: Chosen, seconds: float, monitor: MemoryMonitor) -> dict[str, Any]:
    """What the run took, under the names that `bigsvd info` has."""
    seen, moved = monitor.seen(), chosen.name == ADAPT  # for which all rows were read before
    return {
        "method": f"predicted by {chosen.name}",
        "passes": 1.0 + moved,
        "bytes_read": (1 + moved) * plan.read_bytes,
        "cached_bytes": 0,
        "cache_hit_rate": 0.0,
        "seconds": seconds,
        "predicted_seconds": plan.seconds,
        "seconds_by_part": {},
        "peak_memory_bytes": seen.peak_bytes,
        "baseline_memory_bytes": seen.baseline_bytes,
        "planned_memory_bytes": plan.memory_bytes,
        "memory_exceeded_bytes": seen.exceeded_bytes(plan.memory_bytes),
    }
