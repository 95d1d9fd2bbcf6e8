"""`Observed`: what rows with gaps say of their coordinates; all that any stage needs of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bigsvd.distill.basis import Basis, namespace_of
from bigsvd.distill.matrices import matrices
from bigsvd.distill.rows import Rows

Array = Any

_SOME = 0.5  # share of the columns up to which copying those that are seen takes less than multiplying all


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
    count = xp.count_nonzero(rows.seen, axis=1)
    G = matrices(basis, rows.seen, count)
    values, weighted, noise = _told_of(basis, rows, shared=G.shape[0] == 1)
    return Observed(G, values @ weighted, (values * values) @ (1 / noise), count)


def _told_of(basis: Basis, rows: Rows, *, shared: bool) -> tuple[Array, Array, Array]:
    """Values (b, c), Ψ⁻¹·V (c, r) and noise (c,) of all columns, or of those that all rows have.

    What is not seen is 0 and adds nothing, but it is multiplied.
    """
    columns = namespace_of(rows.seen).nonzero(rows.seen[0, :])[0] if shared else None
    if columns is None or columns.shape[0] > _SOME * basis.n:
        return rows.values, basis.weighted, basis.noise
    take = namespace_of(rows.values).take
    return (
        take(rows.values, columns, axis=1),
        take(basis.weighted, columns, axis=0),
        take(basis.noise, columns, axis=0),
    )
