"""Rayleigh-Ritz extraction: from a subspace K, BᵀB·K and the rows of B·K in scratch to singular triplets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bigsvd.execution.long_factor import BasisBlocks, LongFactor
from bigsvd.methods.estimate import COARSEST
from bigsvd.methods.left import LeftRitz, resolved_by_gram
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.result import (
    Finish,
    Triplets,
    certify_two_sided,
    long_target,
    noise_floor,
    two_sided_pass,
)
from bigsvd.methods.subspace import Subspace
from bigsvd.orientation import largest_entries, signs
from bigsvd.results.factor_array import FactorArray
from bigsvd.results.store import chunk_lines

# σ below 100·√eps·σ1 is not resolved by a Gram matrix: its squares differ by less than their rounding.
_GRAM_LIMIT = 1e4
# Roundings of σ₁² that BᵀB·K may be off by in Bᵀu − σv of left triplets: 1.8 was seen in 5,000 cases.
_LEFT_ROUNDINGS = 4.0


@dataclass(frozen=True)
class Basis:
    """What passes have left: K and BᵀB·K, and by `long_parts`, for C (L, c), what B·K·C is the sum of."""

    matrix: Matrix
    subspace: Subspace
    long_parts: Callable[[np.ndarray], BasisBlocks]


@dataclass(frozen=True)
class Resolved:
    """σ (L,) of B·K to rounding of σ₁, and right vectors W (L, L) in coordinates of K."""

    sigma: np.ndarray
    W: np.ndarray


def resolve(basis: Basis) -> Resolved:
    """Values that a Gram matrix of B, which has their squares, could not tell from rounding; reads Y once.

    Y that was computed in float32 has nothing that float64's Gram matrix of it would not resolve, down to
    1e-8 of the first: it takes a third of the memory and of the time of a QR.
    """
    long = LongFactor(basis.matrix.context, basis.long_parts(np.eye(basis.subspace.width)), None, 1024)
    if basis.matrix.dtype == "float64":
        _, sigma, Wt = np.linalg.svd(long.triangle())
        return Resolved(sigma, Wt.T)
    gram = long.gram()
    theta, W = np.linalg.eigh((gram + gram.T) / 2)
    return Resolved(np.sqrt(np.maximum(theta[::-1], 0.0)), W[:, ::-1])


def extract(basis: Basis, finish: Finish, resolved: Resolved | None, left: LeftRitz | None) -> Triplets:
    """The k leading triplets that a subspace has, orthonormal to rounding, with the long factor written.

    Left Ritz triplets where they are given. Else u = B·v/σ for right Ritz vectors v, so B·v = σu holds and
    the residual is ‖Bᵀu − σv‖. Where σ spans more than a Gram matrix resolves, Y is orthonormalised by TSQR
    instead, and where it is rounding of BᵀB that keeps a residual above the tolerance, by `_graded`.
    `resolved`: what `resolve` gives, if that is known already.
    """
    matrix, space, k = basis.matrix, basis.subspace, finish.k
    plain = not finish.fine and k <= space.width
    if plain and left is not None:
        return _left_triplets(basis, left, finish)
    ritz = space.ritz(0)
    if plain and ritz.theta[k - 1] > _GRAM_LIMIT * matrix.eps * ritz.theta[0]:
        return _ritz_triplets(basis, np.sqrt(ritz.theta), ritz.coordinates, finish)
    found = resolved or resolve(basis)
    sigma, W = found.sigma, found.W
    solid = sigma > noise_floor(matrix, float(sigma[0]), finish.eps)
    solid[0] = True
    residuals = _ritz_residuals(basis, sigma[solid][:k], W[:, solid][:, :k])
    rounding = 100 * matrix.eps * (sigma[0] / sigma[solid][:k]) ** 2
    if np.any((residuals > finish.tol) & (residuals <= rounding)):
        most = max(k, matrix.context.plan.width)  # columns of a block, for which there is memory
        behind = np.append(sigma[solid][most:], sigma[~solid])
        return _graded(basis, sigma[solid][:most], W[:, solid][:, :most], behind, finish)
    return _ritz_triplets(basis, sigma, W, finish)


def _ritz_residuals(basis: Basis, sigma: np.ndarray, W: np.ndarray) -> np.ndarray:
    """‖BᵀB·v − σ²v‖/σ² for v = K·W, (k,), plus the rounding of BᵀB·v, below which it cannot be seen."""
    residue = basis.subspace.Z @ W - (basis.subspace.K @ W) * sigma**2
    seen = np.sqrt(np.einsum("ij,ij->j", residue, residue)) / sigma**2
    return np.asarray(seen + basis.matrix.eps * (sigma[0] / sigma) ** 2)


def _ritz_triplets(basis: Basis, all_sigma: np.ndarray, W: np.ndarray, finish: Finish) -> Triplets:
    """Triplets with u = B·v/σ for v = K·W; values below the noise floor are dropped.

    Values that are formed differ from Ritz values by rounding. Where a rule then asks for another k than
    theirs, that many are formed.
    """
    matrix = basis.matrix
    floor = noise_floor(matrix, float(all_sigma[0]), finish.eps)
    kept = max(1, int(np.sum(all_sigma[: finish.k] > floor)))
    while True:
        long = OrthonormalLong(basis, W[:, :kept] / all_sigma[:kept])
        # Y·W = U·(R·diag(σ)): the SVD of that core refits σ and both sides.
        P, sigma, Ot = np.linalg.svd(long.R * all_sigma[:kept])
        asked = finish.refit(sigma, all_sigma[kept:])
        if asked is not None or kept + 1 > int(np.sum(all_sigma > floor)):
            break
        kept += 1
    count = min(kept, asked or kept)
    behind = np.concatenate([sigma[count:], all_sigma[kept:]])
    V = W[:, :kept] @ Ot.T[:, :count]
    short, _ = long.write(basis.subspace.K @ V, P[:, :count])
    residuals = _ritz_residuals(basis, sigma[:count], V)
    dropped = max(0, finish.k - kept)
    found = Triplets(sigma[:count], short, behind, residuals, "ritz", None, dropped, floor)
    return _with_summed_error(basis, found, behind, finish)


def _left_triplets(basis: Basis, left: LeftRitz, finish: Finish) -> Triplets:
    """Triplets with Bᵀu = σv for u in span B·K; values below the noise floor are dropped.

    U as it is formed decides: v and σ are the SVD of BᵀU. Where a rule then asks for another k than theirs,
    that many are formed.
    """
    matrix, space = basis.matrix, basis.subspace
    floor = noise_floor(matrix, float(left.sigma[0]), finish.eps)
    above = max(1, int(np.sum(left.sigma > floor)))
    most = min(above, max(finish.k, resolved_by_gram(left.ritz, matrix.eps, COARSEST)))
    kept = min(finish.k, above)
    while True:
        left = left.widened(kept)
        long = OrthonormalLong(basis, left.coordinates(kept))
        found = _adjoint_of_long(space, left, long.R)
        asked = finish.refit(found.sigma, left.sigma[kept:])
        if asked is not None or kept == most:
            break
        kept += 1
    count = min(kept, asked or kept)
    sigma = found.sigma[:count]
    bounds, proved = left.bounds(count)
    residuals = np.maximum(found.lost[:count] * bounds[count - 1], found.mismatch[:count]) / sigma
    residuals += _LEFT_ROUNDINGS * matrix.eps * (sigma[0] / sigma) ** 2
    short, _ = long.write(found.V[:, :count], found.rotation[:, :count])
    beyond = np.concatenate([found.sigma[count:], left.sigma[kept:]])
    dropped, audited = max(0, finish.k - kept), not proved[count - 1]
    return Triplets(sigma, short, beyond, residuals, "left", None, dropped, floor, audited=audited)


@dataclass(frozen=True)
class _Adjoint:
    """The SVD BᵀU = V·diag(σ)·rotationᵀ of an orthonormal long factor U (M, c).

    Attributes:
        V: (N, c). lost: (c,) ‖(I−KKᵀ)v‖.
        mismatch: (c,) ‖BᵀU·rotation − V·diag(σ)‖ by column, for BᵀU as Z has it.

    """

    V: np.ndarray
    sigma: np.ndarray
    rotation: np.ndarray
    lost: np.ndarray
    mismatch: np.ndarray


def _adjoint_of_long(space: Subspace, left: LeftRitz, R: np.ndarray) -> _Adjoint:
    """Of U with B·K·C = U·R, C the left coordinates.

    The part of BᵀU in span K is K·(B·K)ᵀU, which R gives to the rounding of B·K. Only the part outside, which
    is small, is taken from Z, which has the rounding of BᵀB.
    """
    back = space.Z @ np.linalg.solve(R.T, left.coordinates(len(R)).T).T
    Q, core = np.linalg.qr(back - space.K @ (space.K.T @ back))
    P, sigma, Ot = np.linalg.svd(np.vstack([left.dual(len(R)) @ R.T, core]), full_matrices=False)
    inside = P[: space.width]
    V = Q @ P[space.width :]
    del Q
    V += space.K @ inside
    back = back @ Ot.T
    back -= V * sigma
    return _Adjoint(V, sigma, Ot.T, np.linalg.norm(P[space.width :], axis=0), np.linalg.norm(back, axis=0))


def _with_summed_error(basis: Basis, found: Triplets, behind: np.ndarray, finish: Finish) -> Triplets:
    """The same with its error from the values behind, where these are all that there are and resolved."""
    if not (finish.complete and finish.fine):
        return found
    error = float(np.linalg.norm(behind)) / basis.matrix.norm_squared**0.5
    floor = basis.matrix.eps * basis.subspace.width**0.5
    return replace(found, error=error, error_floor=floor)


def _graded(basis: Basis, sigma: np.ndarray, W: np.ndarray, noise: np.ndarray, finish: Finish) -> Triplets:
    """Triplets of a spectrum too steep for BᵀB: B ≈ U0·(U0ᵀB), U0 = orth(Y), by a pass, certified by another.

    Halko, Martinsson & Tropp 2011, Alg. 5.1, whose σ are accurate to rounding of σ₁ rather than of σ₁².
    """
    matrix, context = basis.matrix, basis.matrix.context
    long = OrthonormalLong(basis, W / sigma)
    start = FactorArray("graded/long")
    start.create(context.scratch, (context.plan.rows, sigma.size), long.chunk_rows, matrix.dtype)
    long.factor(np.eye(sigma.size), long.chunk_rows).write(start)
    sums = two_sided_pass(matrix, sigma, basis.subspace.K @ W, start)
    Q, core = np.linalg.qr(sums["back"])
    P, found, Ot = np.linalg.svd(core)
    floor = noise_floor(matrix, float(found[0]), finish.eps)
    solid = max(1, int(np.sum(found > floor)))
    kept = min(finish.k, solid)
    while finish.refit(found[:kept], np.append(found[kept:], noise)) is None and kept < solid:
        kept += 1
    kept = min(kept, finish.refit(found[:kept], np.append(found[kept:], noise)) or kept)
    short, target = long.write(Q @ P[:, :kept], Ot[:kept].T)
    dropped = max(0, finish.k - solid)
    triplets = Triplets(found[:kept], short, found[kept:], np.zeros(kept), "two-sided", None, dropped, floor)
    certified = certify_two_sided(matrix, triplets, target)
    return _with_summed_error(basis, certified, np.append(found[kept:], noise), finish)


class OrthonormalLong:
    """U = (Y·C)·R⁻¹, orthonormal to rounding, by Cholesky QR of Y·C (Yamamoto et al. 2015)."""

    def __init__(self, basis: Basis, combine: np.ndarray) -> None:
        self._matrix = basis.matrix
        self._parts = basis.long_parts(combine)
        self.chunk_rows = chunk_lines(combine.shape[1], basis.matrix.context.plan.rows, "float64")
        gram = self._long(None, self.chunk_rows).gram()
        self.R = np.linalg.cholesky((gram + gram.T) / 2).T

    def _long(self, post: np.ndarray | None, chunk_rows: int) -> LongFactor:
        return LongFactor(self._matrix.context, self._parts, post, chunk_rows)

    def factor(self, rotation: np.ndarray, chunk_rows: int) -> LongFactor:
        """U·rotation."""
        return self._long(np.linalg.solve(self.R, rotation), chunk_rows)

    def write(self, short: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, FactorArray]:
        """Write U·rotation as the result's long factor, and return the short one, with the contract's signs.

        Where the long one has the components, it is formed a first time for its largest entries.
        """
        context = self._matrix.context
        if context.source.facts.features_axis == 0:
            largest = self.factor(rotation, self.chunk_rows).largest_entries()
        else:
            largest = largest_entries(short)
        both = signs(largest)
        target, chunk_rows = long_target(context, short.shape[1], self._matrix.dtype)
        self.factor(rotation * both, chunk_rows).write(target)
        return short * both, target
