"""`Observed`: what rows with gaps say of their coordinates; all that any stage needs of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.distill.basis import Basis
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
    """The statistics of rows of B, float64."""
    seen = rows.seen.astype(np.float64)
    weighted = basis.V / basis.noise[:, None]
    first, second = np.triu_indices(basis.r)
    pairs = seen @ (weighted[:, first] * basis.V[:, second])
    G = np.empty((len(seen), basis.r, basis.r))
    G[:, first, second] = pairs
    G[:, second, first] = pairs
    return Observed(G, rows.values @ weighted, rows.values**2 @ (1 / basis.noise), np.sum(rows.seen, axis=1))
