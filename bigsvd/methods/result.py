"""From the subspace of an iteration, or from factors found another way, to triplets and their residuals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from bigsvd.execution.long_factor import LongFactor
from bigsvd.execution.passes import Context, run_pass
from bigsvd.methods.iteration import BlockIteration
from bigsvd.methods.matrix import Matrix
from bigsvd.orientation import largest_entries, signs
from bigsvd.results.factor_array import FactorArray
from bigsvd.results.store import chunk_lines
from bigsvd.slabs.kernels import TwoSidedKernel

# σ below 100·√eps·σ1 is not resolved by a Gram matrix: its squares differ by less than their rounding.
_GRAM_LIMIT = 1e4


@dataclass(frozen=True)
class Triplets:
    """Singular triplets of B; the long factor (M, k) is already in the factor folder of scratch.

    Attributes:
        sigma: (k,) descending, prescaled. short: (N, k) orthonormal. beyond: computed values below the k-th.
        residuals: (k,). basis: "ritz" or "two-sided", see `Certificate`. error: exact ‖B−U·S·Vᵀ‖_F/‖B‖_F
            where a two-sided pass gave it, or where all values behind are known: then exact to `error_floor`,
            else to that of a difference of squares. dropped: values below `noise_floor` that were left out.

    """

    sigma: np.ndarray
    short: np.ndarray
    beyond: np.ndarray
    residuals: np.ndarray
    basis: str
    error: float | None
    dropped: int
    noise_floor: float
    error_floor: float | None = None


def long_target(context: Context, k: int, dtype: str) -> tuple[FactorArray, int]:
    """Create the long factor's array; where it is, and its chunk rows."""
    rows, target = chunk_lines(k, context.plan.rows, dtype), FactorArray.of(context.source.orientation.long)
    target.create(context.scratch, (context.plan.rows, k), rows, dtype)
    return target, rows


def rounding_of(matrix: Matrix) -> float:
    """The coarser of the relative rounding of the data and of the products."""
    data = np.dtype(matrix.context.plan.facts.dtype)
    return max(matrix.eps, float(np.finfo(data).eps) if data.kind == "f" and data.itemsize >= 4 else 0.0)


def noise_floor(matrix: Matrix, sigma_1: float, eps: float) -> float:
    """The σ below which relative rounding eps decides: eps·(10σ₁ + 4‖B‖_F(1/√M + 1/√N)).

    The second term is the spectral norm of independent relative errors eps of the entries.
    """
    plan = matrix.context.plan
    floor: float = 10 * sigma_1 + 4 * matrix.norm_squared**0.5 * (plan.rows**-0.5 + plan.cols**-0.5)
    return eps * floor


@dataclass(frozen=True)
class Resolved:
    """σ (L,) of B·K to rounding of σ₁, and right vectors W (L, L) in coordinates of K."""

    sigma: np.ndarray
    W: np.ndarray


def resolve(run: BlockIteration) -> Resolved:
    """Values that a Gram matrix of B, which has their squares, could not tell from rounding; reads Y once.

    Y that was computed in float32 has nothing that float64's Gram matrix of it would not resolve, down to
    1e-8 of the first: it takes a third of the memory and of the time of a QR.
    """
    long = LongFactor(run.matrix.context, run.long_parts(np.eye(run.subspace.width)), None, 1024)
    if run.matrix.dtype == "float64":
        _, sigma, Wt = np.linalg.svd(long.triangle())
        return Resolved(sigma, Wt.T)
    gram = long.gram()
    theta, W = np.linalg.eigh((gram + gram.T) / 2)
    return Resolved(np.sqrt(np.maximum(theta[::-1], 0.0)), W[:, ::-1])


Refit: TypeAlias = Callable[[np.ndarray, np.ndarray], int | None]


def as_formed(sigma: np.ndarray, behind: np.ndarray) -> int:
    """All triplets that were formed."""
    del behind
    return int(sigma.size)


@dataclass(frozen=True)
class Finish:
    """How many triplets of a Krylov run are formed, and how well.

    Attributes:
        k: their number. tol: of their residuals.
        refit: (σ, σ behind) of what was formed -> how many of these to keep; None where more are needed.
        eps: relative rounding below which a value is noise.
        resolved: the values of the run, if these were computed already.
        complete: whether the values behind are all that B has.

    """

    k: int
    tol: float
    refit: Refit
    eps: float
    resolved: Resolved | None = None
    complete: bool = False


def finish_iteration(run: BlockIteration, finish: Finish) -> Triplets:
    """The k leading triplets of a Krylov run, orthonormal to rounding, with the long factor written.

    u = B·v/σ for Ritz vectors v, so B·v = σu holds and the residual is ‖Bᵀu − σv‖. Where σ spans more than a
    Gram matrix resolves, Y is orthonormalised by TSQR instead, and where it is rounding of BᵀB that keeps a
    residual above the tolerance, by `_graded`.
    """
    matrix, space, k = run.matrix, run.subspace, finish.k
    ritz = space.ritz(0)
    plain = finish.resolved is None and k <= space.width
    if plain and ritz.theta[k - 1] > _GRAM_LIMIT * matrix.eps * ritz.theta[0]:
        return _ritz_triplets(run, np.sqrt(ritz.theta), ritz.coordinates, finish)
    found = finish.resolved or resolve(run)
    sigma, W = found.sigma, found.W
    solid = sigma > noise_floor(matrix, float(sigma[0]), finish.eps)
    solid[0] = True
    residuals = _ritz_residuals(run, sigma[solid][:k], W[:, solid][:, :k])
    rounding = 100 * matrix.eps * (sigma[0] / sigma[solid][:k]) ** 2
    if np.any((residuals > finish.tol) & (residuals <= rounding)):
        most = max(k, matrix.context.plan.width)  # columns of a block, for which there is memory
        behind = np.append(sigma[solid][most:], sigma[~solid])
        return _graded(run, sigma[solid][:most], W[:, solid][:, :most], behind, finish)
    return _ritz_triplets(run, sigma, W, finish)


def _ritz_residuals(run: BlockIteration, sigma: np.ndarray, W: np.ndarray) -> np.ndarray:
    """‖BᵀB·v − σ²v‖/σ² for v = K·W, (k,), plus the rounding of BᵀB·v, below which it cannot be seen."""
    residue = run.subspace.Z @ W - (run.subspace.K @ W) * sigma**2
    seen = np.sqrt(np.einsum("ij,ij->j", residue, residue)) / sigma**2
    return np.asarray(seen + run.matrix.eps * (sigma[0] / sigma) ** 2)


def _ritz_triplets(run: BlockIteration, all_sigma: np.ndarray, W: np.ndarray, finish: Finish) -> Triplets:
    """Triplets with u = B·v/σ for v = K·W; values below the noise floor are dropped.

    Values that are formed differ from Ritz values by rounding. Where a rule then asks for another k than
    theirs, that many are formed.
    """
    matrix = run.matrix
    floor = noise_floor(matrix, float(all_sigma[0]), finish.eps)
    kept = max(1, int(np.sum(all_sigma[: finish.k] > floor)))
    while True:
        long = _OrthonormalLong(run, W[:, :kept] / all_sigma[:kept])
        # Y·W = U·(R·diag(σ)): the SVD of that core refits σ and both sides.
        P, sigma, Ot = np.linalg.svd(long.R * all_sigma[:kept])
        asked = finish.refit(sigma, all_sigma[kept:])
        if asked is not None or kept + 1 > int(np.sum(all_sigma > floor)):
            break
        kept += 1
    count = min(kept, asked or kept)
    behind = np.concatenate([sigma[count:], all_sigma[kept:]])
    V = W[:, :kept] @ Ot.T[:, :count]
    short, _ = long.write(run.subspace.K @ V, P[:, :count])
    residuals = _ritz_residuals(run, sigma[:count], V)
    dropped = max(0, finish.k - kept)
    found = Triplets(sigma[:count], short, behind, residuals, "ritz", None, dropped, floor)
    return _with_summed_error(run, found, behind, finish)


def _with_summed_error(run: BlockIteration, found: Triplets, behind: np.ndarray, finish: Finish) -> Triplets:
    """The same with its error from the values behind, where these are all that there are and resolved."""
    if not finish.complete or finish.resolved is None:
        return found
    error = float(np.linalg.norm(behind)) / run.matrix.norm_squared**0.5
    floor = run.matrix.eps * run.subspace.width**0.5
    return replace(found, error=error, error_floor=floor)


def _graded(
    run: BlockIteration, sigma: np.ndarray, W: np.ndarray, noise: np.ndarray, finish: Finish
) -> Triplets:
    """Triplets of a spectrum too steep for BᵀB: B ≈ U0·(U0ᵀB), U0 = orth(Y), by a pass, certified by another.

    Halko, Martinsson & Tropp 2011, Alg. 5.1, whose σ are accurate to rounding of σ₁ rather than of σ₁².
    """
    matrix, context = run.matrix, run.matrix.context
    long = _OrthonormalLong(run, W / sigma)
    start = FactorArray("graded/long")
    start.create(context.scratch, (context.plan.rows, sigma.size), long.chunk_rows, matrix.dtype)
    long.factor(np.eye(sigma.size), long.chunk_rows).write(start)
    sums = _two_sided_pass(matrix, sigma, run.subspace.K @ W, start)
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
    return _with_summed_error(run, certified, np.append(found[kept:], noise), finish)


class _OrthonormalLong:
    """U = (Y·C)·R⁻¹, orthonormal to rounding, by Cholesky QR of Y·C (Yamamoto et al. 2015)."""

    def __init__(self, run: BlockIteration, combine: np.ndarray) -> None:
        self._matrix = run.matrix
        self._parts = run.long_parts(combine)
        self.chunk_rows = chunk_lines(combine.shape[1], run.context.plan.rows, "float64")
        gram = self._long(None, self.chunk_rows).gram()
        self.R = np.linalg.cholesky((gram + gram.T) / 2).T

    def _long(self, post: np.ndarray | None, chunk_rows: int) -> LongFactor:
        return LongFactor(self._matrix.context, self._parts, post, chunk_rows)

    def factor(self, rotation: np.ndarray, chunk_rows: int) -> LongFactor:
        """U·rotation."""
        return self._long(np.linalg.solve(self.R, rotation), chunk_rows)

    def write(self, short: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, FactorArray]:
        """Write U·rotation as the result's long factor, and return the short one, with the contract's signs.

        Where the long one is V of A, it is formed a first time for its largest entries.
        """
        context = self._matrix.context
        largest: Callable[[], np.ndarray] = context.source.orientation.right(
            long=lambda: self.factor(rotation, self.chunk_rows).largest_entries(),
            short=lambda: largest_entries(short),
        )
        both = signs(largest())
        target, chunk_rows = long_target(context, short.shape[1], self._matrix.dtype)
        self.factor(rotation * both, chunk_rows).write(target)
        return short * both, target


@dataclass(frozen=True)
class TwoSidedResult:
    """Measured by one pass: ‖B·v−σu‖/σ and ‖Bᵀ·u−σv‖/σ, each (k,), uᵀBv/σ (k,), and ‖B−U·S·Vᵀ‖_F/‖B‖_F."""

    left: np.ndarray
    right: np.ndarray
    rayleigh: np.ndarray
    error: float


def _two_sided_pass(
    matrix: Matrix, sigma: np.ndarray, short: np.ndarray, target: FactorArray
) -> dict[str, np.ndarray]:
    """The sums of `TwoSidedKernel`, by a pass that also makes the matrix known if it is the first."""
    context, scratch = matrix.context, matrix.context.scratch
    while True:
        name = matrix.next_name("two-sided")
        if not matrix.holds(name, short=short, values=sigma):
            scratch.remove(name)
            matrix.prepare(name)
            scratch.write(f"{name}/short", short)
            scratch.write(f"{name}/values", sigma)
        kernel = TwoSidedKernel(f"{name}/short", target, f"{name}/values")
        known = matrix.known
        result = run_pass(context, matrix.spec(name, kernel))
        matrix.record_cost(result)
        if known:
            return result.sums
        correction = matrix.absorb_first_pass(name, result)
        if correction is not None and correction.alike:
            return result.sums


def measure_two_sided(
    matrix: Matrix, sigma: np.ndarray, short: np.ndarray, target: FactorArray
) -> TwoSidedResult:
    """A pass over the data for given factors, U and V taken as independent."""
    sums = _two_sided_pass(matrix, sigma, short, target)
    back = sums["back"] - short * sigma
    safe = np.where(sigma > 0, sigma, 1.0)
    product = (sigma[:, None] * sums["gram"] * sigma) * (short.T @ short)
    rayleigh = np.diag(sums["core"])
    missing = max(0.0, matrix.norm_squared - 2 * float(np.sum(rayleigh * sigma)) + float(np.sum(product)))
    return TwoSidedResult(
        np.sqrt(sums["left"]) / safe,
        np.sqrt(np.einsum("ij,ij->j", back, back)) / safe,
        rayleigh / safe,
        float(np.sqrt(missing / matrix.norm_squared)) if matrix.norm_squared else 0.0,
    )


def certify_two_sided(matrix: Matrix, triplets: Triplets, target: FactorArray) -> Triplets:
    """The same triplets with residuals and error measured by a pass over the data."""
    found = measure_two_sided(matrix, triplets.sigma, triplets.short, target)
    return replace(
        triplets, residuals=np.maximum(found.left, found.right), basis="two-sided", error=found.error
    )


def zero_triplets(matrix: Matrix, k: int) -> Triplets:
    """Factors of the zero matrix: s = 0 and unit vectors."""
    context = matrix.context
    plan = context.plan
    target, _ = long_target(context, k, matrix.dtype)
    array = target.open(context.scratch)
    for start, stop in (plan.panel(index) for index in range(plan.panels)):
        rows = (
            np.eye(plan.rows, k, dtype=matrix.dtype)[start:stop]
            if plan.rows <= k
            else _unit_rows(start, stop, k)
        )
        array[start:stop] = rows
    return Triplets(np.zeros(k), np.eye(plan.cols, k), np.zeros(0), np.zeros(k), "ritz", 0.0, 0, 0.0)


def _unit_rows(start: int, stop: int, k: int) -> np.ndarray:
    """Rows start..stop of an (M, k) identity."""
    rows = np.zeros((stop - start, k))
    for i in range(start, min(stop, k)):
        rows[i - start, i] = 1.0
    return rows
