"""A method that lives only here: subspace iteration (Halko, Martinsson & Tropp 2011, Alg. 4.4).

It shows what a new method takes: this file, and a row in `bigsvd.catalog.table.METHODS`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.catalog.table import Row
from bigsvd.methods.anytime import iterate
from bigsvd.methods.base import Method
from bigsvd.methods.goal import Goal, Solution
from bigsvd.methods.iteration import BlockIteration
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.starts import gaussian_block
from bigsvd.planning.layout import Layout
from bigsvd.planning.plan import Plan
from bigsvd.request import Request


@dataclass(frozen=True)
class Options:
    """Attributes: usual_passes: how many the plan is to expect."""

    usual_passes: int = 12


class SubspaceRun(BlockIteration):
    """Each pass starts from the Ritz vectors of the one before, and keeps nothing else of it."""

    kind = "subspace"

    def advance(self) -> None:
        """One pass, of whose answer the next knows only its block."""
        self.forget()
        super().advance()

    def extend(self, k: int | None, tol: float) -> None:
        """The orthonormalised products."""
        del k, tol
        self.block = np.linalg.qr(self.subspace.Z @ self.ritz.coordinates)[0]


class SubspaceIteration(Method):
    """See the module."""

    name = "subspace_iteration"

    def expected_passes(self, request: Request, layout: Layout, share: float) -> float:
        """As many as the request says are usual."""
        del layout, share
        return float(request.method_options.usual_passes)

    def describe_start(self, plan: Plan) -> str:
        """Always the same."""
        return f"Gaussian block of {plan.width} columns"

    def run(self, matrix: Matrix, goal: Goal) -> Solution:
        """From a random block."""
        block = gaussian_block(matrix, goal.request.seed)
        return iterate(SubspaceRun(matrix, block, goal.request.seed), goal)


METHOD = SubspaceIteration()
ROW = Row("tests.subspace_iteration", Options)
