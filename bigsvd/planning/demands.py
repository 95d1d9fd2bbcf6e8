"""The question that a layout answers, and all that the planner asks of a method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bigsvd.catalog.table import load
from bigsvd.facts import Machine, SourceFacts
from bigsvd.planning.cost import Cost, Prospect
from bigsvd.planning.layout import Layout
from bigsvd.request import Request

SMALLEST = "krylov"  # the method that a request is advised to use where another takes too much memory


@dataclass(frozen=True)
class Question:
    """What a layout is wanted for.

    Attributes:
        method: the method that is to run. request, facts, machine: of it, of the source, of where it runs.
        dtype: of the products, "float32" or "float64". rough_dtype: of some of them, where it is another.

    """

    method: Demands
    request: Request
    facts: SourceFacts
    machine: Machine
    dtype: str
    rough_dtype: str = ""

    @property
    def itemsize(self) -> int:
        """Bytes of an entry of the products."""
        return np.dtype(self.dtype).itemsize

    def on(self, machine: Machine) -> Question:
        """The same on another machine."""
        return replace(self, machine=machine)

    def by(self, name: str) -> Question:
        """The same by another method, with its own options' defaults."""
        return replace(self, method=demands_of(name), request=self.request.by_method(name))


class Demands(Protocol):
    """What the planner asks of a method; `methods.base.Method` has the answers that most give.

    Attributes:
        name: its key in the table of methods.
        takes_tiles: whether a panel may be read in tiles of its columns, where a whole one does not fit.
        starts_from_sample: whether it looks at a sample of the panels first, and may then begin narrower.
        most_passes: how many passes it may make where the request does not say.

    """

    name: str
    takes_tiles: bool
    starts_from_sample: bool
    most_passes: int

    def block_widths(self, k: int, cols: int) -> tuple[int, int]:
        """Columns of a block, and of the first where a sample shows that fewer serve; at most `cols`."""

    def memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """Bytes of host memory that this method alone holds, by what they hold, for all lanes at a time."""

    def device_memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """The same of a device's own memory."""

    def expected_passes(self, request: Request, layout: Layout, share: float) -> float:
        """How many passes usually reach the tolerance, with the `share` of one that the sample takes."""

    def scratch_columns(self, layout: Layout, passes: float) -> int:
        """Columns of the long factor, or of what it is formed of, that so many passes leave in scratch."""

    def seconds(self, cost: Cost, layout: Layout, prospect: Prospect) -> tuple[float, float]:
        """Of the warm start, and of all passes."""


def demands_of(name: str) -> Demands:
    """Those of the method of that name."""
    found: Demands = load(name)
    return found
