"""G = V_Ωᵀ·Ψ_Ω⁻¹·V_Ω of many rows, each with columns Ω of its own: by the way that takes the least."""

from __future__ import annotations

from typing import Any

from bigsvd.distill.basis import Basis, namespace_of

Array = Any

# Share of the columns up to which those of each row are gathered: beyond, one product over all columns is
# faster (measured on one core for r = 50: .17 µs a gathered column, .051 µs a column of the product).
_FEW = 0.25
_GATHERED_BYTES = 2**25  # of the components of some rows at a time


def matrices(basis: Basis, seen: Array, count: Array) -> Array:
    """G of each row, or of all: by the way that takes the least of the three."""
    xp = namespace_of(seen)
    b, n = seen.shape
    if b == 0:
        return xp.zeros((0, basis.r, basis.r))
    if bool(xp.all(seen == seen[:1, :])):
        return _of_one_mask(basis, seen[0, :])[None, ...]
    most, fewest = int(xp.max(count)), int(xp.min(count))
    if most <= _FEW * n:
        return _gathered(basis, seen, most)
    if n - fewest <= _FEW * n:
        return basis.whole - _gathered(basis, ~seen, n - fewest)
    return _by_pairs(basis, seen)


def _of_one_mask(basis: Basis, seen: Array) -> Array:
    """G of a row with these columns (n,)."""
    xp = namespace_of(seen)
    part = xp.take(basis.scaled, xp.nonzero(seen)[0], axis=0)
    return part.mT @ part


def _gathered(basis: Basis, seen: Array, most: int) -> Array:
    """G of rows that have no more than so many columns each: n does not matter."""
    xp = namespace_of(seen)
    G = xp.empty((seen.shape[0], basis.r, basis.r))
    step = max(1, _GATHERED_BYTES // (8 * basis.r * max(1, most)))
    for start in range(0, seen.shape[0], step):
        some = slice(start, start + step)
        part = _lines(basis.scaled, _places(seen[some, :], most))
        G[some, ...] = part.mT @ part
    return G


def _places(seen: Array, most: int) -> Array:
    """The numbers of the columns that each row has, (b, most); n where it has no further."""
    xp = namespace_of(seen)
    row, column = xp.nonzero(seen)
    first = xp.searchsorted(row, xp.arange(seen.shape[0] + 1))
    wanted = first[:-1, None] + xp.arange(most)
    beyond = xp.full((1,), seen.shape[1], dtype=column.dtype)  # what a row finds that has no further
    found = xp.where(wanted < first[1:, None], wanted, column.shape[0])
    return _lines(xp.concat([column, beyond]), found)


def _lines(array: Array, numbers: Array) -> Array:
    """The lines of an array that a table (b, c) numbers, (b, c, ...)."""
    xp = namespace_of(array)
    found = xp.take(array, xp.reshape(numbers, (-1,)), axis=0)
    return xp.reshape(found, (*numbers.shape, *array.shape[1:]))


def _by_pairs(basis: Basis, seen: Array) -> Array:
    """G of each row as one product: the columns it has by the products of their components, pair by pair."""
    xp = namespace_of(seen)
    sums: Array = 0.0
    for some, products in basis.products():
        sums = sums + xp.astype(seen[:, some], products.dtype) @ products
    return xp.reshape(xp.take(sums, basis.pairs[2], axis=1), (seen.shape[0], basis.r, basis.r))
