"""SoftImpute: completion of the new data alone, without any teacher; see `completion`."""

from __future__ import annotations

from dataclasses import dataclass

from bigsvd.distill.baselines import ByEntries, Filler, Panels, stacked, too_large
from bigsvd.distill.basis import Basis
from bigsvd.distill.completion import complete

_COPIES = 6  # matrices of the size of the data that are held at once


@dataclass(frozen=True, eq=False)
class SoftImpute:
    """min ½‖P_Ω(X − M)‖² + λ‖M‖_*, of a rank no larger than the teacher's; it holds the new data in memory.

    Attributes:
        basis, k: of the teacher, in whose coordinates the outcome is told. seed: of the entries that choose
            the penalty. memory_bytes: that it may take.

    """

    basis: Basis
    k: int
    seed: int
    memory_bytes: int
    name: str = "SoftImpute"

    def refusal(self, rows: int) -> str | None:
        """See `Baseline.refusal`."""
        needed = 8 * _COPIES * rows * self.basis.n
        return too_large(f"{self.name} of {rows:,} x {self.basis.n:,}", needed, self.memory_bytes)

    def fit(self, new: Panels) -> Filler:
        """See `Baseline.fit`."""
        rows = stacked(new)
        completed = complete(rows, min(self.basis.r, *rows.values.shape), self.seed)
        return ByEntries(self.basis, self.k, lambda rows: completed[rows.start : rows.start + len(rows)])
