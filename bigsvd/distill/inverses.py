"""Many small symmetric matrices at a time: their inverses, made of products, and by vectors."""

from __future__ import annotations

from typing import Any

from bigsvd.distill.basis import namespace_of

Array = Any

_SMALL = 8  # sides up to which LAPACK's inverse is taken: what it costs beside its arithmetic is then little


def inverses(matrices: Array) -> Array:
    """A⁻¹ of each A (…, r, r), symmetric positive definite.

    By halves: with A = [[P, Qᵀ], [Q, S]] and the Schur complement S − Q·P⁻¹·Qᵀ, which is positive definite
    too, so that nothing needs to be exchanged. Nearly all of it are products of halves, which take 3/5 of the
    time of LAPACK's inverse for r = 50 (measured on one core).
    """
    r = matrices.shape[-1]
    xp = namespace_of(matrices)
    if r <= _SMALL:
        return xp.linalg.inv(matrices)
    half = r // 2
    Q = matrices[..., half:, :half]
    P_inverse = inverses(matrices[..., :half, :half])
    T = Q @ P_inverse
    S_inverse = inverses(matrices[..., half:, half:] - T @ Q.mT)
    X = S_inverse @ T
    found = xp.empty_like(matrices)
    found[..., :half, :half] = P_inverse + T.mT @ X
    found[..., half:, :half] = -X
    found[..., :half, half:] = -X.mT
    found[..., half:, half:] = S_inverse
    return found


def times(matrices: Array, vectors: Array) -> Array:
    """Each matrix, or the one, times its vector: (b, r, r) or (1, r, r) by (b, r)."""
    if matrices.shape[0] == 1:
        return vectors @ matrices[0, ...].mT
    return (matrices @ vectors[:, :, None])[:, :, 0]
