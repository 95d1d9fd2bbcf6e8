"""What a method works towards, and what it ends with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bigsvd.methods.choosing import GivenRank, RankByRule, Shortfall, chooser_of
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.result import Triplets
from bigsvd.methods.stopping import TESTS, PassBudget, StoppingTest
from bigsvd.request import Request
from bigsvd.results.certificate import Audit, Signal


@dataclass(frozen=True)
class Goal:
    """When a run has what was asked for, and when it ends without.

    Attributes:
        request: what is asked.
        chooser: decides k.
        test: judges the answer after each pass.
        budget: of passes and time.

    """

    request: Request
    chooser: GivenRank | RankByRule
    test: StoppingTest
    budget: PassBudget

    @classmethod
    def of(cls, request: Request, matrix: Matrix, should_stop: Callable[[], bool]) -> Goal:
        """The goal of a request; `should_stop` is asked after every pass."""
        chooser = chooser_of(request, matrix.context.plan)
        test = TESTS[request.stop](request, matrix, chooser)
        return cls(request, chooser, test, PassBudget(matrix, request.deadline, should_stop))


@dataclass(frozen=True)
class Solution:
    """Triplets of B and everything that is said about them.

    Attributes:
        converged: whether the request's tolerance, and its rank rule if it has one, were met.
        shortfall: why a run ended early, or what its answer lacks.
        excess: of the relative error above the best possible, as far as it is known.
        signal: which triplets stand above the noise, prescaled, where only these were asked for.
        passes: over the data, with the share of one that the sample is. reads_by_dask: those of Dask's own.
        seconds: of the run so far.

    """

    matrix: Matrix
    triplets: Triplets
    converged: bool
    passes: float
    seconds: float
    shortfall: Shortfall | None = None
    audit: Audit | None = None
    excess: float | None = None
    signal: Signal | None = None
    reads_by_dask: float = 0.0
