"""A pass as a value, and each of its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bigsvd.devices.base import Device
from bigsvd.planning.plan import Plan
from bigsvd.scratch import Scratch
from bigsvd.slabs.operator import Kernel
from bigsvd.slabs.transform import Transform
from bigsvd.sources.base import Source

PARTS = "parts"  # below a pass in scratch: what goes once its lanes are combined


@dataclass(frozen=True)
class PassSpec:
    """One pass as a value.

    Attributes:
        name: where its results lie in scratch.
        kernels: what it computes.
        transform: what is done to each entry before it is multiplied.
        lines_name: scratch array (3, N) of means and divisors of B's columns, or None.
        row_lines_name: scratch array (3, M) of those of B's rows, or None where each panel shows its own.
        dtype: precision of the slabs, and of their products unless these are `rough`: of bfloat16.
        checksums: scratch record with the checksum of each panel, or None in the pass that makes it.
        sample: whether only the panels of the plan's sample are streamed. Of such a pass nothing is left in
            scratch: its lanes return their sums, and a run that is continued makes it again.
        rows: scratch arrays into which lanes write what they find along the rows of B, and the axis of each
            that is these.

    """

    name: str
    kernels: tuple[Kernel, ...]
    transform: Transform
    lines_name: str | None
    row_lines_name: str | None
    dtype: str
    checksums: str | None
    sample: bool = False
    rough: bool = False
    rows: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Lane:
    """One task: the `panels` of a pass that it streams, and their `checksums` from before, if known."""

    index: int
    panels: tuple[int, ...]
    token: str
    spec: PassSpec
    plan: Plan
    source: Source
    scratch: Scratch
    device: Device
    checksums: tuple[int, ...] | None


def lane_report(scratch: Scratch, spec: PassSpec, index: int) -> dict[str, Any] | None:
    """What a lane that is done has recorded; None of one that is not, and of the sample's."""
    if spec.sample:
        return None
    return scratch.recorded(f"{lane_folder(spec.name, index)}/done")


def lane_folder(name: str, index: int) -> str:
    """Where in scratch a lane of pass `name` leaves its partial sums and its record."""
    return f"{name}/{PARTS}/lane-{index:05d}"
