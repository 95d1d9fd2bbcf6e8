"""`Method`: a way to find the k leading triplets, what it demands of a plan, and how it runs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from bigsvd.catalog.widths import DEFAULT_MAX_PASSES, PROBES, block_width, first_block_width
from bigsvd.errors import RequestError
from bigsvd.methods.goal import Goal, Solution
from bigsvd.methods.matrix import Matrix
from bigsvd.planning.cost import Cost, Prospect, besides
from bigsvd.planning.demands import Question
from bigsvd.planning.layout import Layout
from bigsvd.planning.plan import Plan
from bigsvd.request import ROUGH, Request


class Method(ABC):
    """One row of `catalog.table.METHODS`; the planner asks it, a run of its plan is carried out by it.

    The answers here suit a method that reads whole panels in passes of its own, starts from nothing, and
    holds no more memory than every run does: its block, the basis, and panels.

    Attributes:
        name: its key in the table.
        takes_tiles: whether a panel may be read in tiles of its columns, where a whole one does not fit.
        starts_from_sample: whether it looks at a sample of the panels first.
        starts_from_factors: whether it can start from published factors of similar data.
        takes_rough_products: whether its passes but the last may round their products much, see `Matrix`.
        most_passes: how many passes it may make where the request does not say.

    """

    name: ClassVar[str]
    takes_tiles: ClassVar[bool] = False
    starts_from_sample: ClassVar[bool] = False
    starts_from_factors: ClassVar[bool] = False
    takes_rough_products: ClassVar[bool] = False
    most_passes: ClassVar[int] = DEFAULT_MAX_PASSES

    def block_widths(self, k: int, cols: int) -> tuple[int, int]:
        """Columns of a block, and of the first where a sample shows that fewer serve; at most `cols`."""
        width = block_width(k, cols)
        return width, min(width, first_block_width(k, cols))

    def check(self, request: Request) -> None:
        """`RequestError` where a request asks this method for what it cannot do."""
        if request.warm_start is not None and not self.starts_from_factors:
            raise RequestError(
                f"warm_start={request.warm_start!r} with method={self.name!r}, which starts from nothing",
                "use method='krylov'",
            )
        if request.precision == ROUGH and not self.takes_rough_products:
            raise RequestError(
                f"precision={ROUGH!r} with method={self.name!r}, which makes no use of it",
                "use method='krylov', or precision='float32'",
            )

    def memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """Bytes of host memory that this method alone holds, by what they hold, for all lanes at a time."""
        del question, layout
        return {}

    def device_memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """The same of a device's own memory."""
        del question, layout
        return {}

    @abstractmethod
    def expected_passes(self, request: Request, layout: Layout, share: float) -> float:
        """How many passes usually reach the tolerance, with the `share` of one that the sample takes."""

    @abstractmethod
    def describe_start(self, plan: Plan) -> str:
        """What the first block comes from, for people."""

    @abstractmethod
    def run(self, matrix: Matrix, goal: Goal) -> Solution:
        """The triplets of the matrix, their long factor written to scratch.

        Passes are named by `Matrix.next_name` and made in an order that the data alone decide: those that a
        killed run has finished are then read back instead of made. A method that goes step by step hands an
        `iteration.Iteration` to `anytime.iterate`; what that must give is said there.
        """

    def scratch_columns(self, layout: Layout, passes: float) -> int:
        """Columns of the long factor, or of what it is formed of, that so many passes leave in scratch."""
        return math.ceil(passes) * layout.width + PROBES

    def seconds(self, cost: Cost, layout: Layout, prospect: Prospect) -> tuple[float, float]:
        """(of the warm start, of all passes): by default no start, and passes k columns wide."""
        one = cost.of_pass(layout, prospect.lanes, layout.k)
        return 0.0, prospect.full_passes * (one + besides(layout))

    def passes_for_means(self, request: Request, layout: Layout) -> float:
        """One where missing entries are filled with column means, which a pass must find first; else none."""
        return float(request.missing == "mean" and layout.features_axis == 1)
