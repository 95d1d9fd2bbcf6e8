"""How wide the blocks of the iterative methods are, and how often they go over the sample.

The planner has to know these, since they decide what a run holds and how long it takes; the methods use them.
All were chosen on the families of `benchmarks passes` (benchmarks/results/passes-small.md).
"""

from __future__ import annotations

# Gaussian columns that go through the first exact pass beside the block. They audit the certificate: what the
# basis has missed shows in them.
PROBES = 10
# Ritz vectors behind the k-th that a correction takes along: one of them may be on its way up.
BEYOND = 10
# Blocks of the subspace in which the warm start looks for the leading vectors of the sample.
SAMPLE_BLOCKS = 4
# Products with the sample for each correction: terms of a Neumann series.
CORRECTION_TERMS = 2
# Passes over the data that a run may make where the request does not say.
DEFAULT_MAX_PASSES = 20
# The largest part of the singular values known so far that a rank rule may choose from a subspace that still
# grows: those behind are too small yet.
AUTO_SHARE = 0.75
# Part of the k-th value below which the values behind it have to lie for few more columns to resolve it.
SPECTRAL_GAP = 0.8
# Columns that BLAS kernels handle at a time: fewer take as long (results of 60 and 64 columns are alike).
_BLAS_COLUMNS = 16


def block_width(k: int, cols: int) -> int:
    """Columns of a block that finds k vectors in few passes; at most `cols`."""
    return min(cols, whole_columns(max(3 * k, k + 40, first_block_width(k, cols))))


def first_block_width(k: int, cols: int) -> int:
    """Columns of the first block where the values of the sample fall off fast behind the k-th.

    They make up, with the probes that go with them, what BLAS kernels handle at a time.
    """
    return min(cols, whole_columns(max(k + k // 2, k + 32) + PROBES) - PROBES)


def whole_columns(least: int) -> int:
    """The least number of columns, no fewer than these, that takes BLAS kernels no longer."""
    return -(-least // _BLAS_COLUMNS) * _BLAS_COLUMNS
