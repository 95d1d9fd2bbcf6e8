"""The passes that methods are made of: Y = B·P and Z = BᵀY for a block P in one read, or any other kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bigsvd.execution.passes import PassResult, run_pass
from bigsvd.methods.matrix import Matrix
from bigsvd.slabs.kernels import ProductKernel
from bigsvd.slabs.operator import Kernel


def product_pass(
    matrix: Matrix, name: str, columns: np.ndarray, *, keep: int, sample: bool, look: bool = False
) -> PassResult:
    """BᵀB·P in `sums["z"]` for P = `columns` (N, c), and the first `keep` columns of B·P in `<name>/y`.

    Over all panels or the sample's, with a `look` at what they hold. One over all panels is replayed if
    scratch has it, and then for the very columns it had.
    """
    context = matrix.context
    scratch, plan = context.scratch, context.plan
    fresh = sample or not matrix.holds(name, block=columns)
    if fresh:
        scratch.remove(name)
    matrix.prepare(name, learns=look or not sample)
    if keep and not scratch.opens(f"{name}/y"):
        scratch.create(f"{name}/y", (plan.rows, keep), (plan.panel_rows, keep), matrix.dtype)
    if fresh:
        scratch.write(f"{name}/block", columns)
    kernel = ProductKernel(f"{name}/block", f"{name}/y", keep)
    result = run_pass(context, matrix.spec(name, kernel, sample=sample, look=look))
    matrix.record_cost(result, sample=sample)
    if sample:
        scratch.remove(f"{name}/block")  # which nobody reads again
    return result


def exact_pass(
    matrix: Matrix, kind: str, kernel: Callable[[str], Kernel], **operands: np.ndarray
) -> PassResult:
    """A pass of `kernel(name)` over the exact matrix, `operands` lying in scratch as `<name>/<operand>`.

    The first pass of a run has to find means, divisors and norm as well. Where the matrix that it multiplied
    turns out to differ from the exact one by more than rounding, it is made a second time.
    """
    scratch = matrix.context.scratch
    while True:
        name, known = matrix.next_name(kind), matrix.known
        fresh = not matrix.holds(name, **operands)
        if fresh:
            scratch.remove(name)
        matrix.prepare(name)
        for operand, values in operands.items() if fresh else ():
            scratch.write(f"{name}/{operand}", values)
        result = run_pass(matrix.context, matrix.spec(name, kernel(name)))
        matrix.record_cost(result)
        if known:
            return result
        correction = matrix.absorb_first_pass(name, result)
        if correction is not None and correction.alike:
            return result
