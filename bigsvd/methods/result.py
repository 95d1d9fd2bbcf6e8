"""From a Krylov subspace, or from factors that came another way, to factors on disk and their residuals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bigsvd.certificate import TwoSidedKernel
from bigsvd.factors import FOLDER, chunk_lines
from bigsvd.forming import LongFactor, Target
from bigsvd.matrix import Correction, Matrix
from bigsvd.methods.krylov import KrylovRun
from bigsvd.passes import Context, run_pass
from bigsvd.source import SourceFacts

# σ below 100·√eps·σ1 is not resolved by a Gram matrix: its squares differ by less than their rounding.
_GRAM_LIMIT = 1e4


@dataclass(frozen=True)
class Triplets:
    """Singular triplets of B; the long factor (M, k) is already in the factor folder of scratch.

    Attributes:
        sigma: (k,) descending, prescaled. short: (N, k) orthonormal. beyond: computed values below the k-th.
        residuals: (k,). basis: "ritz" or "two-sided", see `Certificate`. error: exact ‖B−U·S·Vᵀ‖_F/‖B‖_F where
            a two-sided pass gave it. dropped: values below the noise floor that were left out.
    """

    sigma: np.ndarray
    short: np.ndarray
    beyond: np.ndarray
    residuals: np.ndarray
    basis: str
    error: float | None
    dropped: int


def long_target(context: Context, k: int, dtype: str) -> tuple[Target, int]:
    """Create the long factor's array; where it is, and its chunk rows."""
    plan = context.plan
    name = f"{FOLDER}/{'Vt' if plan.transposed else 'U'}"
    rows = chunk_lines(k, plan.rows, dtype)
    shape, chunks = ((k, plan.rows), (k, rows)) if plan.transposed else ((plan.rows, k), (rows, k))
    context.scratch.create(name, shape, chunks, dtype)
    return Target(name, plan.transposed), rows


def noise_floor(matrix: Matrix, sigma_1: float) -> float:
    """The σ below which rounding of the data and of the products decides: eps·(10σ₁ + 4‖B‖_F(1/√M + 1/√N)).

    The second term is the spectral norm of independent relative errors eps of the entries.
    """
    plan = matrix.context.plan
    data = np.dtype(SourceFacts.from_dict(plan.facts).dtype)
    eps = max(matrix.eps, float(np.finfo(data).eps) if data.kind == "f" and data.itemsize >= 4 else 0.0)
    return eps * (10 * sigma_1 + 4 * np.sqrt(matrix.norm_squared) * (plan.rows**-0.5 + plan.cols**-0.5))


def finish_krylov(run: KrylovRun, k: int, tol: float) -> Triplets:
    """The k leading Ritz triplets of a Krylov run, orthonormal to rounding, with the long factor written.

    u = B·v/σ for Ritz vectors v, so B·v = σu holds and the residual is ‖Bᵀu − σv‖. Where σ spans more than a Gram
    matrix resolves, Y is orthonormalised by TSQR and residuals come from a two-sided pass if the tolerance needs it.
    """
    matrix, space, context = run.matrix, run.subspace, run.context
    k = min(k, space.width)
    ritz = space.ritz(0)
    squared = bool(ritz.theta[k - 1] > _GRAM_LIMIT * matrix.eps * ritz.theta[0])
    dtype = matrix.dtype
    chunk_rows = chunk_lines(k, context.plan.rows, dtype)
    if squared:
        all_sigma, W = np.sqrt(ritz.theta), ritz.coordinates
    else:
        R = LongFactor(context, space.parts, np.eye(space.width), chunk_rows, "qr").triangle()
        _, all_sigma, Wt = np.linalg.svd(R)
        W = Wt.T
    kept = max(1, int(np.sum(all_sigma[:k] > noise_floor(matrix, float(all_sigma[0])))))
    sigma, W = all_sigma[:kept], W[:, :kept]
    sigma, W, combine = _polish(context, space.parts, sigma, W, chunk_rows)
    short = space.K @ W
    signs = _signs(context, space.parts, short, combine, chunk_rows)
    short, combine = short * signs, combine * signs
    target, chunk_rows = long_target(context, kept, dtype)
    LongFactor(context, space.parts, combine, chunk_rows, "write").write(target)
    residue = (space.Z @ (W * signs)) - short * sigma**2
    residuals = np.sqrt(np.einsum("ij,ij->j", residue, residue)) / sigma**2
    triplets = Triplets(sigma, short, all_sigma[kept:], residuals, "ritz", None, k - kept)
    unresolved = residuals > np.maximum(tol, 0)
    if not squared and bool(np.any(unresolved & (100 * matrix.eps * (sigma[0] / sigma) ** 2 > tol))):
        return certify_two_sided(matrix, triplets, target)
    return triplets


def _polish(
    context: Context, parts: list, sigma: np.ndarray, W: np.ndarray, chunk_rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make U = Y·W/σ orthonormal to rounding (Cholesky QR, Yamamoto et al. 2015) and refit σ and W to it.

    U = Q·R, so Y·W = Q·(R·diag(σ)); with the SVD P·σ'·Oᵀ of that core, U' = Q·P, W' = W·O.
    """
    combine = W / sigma
    gram = LongFactor(context, parts, combine, chunk_rows, "gram").gram()
    R = np.linalg.cholesky((gram + gram.T) / 2).T
    P, refined, Ot = np.linalg.svd(R * sigma)
    return refined, W @ Ot.T, combine @ np.linalg.solve(R, P)


def _signs(context: Context, parts: list, short: np.ndarray, combine: np.ndarray, chunk_rows: int) -> np.ndarray:
    """Signs that make the largest |entry| of each row of Vt positive."""
    if context.plan.transposed:
        return LongFactor(context, parts, combine, chunk_rows, "signs").signs()
    largest = np.argmax(np.abs(short), axis=0)
    return np.where(short[largest, np.arange(short.shape[1])] < 0, -1.0, 1.0)


@dataclass(frozen=True)
class TwoSidedResult:
    """Measured by one pass: ‖B·v−σu‖/σ and ‖Bᵀ·u−σv‖/σ, each (k,), uᵀBv (k,), and ‖B−U·S·Vᵀ‖_F/‖B‖_F."""

    left: np.ndarray
    right: np.ndarray
    rayleigh: np.ndarray
    error: float
    correction: Correction | None


def measure_two_sided(matrix: Matrix, sigma: np.ndarray, short: np.ndarray, target: Target) -> TwoSidedResult:
    """A pass over the data for given factors, U and V taken as independent."""
    context, scratch = matrix.context, matrix.context.scratch
    correction = None
    while True:
        name = f"pass-{matrix.passes:03d}"
        if not scratch.has(f"{name}/values"):
            matrix.prepare(name)
            scratch.write(f"{name}/short", short)
            scratch.write(f"{name}/values", sigma)
        kernel = TwoSidedKernel(f"{name}/short", target.name, f"{name}/values", target.transposed)
        known = matrix.known
        result = run_pass(context, matrix.spec(name, kernel))
        matrix.costs.append(result)
        if known:
            break
        correction = matrix.learn(name, result)
        if correction is not None:
            break
    sums = result.sums
    back = sums["back"] - short * sigma
    safe = np.where(sigma > 0, sigma, 1.0)
    product = (sigma[:, None] * sums["gram"] * sigma) * (short.T @ short)
    rayleigh = np.diag(sums["core"])
    missing = max(0.0, matrix.norm_squared - 2 * float(np.sum(rayleigh * sigma)) + float(np.sum(product)))
    return TwoSidedResult(
        np.sqrt(sums["left"]) / safe,
        np.sqrt(np.einsum("ij,ij->j", back, back)) / safe,
        rayleigh,
        float(np.sqrt(missing / matrix.norm_squared)) if matrix.norm_squared else 0.0,
        correction,
    )


def certify_two_sided(matrix: Matrix, triplets: Triplets, target: Target) -> Triplets:
    """The same triplets with residuals and error measured by a pass over the data."""
    found = measure_two_sided(matrix, triplets.sigma, triplets.short, target)
    return replace(
        triplets, residuals=np.maximum(found.left, found.right), basis="two-sided", error=found.error
    )
