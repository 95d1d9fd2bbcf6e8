"""Triplets of the right factor alone, before the pass that would prove them: `stop="estimate"`.

After a pass the subspace K has H·K exactly, H = BᵀB, but of a next block Q the next Rayleigh-Ritz problem

    [ KᵀHK   KᵀHQ ]        is known but for QᵀHQ. Of that, the Nyström part QᵀHK·(KᵀHK)⁻¹·KᵀHQ is exact,
    [ QᵀHK   QᵀHQ ]        and what is behind it is taken from the sample: the same Schur complement of S.

Where the sample shows nothing outside K these are the left Ritz triplets. No part of H comes from the sample
twice, so that one which misleads makes them no worse than these.

Whether they are good is then not asked of the sample. For any v that does not depend on a Gaussian probe ω,
ωᵀ(Hv − θv) = (Hω)ᵀv − θωᵀv is Gaussian with the variance ‖Hv − θv‖², and Hω came with the pass. The mean of
its squares over p probes is the true one times χ²/p (Hutchinson 1989), whatever the data are like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.methods.estimate import COARSEST
from bigsvd.methods.extraction import Basis, OrthonormalLong
from bigsvd.methods.left import LeftRitz, resolved_by_gram
from bigsvd.methods.result import Finish, Triplets, noise_floor
from bigsvd.methods.subspace import Ritz, Subspace
from bigsvd.results.certificate import Foretold, relative_error

# χ² of ten probes is below ten times the square of this once in a thousand: what they show of a residual may
# be so small a part of it.
LEAST_SHOWN = 0.3845


@dataclass(frozen=True)
class Foreseen:
    """The k leading triplets of the problem above.

    Attributes:
        half: EΛ^-½ (L, c) of the right Ritz pairs that are resolved, so that B·K times it is orthonormal.
        sigma: (k,). V: (N, k) orthonormal. outside: (k,) ‖(I−KKᵀ)v‖.
        residuals: ‖Hv − σ²v‖/σ² (k,), each but for a chance of 1 in 1,000 no greater than this.

    """

    half: np.ndarray
    sigma: np.ndarray
    V: np.ndarray
    outside: np.ndarray
    residuals: np.ndarray


@dataclass(frozen=True)
class Probes:
    """Columns W (N, p), independent and Gaussian with a variance of at least `level`² in each entry, and H·W.

    `rounding`: relative, of the products.
    """

    W: np.ndarray
    HW: np.ndarray
    level: float
    rounding: float

    def residuals(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        """Of pairs (θ, v) that do not depend on them: see `Foreseen`."""
        shown = self.HW.T @ V - (self.W.T @ V) * theta
        size = np.sqrt(np.mean(shown**2, axis=0)) / (self.level * LEAST_SHOWN)
        return np.asarray((size + self.rounding * theta[0]) / theta)


def foresee(
    space: Subspace, ritz: Ritz, Q: np.ndarray, behind: np.ndarray, k: int, probes: Probes
) -> Foreseen:
    """The triplets that a pass with the block Q (N, c) would give about.

    `behind`: the sample's estimate of what QᵀHQ has besides its Nyström part, (c, c).
    """
    solid = resolved_by_gram(ritz, probes.rounding, COARSEST)
    cross, inner = space.Z.T @ Q, space.K.T @ space.Z
    half = ritz.coordinates[:, :solid] / np.sqrt(ritz.theta[:solid])
    known = half.T @ cross
    problem = np.block([[(inner + inner.T) / 2, cross], [cross.T, known.T @ known + behind]])
    theta, E = np.linalg.eigh(problem)
    theta, E = np.maximum(theta[::-1][:k], np.finfo(float).tiny), E[:, ::-1][:, :k]
    own, new = np.split(E, [space.width])
    V = space.K @ own
    V += Q @ new
    return Foreseen(half, np.sqrt(theta), V, np.linalg.norm(new, axis=0), probes.residuals(theta, V))


def publish(basis: Basis, left: LeftRitz, seen: Foreseen, finish: Finish) -> Triplets:
    """V and σ as foreseen, and the U in span B·K for which ‖B − U·S·Vᵀ‖_F is least (orthogonal Procrustes).

    Bᵀu is known for it, so ‖Bᵀu − σv‖, uᵀBv and the error are exact. ‖Bv − σu‖² = vᵀHv − 2σ·uᵀBv + σ² has
    vᵀHv = θ + vᵀr with a residual r orthogonal to K, so vᵀr ≤ ‖(I−KKᵀ)v‖·‖r‖.
    """
    matrix, space, sigma = basis.matrix, basis.subspace, seen.sigma
    P, _, Qt = np.linalg.svd((seen.half.T @ (space.Z.T @ seen.V)) * sigma, full_matrices=False)
    combine = seen.half @ (P @ Qt)
    long = OrthonormalLong(basis, combine)
    back = space.Z @ np.linalg.solve(long.R.T, combine.T).T
    rayleigh = np.einsum("ij,ij->j", back, seen.V) / sigma
    back -= seen.V * sigma
    rounding = matrix.eps * (sigma[0] / sigma) ** 2  # of the products, and so of uᵀBv
    of_v = np.sqrt(2 * np.abs(1 - rayleigh) + rounding + seen.outside * seen.residuals)
    residuals = np.maximum(of_v, np.linalg.norm(back, axis=0) / sigma) + rounding
    short, _ = long.write(seen.V, np.eye(sigma.size))
    name = matrix.context.source.orientation.short.name
    foretold = Foretold(name, tuple(map(float, seen.residuals)), tuple(map(float, rayleigh)))
    error, _ = relative_error(sigma, matrix.norm_squared**0.5, matrix.eps, foretold.captured)
    floor = noise_floor(matrix, float(sigma[0]), finish.eps)
    behind = left.sigma[sigma.size :]
    return Triplets(sigma, short, behind, residuals, "estimate", error, 0, floor, foretold=foretold)
