"""`Observed`: what rows with gaps say of their coordinates; all that any stage needs of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bigsvd.distill.basis import Basis
from bigsvd.distill.rows import Rows

Array = Any

# Share of the columns up to which those of each row are gathered: beyond, one product over all columns is
# faster (measured on one core for r = 50: .17 µs a gathered column, .051 µs a column of the product).
_FEW = 0.25
_GATHERED_BYTES = 2**25  # of the components of some rows at a time


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
    xp = rows.values.__array_namespace__()
    t = rows.values @ basis.weighted
    energy = (rows.values * rows.values) @ (1 / basis.noise)
    count = xp.sum(rows.seen, axis=1)
    return Observed(_matrices(basis, rows.seen, count), t, energy, count)


def _matrices(basis: Basis, seen: Array, count: Array) -> Array:
    """G of each row, or of all: by the way that takes the least of the three."""
    xp = seen.__array_namespace__()
    b, n = seen.shape
    if b == 0:
        return xp.zeros((0, basis.r, basis.r))
    if bool(xp.all(seen == seen[:1])):
        return _of_one_mask(basis, seen[0])[None]
    most, fewest = int(xp.max(count)), int(xp.min(count))
    if most <= _FEW * n:
        return _gathered(basis, seen, most)
    if n - fewest <= _FEW * n:
        return basis.whole - _gathered(basis, ~seen, n - fewest)
    return _by_pairs(basis, seen)


def _of_one_mask(basis: Basis, seen: Array) -> Array:
    """G of a row with these columns (n,)."""
    xp = seen.__array_namespace__()
    part = xp.take(basis.scaled, xp.nonzero(seen)[0], axis=0)
    return part.mT @ part


def _gathered(basis: Basis, seen: Array, most: int) -> Array:
    """G of rows that have no more than so many columns each: n does not matter."""
    xp = seen.__array_namespace__()
    G = xp.empty((seen.shape[0], basis.r, basis.r))
    step = max(1, _GATHERED_BYTES // (8 * basis.r * max(1, most)))
    for start in range(0, seen.shape[0], step):
        some = slice(start, start + step)
        part = xp.take(basis.scaled, _places(seen[some], most), axis=0)
        G[some] = part.mT @ part
    return G


def _places(seen: Array, most: int) -> Array:
    """The numbers of the columns that each row has, (b, most); n where it has no further."""
    xp = seen.__array_namespace__()
    row, column = xp.nonzero(seen)
    first = xp.searchsorted(row, xp.arange(seen.shape[0]))
    found = xp.full((seen.shape[0], most), seen.shape[1])
    found[row, xp.arange(row.shape[0]) - first[row]] = column
    return found


def _by_pairs(basis: Basis, seen: Array) -> Array:
    """G of each row as one product: the columns it has by the products of their components, pair by pair."""
    xp = seen.__array_namespace__()
    sums: Array = 0.0
    for some, products in basis.products():
        sums = sums + xp.astype(seen[:, some], products.dtype) @ products
    return xp.reshape(xp.take(sums, basis.pairs[2], axis=1), (seen.shape[0], basis.r, basis.r))
