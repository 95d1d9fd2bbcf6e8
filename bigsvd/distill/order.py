"""`Order`: what is asked of one prediction, with the student and the data opened."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bigsvd.devices.bfloat16 import gpu_is_there, is_installed
from bigsvd.distill.panels import Absence
from bigsvd.distill.student import Student, open_student
from bigsvd.errors import DeviceError, RankError, RequestError
from bigsvd.machine.offers import DeviceOffer, device_here, on_cpu
from bigsvd.request import DEVICES, Request, check_integer
from bigsvd.sources.base import SIDES, Source
from bigsvd.sources.open import open_source
from bigsvd.sources.selected import selected

if TYPE_CHECKING:
    from bigsvd.facts import SourceFacts

STAGES = ("ridge", "map", "mixture", "adapt", "network")  # from the cheapest on
_LEARN = ("map", "adapt")  # those that learn from the new data, and are no student's own
_ARRAYS = {"offset": "mean", "scale": "scale", "weights": "weights"}  # of a student, by option of a request


@dataclass(frozen=True, eq=False)
class Order:
    """What is asked of one prediction.

    Attributes:
        student: which is to predict. source: the new data.
        absence: which of their entries were not seen.
        offer: the device on which rows are inferred.
        k: how many components are published. stage, adapt, seed: see `predict`.
        reading: how the data were opened, but for their axes: decode, sum, missing_chunks.

    """

    student: Student
    source: Source
    absence: Absence
    offer: DeviceOffer
    k: int
    stage: str = "auto"
    adapt: str = "auto"
    seed: int = 0
    reading: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def candidates(self, *, adapts: bool) -> tuple[str, ...]:
        """The stages that may be published, from the cheapest on; components move where `adapts` says so."""
        found = {*self.student.stages, *_LEARN}
        if not adapts:
            found.discard("adapt")
        if not is_installed():
            found.discard("network")
        return tuple(name for name in STAGES if name in found)

    @property
    def problem(self) -> str:
        """JSON of all that decides the bits of the answer, and so whether scratch may be continued."""
        mask = self.absence.mask
        asked = {
            "student": self.student.provenance["crc32c"],
            "source": self.source.facts.fingerprint,
            "mask": mask and mask.facts.fingerprint,
            "missing": list(map(str, self.absence.sentinels)),
            "k": self.k,
            "stage": self.stage,
            "adapt": self.adapt,
            "seed": self.seed,
            "device": self.offer.device.name,
        }
        return json.dumps(asked, sort_keys=True)

    @property
    def facts(self) -> SourceFacts:
        """Of the new data as far as the teacher had their features."""
        facts, ids = self.source.facts, self.student.standard.ids
        if ids is None or facts.shape[facts.features_axis] == len(ids):
            return facts
        if facts.features_axis == 1:
            return selected(self.source, None, ids).facts
        return selected(self.source, ids, None).facts

    @property
    def request(self) -> Request:
        """What `svd` would be asked to read and standardise the new data alike.

        What is subtracted, divided by and multiplied are the student's numbers, which lie in its store.
        """
        standard, facts = self.student.standard, self.source.facts
        held = {"offset": standard.mean, "scale": standard.scale, "weights": standard.weights}
        names = dict(self.reading) | {
            option: f"{self.student.path}/{_ARRAYS[option]}" for option in held if held[option] is not None
        }
        if facts.array_shape:
            names["dim"] = facts.array_axis
        else:
            names["samples"] = SIDES[facts.samples_axis]
        sentinels = self.absence.sentinels
        return Request(
            facts.name, self.k, functions=tuple(map(str, standard.functions.each)), missing="mean",
            missing_value=None if all(map(math.isnan, sentinels)) else sentinels, seed=self.seed,
            **names,
        )  # fmt: skip


def order_of(
    student: Student | str | Path,
    source: Any,
    *,
    k: int | None = None,
    stage: str = "auto",
    adapt: str = "auto",
    mask: Any = None,
    missing: str = "nan",
    missing_value: Any = None,
    seed: int = 0,
    device: str = "cpu",
    storage_options: Mapping[str, Any] | None = None,
    **reading: Any,
) -> Order:
    """What the arguments of `predict` ask for, refused here where it cannot be."""
    if missing not in ("nan", "zero"):
        raise RequestError(f"missing={missing!r} is not known", "use nan or zero")
    _check_adapt(adapt, stage)
    check_integer("seed", seed, 0)
    learnt = student if isinstance(student, Student) else open_student(student)
    opened = open_source(source, missing="mean", storage_options=storage_options, **reading)
    learnt.columns.check(opened.facts)
    if stage not in ("auto", *_LEARN):
        learnt.stage(stage)  # refused where it has none of that name
    rule = "zero" if missing == "zero" else "none"
    absence = Absence.of(opened, missing=rule, missing_value=missing_value, mask=mask)
    kept = {name: value for name, value in reading.items() if name not in ("samples", "dim")}
    place = device_for(device, network=_may_use_network(learnt, stage))
    return Order(learnt, opened, absence, place, _rank_of(learnt, k), stage, adapt, seed, kept)


def _check_adapt(adapt: str, stage: str) -> None:
    """`RequestError` where components are to move and not to, or nobody knows."""
    if adapt not in ("auto", "no"):
        raise RequestError(f"adapt={adapt!r} is not known", "use auto or no")
    if (stage, adapt) == ("adapt", "no"):
        raise RequestError("stage='adapt' is to move components, adapt='no' not to", "leave out one of them")


def _may_use_network(student: Student, stage: str) -> bool:
    """Whether the network may come to infer rows."""
    return stage == "network" or (stage == "auto" and "network" in student.stages and is_installed())


def device_for(asked: str, *, network: bool) -> DeviceOffer:
    """Where rows are inferred: on a GPU only if torch, too, finds it where that may be needed.

    Raises:
        RequestError: there is no device of that name. DeviceError: a GPU was asked for and none works.

    """
    if asked not in DEVICES:
        raise RequestError(f"device={asked!r} is not known", f"use one of {', '.join(DEVICES)}")
    found = device_here(cast("Any", asked))
    if not (found.device.has_own_memory and network) or gpu_is_there():
        return found
    if asked == "auto":
        return on_cpu("torch finds no GPU")
    raise DeviceError(
        f"device={asked!r}, but torch, which computes the stage network, finds no GPU",
        "install torch for CUDA, ask for another stage, or use device='cpu'",
    )


def _rank_of(student: Student, k: int | None) -> int:
    """How many components are published."""
    r = student.basis.r
    if k is None:
        return max(1, r // 2)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= r:
        raise RankError(
            f"k={k!r} is not in 1..{r}, the components of {student.path}",
            "give a smaller k, or fit a student of more components",
        )
    return int(k)
