"""First block from the Gram matrix BᵀB: one pass, exact up to its squared condition.

The Krylov iteration that follows makes the one further pass that gives U and the certificate, and more where
rounding of the squared spectrum left the tolerance unmet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.device import Array, Device
from bigsvd.errors import travels
from bigsvd.executor import Call, results_of
from bigsvd.matrix import Matrix
from bigsvd.passes import Context, run_pass
from bigsvd.planning import BEYOND
from bigsvd.scratch import Scratch


@dataclass(frozen=True)
class GramKernel:
    """G = BᵀB (N, N)."""

    cols: int

    def start(self, scratch: Scratch, device: Device, dtype: str) -> Gram:
        """The operator of one lane."""
        del scratch, dtype
        return Gram(device, self.cols)


class Gram:
    """`GramKernel` at work in one lane."""

    def __init__(self, device: Device, cols: int) -> None:
        self._device = device
        self._total = device.to_device(np.zeros((cols, cols)))

    def forward(self, slab: Array, cols: slice) -> None:
        """Nothing: there is no Y."""

    def backward(self, slab: Array, y: Array | None, rows: slice, cols: slice) -> None:
        """Add slabᵀ·slab to float64 sums; slabs are whole rows."""
        del y, rows, cols
        self._total += slab.T @ slab

    def finish_panel(self, y: list[Array], rows: slice) -> None:
        """Never called: `forward` gives nothing."""

    def sums(self) -> dict[str, np.ndarray]:
        """G."""
        return {"gram": self._device.to_host(self._total)}


def gram_block(matrix: Matrix) -> np.ndarray:
    """The leading eigenvectors of BᵀB, k and some more, all l where k is not known yet; (N, ≤l).

    Means and divisors enter afterwards: for B = (B0 − 1δᵀ)Γ, BᵀB = Γ(G0 − M·δδᵀ)Γ.
    """
    context = matrix.context
    correction = None
    while correction is None:  # a second time only where the first had to find the prescaling
        name = matrix.next_name("gram")
        matrix.prepare(name)
        result = run_pass(context, matrix.spec(name, GramKernel(context.plan.cols)))
        matrix.charge(result)
        correction = matrix.learn(name, result)
    G = result.sums["gram"]
    G -= context.plan.rows * np.outer(correction.delta, correction.delta)
    G *= correction.ratio[:, None] * correction.ratio[None, :]
    plan = context.plan
    columns = plan.width if plan.request.k == "auto" else min(plan.width, plan.k + BEYOND)
    return leading_vectors(context, G, columns)


def leading_vectors(context: Context, G: np.ndarray, count: int) -> np.ndarray:
    """Eigenvectors (N, count) of the largest eigenvalues of G (N, N); by a worker's device if it has one."""
    if not context.device.apart:
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
