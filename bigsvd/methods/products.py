"""The pass that most methods are made of: Y = B·P and Z = BᵀY for a block P, in one read."""

from __future__ import annotations

import numpy as np

from bigsvd.execution.passes import PassResult, run_pass
from bigsvd.methods.matrix import Matrix
from bigsvd.slabs.kernels import ProductKernel


def product_pass(
    matrix: Matrix, name: str, columns: np.ndarray, *, keep: int, sample: bool, look: bool = False
) -> PassResult:
    """BᵀB·P in `sums["z"]` for P = `columns` (N, c), and the first `keep` columns of B·P in `<name>/y`.

    Over all panels or the sample's, with a `look` at what they hold; replayed if scratch has it, and then for
    the very columns it had.
    """
    context = matrix.context
    scratch, plan = context.scratch, context.plan
    if not matrix.holds(name, block=columns):
        scratch.remove(name)
        matrix.prepare(name, sample=sample)
        if keep:
            scratch.create(f"{name}/y", (plan.rows, keep), (plan.panel_rows, keep), matrix.dtype)
        scratch.write(f"{name}/block", columns)
    kernel = ProductKernel(f"{name}/block", f"{name}/y", keep)
    result = run_pass(context, matrix.spec(name, kernel, sample=sample, look=look))
    matrix.record_cost(result, sample=sample)
    return result
