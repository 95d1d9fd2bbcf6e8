"""Dask's direct tall-and-skinny SVD (`dask.array.linalg.svd`, TSQR of Benson, Gleich & Demmel 2013).

Full precision, one read, but Dask holds the Q of every panel until R is known: the matrix must fit in memory.
"""

from __future__ import annotations

from typing import Any

import dask.array as da

from bigsvd.methods.by_dask import DaskMethod
from bigsvd.methods.choosing import Shortfall
from bigsvd.methods.matrix import Matrix
from bigsvd.planning.demands import Question
from bigsvd.planning.layout import Layout
from bigsvd.request import Request


class TallSkinny(DaskMethod):
    """See the module."""

    name = "tall_skinny"

    def memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """The matrix with the Q of every panel; and the R of every panel, stacked for another QR."""
        stacked = min(layout.M, -(-layout.M // layout.panel_rows) * layout.N)
        return {
            "whole matrix held by Dask": 2 * layout.M * layout.N * question.itemsize,
            "QR of Dask's stacked triangles": max(32 * stacked * layout.N, 72 * layout.N**2),
        }

    def reads(self, request: Request) -> float:
        """One."""
        del request
        return 1.0

    def factors(self, B: Any, matrix: Matrix, request: Request) -> tuple[Any, Any, Any]:
        """All triplets, of which the leading are taken."""
        del matrix, request
        U, s, Vt = da.linalg.svd(B, coerce_signs=False)
        return U, s, Vt

    def lack(self, matrix: Matrix, request: Request) -> Shortfall:
        """Only rounding can be the cause."""
        del request
        return Shortfall(f"rounding of {matrix.dtype} products", "ask for a smaller k or method='krylov'")


METHOD = TallSkinny()
