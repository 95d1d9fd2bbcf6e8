"""`Observed`: what rows with gaps say of their coordinates; all that any stage needs of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bigsvd.distill.basis import Basis, namespace_of
from bigsvd.distill.matrices import matrices
from bigsvd.distill.rows import Rows

Array = Any


@dataclass(frozen=True, eq=False)
class Observed:
    """Sufficient statistics of some rows for their coordinates; what follows from them no longer costs n.

    With Ω the columns that a row has, Ψ the noise and V the components:

    Attributes:
        G: V_Ωᵀ·Ψ_Ω⁻¹·V_Ω of each row, (b, r, r), or (1, r, r) where all rows have the same columns.
        t: V_Ωᵀ·Ψ_Ω⁻¹·x_Ω, (b, r).
        energy: Σ_Ω x²/ψ, (b,).
        count: number of entries seen, (b,).

    """

    G: Array
    t: Array
    energy: Array
    count: Array

    def __len__(self) -> int:
        return int(self.t.shape[0])


def observe(basis: Basis, rows: Rows) -> Observed:
    """The statistics of rows of B, float64, where these lie; so must the basis (`Basis.moved`)."""
    xp = namespace_of(rows.values)
    t = rows.values @ basis.weighted
    energy = (rows.values * rows.values) @ (1 / basis.noise)
    count = xp.count_nonzero(rows.seen, axis=1)
    return Observed(matrices(basis, rows.seen, count), t, energy, count)
