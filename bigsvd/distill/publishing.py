"""What a prediction ends with: the factors, what they say of themselves, and their seal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bigsvd.distill.forming import Rotation, certificate_of, rotate, write_vectors
from bigsvd.errors import BigsvdError, RequestError
from bigsvd.results.check import check_store
from bigsvd.results.factors import sealed_factors
from bigsvd.results.prediction import Prediction
from bigsvd.results.store import FOLDER, seal
from bigsvd.units import counted_as

if TYPE_CHECKING:
    from bigsvd.distill.choosing import Chosen
    from bigsvd.distill.inference import Inference, Sums
    from bigsvd.distill.order import Order
    from bigsvd.distill.plan import PredictionPlan


def write_prediction(
    order: Order,
    plan: PredictionPlan,
    chosen: Chosen,
    inference: Inference,
    sums: Sums,
    costs: dict[str, Any],
) -> None:
    """Form factors in scratch, certify them as predicted, seal and check them.

    Raises:
        RequestError: not one entry was seen.

    """
    _check_seen(order, plan, sums)
    rotation = rotate(chosen.basis, sums, plan.samples, order.k, order.student.standard.informative)
    write_vectors(inference.scratch, inference, rotation, order.facts.samples_axis, order.student.dtype)
    _write_lines(order, inference)
    certificate = certificate_of(rotation, _prediction(order, plan, chosen, sums, rotation))
    attributes = {
        "request": order.request.to_dict(),
        "plan": plan.to_dict(),
        "certificate": certificate.to_dict(),
        "source": order.facts.to_dict(),
        "costs": costs,
        "machines": [],
    }
    seal(inference.scratch, attributes)
    _check_written(inference)


def _check_seen(order: Order, plan: PredictionPlan, sums: Sums) -> None:
    """`RequestError` where not one entry was seen."""
    if not sums.seen:
        raise RequestError(
            f"{order.source.facts.name} has no entry that was seen, of {plan.samples * plan.features:,}",
            "look at what says which entries are missing",
        )


def _check_written(inference: Inference) -> None:
    """`BigsvdError` where the sealed factors are not what they say they are."""
    for finding in check_store(sealed_factors(inference.scratch.path / FOLDER)):
        raise BigsvdError(f"the factors failed their own check ({finding})", "report this defect of bigsvd")


def _prediction(
    order: Order, plan: PredictionPlan, chosen: Chosen, sums: Sums, rotation: Rotation
) -> Prediction:
    """What the factors say of themselves."""
    return Prediction(
        student=str(order.student.path),
        teacher=str(order.student.provenance.get("teacher", "")),
        stage=chosen.name,
        components=plan.components,
        samples=plan.samples,
        features=int(order.student.standard.informative.sum()),
        seen=round(sums.seen),
        unseen_samples=round(sums.unseen),
        captured=tuple(map(float, rotation.captured)),
        scatter=sums.scatter,
        hidden_error=chosen.hidden_error,
        hidden_spread=chosen.hidden_spread,
        outside=chosen.outside,
        verdict=chosen.verdict,
        notes=_notes(sums),
    )


def _write_lines(order: Order, inference: Inference) -> None:
    """What a reconstruction needs besides triplets: what rows were standardised by, and of which features."""
    standard = order.student.standard
    stored = {
        "mean": standard.mean,
        "scale": standard.scale,
        "weights": standard.weights,
        "missing": order.student.empty,
        ("cols", "rows")[order.source.facts.samples_axis]: standard.ids,
    }
    for name, values in stored.items():
        if values is not None:
            inference.scratch.write(f"{FOLDER}/{name}", values)


def _notes(sums: Sums) -> tuple[str, ...]:
    """What else a reader must be told."""
    if not sums.unseen:
        return ()
    rows = counted_as(round(sums.unseen), "sample")
    return (f"nothing was seen of {rows}: their coordinates are the prior's mean",)
