"""What multiplying sparse rows costs on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigsvd.facts import SourceFacts
from bigsvd.machine.stopwatch import seconds_of
from bigsvd.slabs.sparse import scipy_sparse
from bigsvd.slabs.sparse_slab import Corrected

_MOST_ENTRIES = 2**18  # that are not 0
_HELD = 4  # copies of a block of float64, with products and sums


def some_sparse(facts: SourceFacts, rows: int, cols: int) -> Any:
    """Ones at random places (rows, cols), as many as the source has on average, in CSR form."""
    random = np.random.default_rng(0)
    found = scipy_sparse().random(rows, cols, facts.density, "csr", random_state=random)
    found.data[:] = 1
    return found.astype(facts.dtype)


def sparse_rate(facts: SourceFacts, columns: int, size: int) -> float:
    """Flops per second that products of dense rows would need, to take as long; within about `size` bytes."""
    cols = min(facts.shape[1 - facts.lines_axis], size // (_HELD * 8 * columns))
    rows = max(1, min(facts.shape[facts.lines_axis], int(_MOST_ENTRIES / (facts.density * cols))))
    slab = Corrected.of(some_sparse(facts, rows, cols).astype(np.float64), None)
    block, total = np.ones((cols, columns)), np.zeros((columns, cols))

    def once() -> None:
        nonlocal total
        total += slab.adjoint_times(slab.times(block)).T

    return 4.0 * rows * cols * columns / seconds_of(once)
