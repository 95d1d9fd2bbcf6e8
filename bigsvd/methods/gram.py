"""First block from the Gram matrix BᵀB: one pass, exact up to its squared condition.

The Krylov iteration that follows makes the one further pass that gives U and the certificate, and more where
rounding of the squared spectrum left the tolerance unmet.
"""

from __future__ import annotations

import numpy as np

from bigsvd.catalog.widths import BEYOND
from bigsvd.devices.base import Device
from bigsvd.errors import RequestError, travels
from bigsvd.execution.executor import Call, results_of
from bigsvd.execution.passes import Context, run_pass
from bigsvd.methods.anytime import iterate
from bigsvd.methods.base import Method
from bigsvd.methods.goal import Goal, Solution
from bigsvd.methods.krylov import KrylovRun
from bigsvd.methods.matrix import Correction, Matrix
from bigsvd.planning.cost import Cost, Prospect, besides
from bigsvd.planning.demands import Question
from bigsvd.planning.layout import Layout
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.slabs.kernels import GramKernel


def gram_block(matrix: Matrix) -> np.ndarray:
    """The leading eigenvectors of BᵀB, k and some more, all l where k is not known yet; (N, ≤l).

    Means and divisors enter afterwards, see `Correction`.
    """
    context = matrix.context
    correction = None
    while correction is None:  # a second time only where the first had to find the prescaling
        name = matrix.next_name("gram")
        matrix.prepare(name)
        result = run_pass(context, matrix.spec(name, GramKernel(context.plan.cols)))
        matrix.record_cost(result)
        correction = matrix.absorb_first_pass(name, result)
    G, plan = result.sums["gram"], context.plan
    _correct(G, correction)
    if matrix.norm_squared:
        matrix.fourth = float(np.vdot(G, G)) / matrix.norm_squared**2
    columns = plan.width if plan.request.k == "auto" else min(plan.width, plan.k + BEYOND)
    return leading_vectors(context, G, columns)


def _correct(G: np.ndarray, by: Correction) -> None:
    """Make BᵀB = Γ(G − t·δᵀ − δ·tᵀ + c·δδᵀ)Γ of G = B0ᵀB0, in place; t = c·δ where rows have no weights."""
    G -= np.outer(by.moment, by.delta)
    if by.across is not None:  # else it is 0
        G -= np.outer(by.delta, by.moment - by.count * by.delta)
    G *= by.ratio[:, None] * by.ratio[None, :]


def leading_vectors(context: Context, G: np.ndarray, count: int) -> np.ndarray:
    """Eigenvectors (N, count) of the largest eigenvalues of G (N, N); by a worker's device if it has one."""
    if not context.device.has_own_memory:
        return _leading(G, count)
    vectors: np.ndarray
    (vectors,) = results_of(
        context.executor, [Call(_leading_on, (context.device, G, count), device_share=1.0)]
    )
    return vectors


def _leading(G: np.ndarray, count: int) -> np.ndarray:
    """Copied, else all N of them would stay in memory with these."""
    return np.linalg.eigh(G)[1][:, ::-1][:, :count].copy()


@travels
def _leading_on(device: Device, G: np.ndarray, count: int) -> np.ndarray:
    """In a worker: the same on its device, or beside it where that is too full."""
    try:
        vectors = device.xp.linalg.eigh(device.to_device(G))[1]
        return device.to_host(vectors)[:, ::-1][:, :count]
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        return _leading(G, count)


class Gram(Method):
    """See the module."""

    name = "gram"

    def check(self, request: Request) -> None:
        """Its answer takes two passes."""
        super().check(request)
        if request.max_passes == 1:
            raise RequestError(
                "max_passes=1, but method='gram' makes 2 passes", "allow max_passes=2, or use method='krylov'"
            )

    def memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """Two Gram matrices of each lane, its own and the one it sends; three in the leading process."""
        return {"Gram matrices": 8 * layout.N**2 * (2 * question.machine.threads + 3)}

    def device_memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """Each lane's sums and a product; at the end one matrix with its eigenvectors and their workspace."""
        lanes = question.machine.threads * layout.N**2 * (16 + question.itemsize)
        return {"Gram matrices": max(lanes, 40 * layout.N**2)}

    def expected_passes(self, request: Request, layout: Layout, share: float) -> float:
        """One for BᵀB, one that forms and certifies the answer."""
        del share
        return 2.0 + self.passes_for_means(request, layout)

    def seconds(self, cost: Cost, layout: Layout, prospect: Prospect) -> tuple[float, float]:
        """The products of BᵀB, dense ones, are as many as those of half as many columns as B has."""
        first = cost.dense.of_pass(layout, prospect.lanes, -(-layout.N // 2))
        second = cost.of_pass(layout, prospect.lanes, layout.k + BEYOND)
        passes = first + second + prospect.full_passes * besides(layout)
        return 0.0, passes + cost.of_eigenvectors(layout.N)

    def describe_start(self, plan: Plan) -> str:
        """Always the same."""
        del plan
        return "Gram matrix"

    def run(self, matrix: Matrix, goal: Goal) -> Solution:
        """The Krylov iteration from the eigenvectors of BᵀB."""
        return iterate(KrylovRun(matrix, gram_block(matrix), goal.request.seed), goal)


METHOD = Gram()
