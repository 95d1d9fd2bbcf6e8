"""Everything that a run reports while it goes on, as frozen values with a JSON form.

The console reads them, and so can a job's log or a service. A progress callback gets them one by one, and may
be called from any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

from bigsvd.planning.plan import Plan

_LABELS = {
    "correct": "correcting",
    "two-sided": "checking",
    "long": "forming",
    "statistics": "means",
    "start": "sample",
    "infer": "predicting",
    "adapt": "adapting",
}
_NUMBERED = re.compile(r".*-([0-9]{3})")


@dataclass(frozen=True)
class Event:
    """Something that a run reports; its `kind` is its name in JSON, under the key "event".

    ``event["event"]`` is its kind and ``event["passes"]`` a field, for callbacks that expect a mapping.
    """

    kind: ClassVar[str]

    def __getitem__(self, name: str) -> Any:
        if name == "event":
            return self.kind
        return getattr(self, name)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"event": self.kind} | {
            field.name: _to_json(getattr(self, field.name)) for field in fields(self)
        }


@dataclass(frozen=True)
class ChunksAbsent(Event):
    """So many chunks of the data do not exist and will be read as the fill value."""

    kind = "chunks-absent"
    count: int


@dataclass(frozen=True)
class WaitingForCluster(Event):
    """The run waits until another one, the `holder`, leaves its cluster; it is number `place` in line."""

    kind = "waiting"
    holder: str
    place: int


@dataclass(frozen=True)
class MachinesDiffer(Event):
    """Processes of the run, or those that began it, differ in what its last bits may depend on: `said`."""

    kind = "machines-differ"
    said: str


@dataclass(frozen=True)
class PlanMade(Event):
    """The run begins, or goes on after the `passes_done` finished passes that scratch holds."""

    kind = "plan"
    plan: Plan
    resumed: bool
    scratch: str
    passes_done: int


@dataclass(frozen=True)
class PredictionPlanned(Event):
    """A prediction begins, or goes on with the panels that scratch holds; `said` is its plan in words."""

    kind = "prediction-plan"
    said: str
    resumed: bool
    scratch: str


@dataclass(frozen=True)
class StageChosen(Event):
    """Which stage of a student predicts the data; `said` is why, with a table of all that were judged."""

    kind = "stage"
    stage: str
    said: str


@dataclass(frozen=True)
class GivenUp(Event):
    """Finished passes of another request are deleted; `differences` say how that request differs."""

    kind = "given-up"
    scratch: str
    differences: tuple[str, ...]


@dataclass(frozen=True)
class SampleTaken(Event):
    """A sample of `rows` rows is read for a warm start."""

    kind = "sample"
    rows: int


@dataclass(frozen=True)
class PassStarted(Event):
    """A pass begins, over the whole matrix or, if `sample` is true, over the sampled rows."""

    kind = "pass"
    name: str
    total_bytes: int
    sample: bool
    resumed_lanes: int


@dataclass(frozen=True)
class BytesRead(Event):
    """The number of uncompressed bytes of the pass that were read since the last such event."""

    kind = "read"
    bytes: int


@dataclass(frozen=True)
class LaneStarted(Event):
    """A lane of a pass begins; where its worker is lost, it begins again on another."""

    kind = "lane"
    name: str
    lane: int
    sample: bool


@dataclass(frozen=True)
class LaneRepeated(Event):
    """A lane begins anew and puts less on the device, whose memory was too small; `said` is its message."""

    kind = "device-full"
    lane: int
    said: str


@dataclass(frozen=True)
class ScratchDamaged(Event):
    """A part of scratch was not what had been written, and is computed again; `said` names it."""

    kind = "scratch-damaged"
    said: str


@dataclass(frozen=True)
class PassEnded(Event):
    """The pass is over."""

    kind = "pass-end"
    name: str
    total_bytes: int
    sample: bool


@dataclass(frozen=True)
class Certified(Event):
    """How good the answer is after a pass.

    Attributes:
        relative_error: ‖B−U·S·Vᵀ‖_F/‖B‖_F.
        excess_error: how far `relative_error` is above the smallest possible for that k; None if unknown.
        passes_left: an estimate from the last two residuals; None if there is none. seconds_left: of these,
            each as long as the last was.
        k: the number of singular values that a rank rule has chosen; None before it has.
        reached: how many triplets have residuals at the tolerance, where each has to have one; else None.
        above_noise: how many of them stand above the noise, where only these have to be found; else None.
        foretold: whether residuals are of one factor alone and foretold by probes, with ``stop="estimate"``.

    """

    kind = "certificate"
    passes: int
    relative_error: float
    max_residual: float
    excess_error: float | None
    converged: bool
    passes_left: int | None
    seconds_left: float | None
    k: int | None
    reached: int | None
    above_noise: int | None
    foretold: bool = False


@dataclass(frozen=True)
class PlanRevised(Event):
    """What the sample has taught about a run's passes, and what the run does of it.

    Attributes:
        method: that the run goes on with. passes_low, passes_high: over the whole data, with the share of one
            that the sample was; they are equal where the prediction is sharp. seconds: of the whole run, for
            as many passes as are likeliest. why: in words.

    """

    kind = "plan-revised"
    method: str
    passes_low: float
    passes_high: float
    seconds: float
    why: str


@dataclass(frozen=True)
class WarmStartInVain(Event):
    """Starting from other factors took no fewer passes than a run without them usually does."""

    kind = "no-gain"
    passes: float
    usual: float


@dataclass(frozen=True)
class EpochEnded(Event):
    """A network has learnt from the rows of its teacher once more.

    Attributes:
        epoch: from 1 to at most `epochs`. error: of the rows that were held out, mean squared error of their
            coordinates as a share of the variance. best: the least so far. ridge: that of the ridge, which
            the network betters.

    """

    kind = "epoch"
    epoch: int
    epochs: int
    error: float
    best: float
    ridge: float


@dataclass(frozen=True)
class PhaseStarted(Event):
    """The run begins work that is no pass; `doing` says in words which."""

    kind = "phase"
    doing: str


@dataclass(frozen=True)
class Formed(Event):
    """The singular vectors are computed and lie in scratch."""

    kind = "formed"


@dataclass(frozen=True)
class Published(Event):
    """The factors are published at `path`."""

    kind = "done"
    path: str
    scratch: str


def label_of(name: str) -> str:
    """What a person calls the pass of that name in scratch: by its purpose, or its number from 1."""
    for kind, label in _LABELS.items():
        if name.startswith(f"{kind}-"):
            return label
    numbered = _NUMBERED.fullmatch(name)
    return f"pass {int(numbered[1]) + 1}" if numbered else name


Progress: TypeAlias = Callable[[Event], None]
KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        WaitingForCluster, MachinesDiffer, PredictionPlanned, StageChosen,
        ChunksAbsent, PlanMade, GivenUp, SampleTaken, PassStarted, BytesRead, LaneStarted,
        LaneRepeated, ScratchDamaged, PassEnded, Certified, PlanRevised, WarmStartInVain, EpochEnded,
        PhaseStarted, Formed, Published,
    )
}  # fmt: skip


def event_from_dict(values: Mapping[str, Any]) -> Event:
    """The inverse of `Event.to_dict`.

    Raises:
        KeyError: no event of that kind is known. TypeError: its fields are not those of its kind.

    """
    given = {name: value for name, value in values.items() if name != "event"}
    if values["event"] == PlanMade.kind:
        given["plan"] = Plan.from_dict(given["plan"])
    if values["event"] == GivenUp.kind:
        given["differences"] = tuple(given["differences"])
    return KINDS[values["event"]](**given)


def unheard(event: Event) -> None:
    """The progress callback of a run that nobody listens to."""
    del event


def _to_json(value: Any) -> Any:
    if isinstance(value, Plan):
        return value.to_dict()
    if isinstance(value, tuple):
        return list(value)
    return value
