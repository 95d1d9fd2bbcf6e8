"""`Kernel` and `Operator`: what a pass computes from slabs, as a value and at work in one lane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from bigsvd.devices.base import Array, Device
from bigsvd.scratch import Scratch
from bigsvd.slabs.census import Census
from bigsvd.slabs.entries import Entries, Piece
from bigsvd.slabs.second_opinion import Opinion
from bigsvd.slabs.slab import Slab


@dataclass
class Findings:
    """What a pass has found about the entries: counts and extremes, and a second opinion on some features."""

    census: Census = field(default_factory=Census)
    opinion: Opinion = field(default_factory=lambda: Opinion.nothing(()))

    def add(self, other: Findings) -> None:
        """Take in what was found in other entries."""
        self.census.add(other.census)
        self.opinion = self.opinion.merged(other.opinion)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"census": self.census.to_dict(), "opinion": self.opinion.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Findings:
        """The inverse of `to_dict`; other values are passed over."""
        return cls(Census.from_dict(values["census"]), Opinion.from_dict(values["opinion"]))


class Operator:
    """A kernel at work in one lane: products of slabs, sums over panels. What it does not need stays undone.

    Laws: the outcome does not depend on how a panel is cut into slabs, up to rounding.

    Attributes:
        looks: whether it is to be shown entries, piece by piece, before slabs are made of them.

    """

    looks: ClassVar[bool] = False

    def look(self, entries: Entries, piece: Piece) -> None:
        """Take in a piece of entries; called once for each. It may not write into them."""

    def forward(self, slab: Slab) -> Array | None:
        """The part of Y that this slab adds; None if the kernel has none. Called once for each slab.

        Nothing that is kept may be a view of the slab: the next one may be made in the same memory.
        """
        del slab
        return None

    def backward(self, slab: Slab, y: Array | None) -> None:
        """Add this slab's part of the sums; `y` holds its rows of Y, to which all tiles have added."""

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """Take in the rows of Y of a whole panel, by slab, on the device; no slabs if the kernel has no Y."""

    def sums(self) -> dict[str, np.ndarray]:
        """The lane's partial sums, on the host, float64."""
        return {}

    def findings(self) -> Findings:
        """What the lane has found about the entries."""
        return Findings()


class Kernel(Protocol):
    """What a pass computes; a small value that travels to workers and opens its operands there."""

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Operator:
        """The operator of one lane."""
