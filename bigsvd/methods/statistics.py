"""Passes beside an iteration: one for exact means, divisors and norm, one that compares checksums."""

from __future__ import annotations

from bigsvd.execution.passes import run_pass
from bigsvd.methods.matrix import Matrix


def statistics_pass(matrix: Matrix) -> None:
    """Make the matrix known, and its entries known to be finite, before Dask's method sees them."""
    while not matrix.known:
        name = matrix.next_name("statistics")
        matrix.prepare(name)
        result = run_pass(matrix.context, matrix.spec(name))
        matrix.record_cost(result)
        matrix.absorb_first_pass(name, result)


def check_unchanged(matrix: Matrix) -> None:
    """Compare the checksum of every panel with the first pass's, by a pass of its own.

    Raises:
        SourceChangedError: the data is no longer what scratch was computed from.

    """
    matrix.context.scratch.remove("recheck")
    matrix.prepare("recheck", learns=False)
    matrix.record_cost(run_pass(matrix.context, matrix.spec("recheck")))
