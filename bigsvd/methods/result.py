"""Triplets, how they are asked for, and the pass that certifies those that no iteration did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from bigsvd.execution.passes import Context
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.products import exact_pass
from bigsvd.results.certificate import Foretold
from bigsvd.results.factor_array import FactorArray
from bigsvd.results.store import chunk_lines
from bigsvd.slabs.kernels import TwoSidedKernel


@dataclass(frozen=True)
class Triplets:
    """Singular triplets of B; the long factor (M, k) is already in the factor folder of scratch.

    Attributes:
        sigma: (k,) descending, prescaled. short: (N, k) orthonormal. beyond: computed values below the k-th.
        residuals: (k,). basis: "ritz", "left", "two-sided" or "estimate", audited and foretold: see
            `Certificate`.
        error: exact ‖B−U·S·Vᵀ‖_F/‖B‖_F where a two-sided pass gave it, or where all values behind are known:
            then exact to `error_floor`, else to that of a difference of squares.
        dropped: values below `noise_floor` that were left out.

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
    audited: bool = False
    foretold: Foretold | None = None

    @property
    def judged(self) -> np.ndarray:
        """The residuals (k,) that have to be within the tolerance."""
        return self.residuals if self.foretold is None else np.asarray(self.foretold.residuals)


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


Refit: TypeAlias = Callable[[np.ndarray, np.ndarray], int | None]


def as_formed(sigma: np.ndarray, behind: np.ndarray) -> int:
    """All triplets that were formed."""
    del behind
    return int(sigma.size)


@dataclass(frozen=True)
class Finish:
    """How many triplets of an iteration are formed, and how well.

    Attributes:
        k: their number. tol: of their residuals.
        refit: (σ, σ behind) of what was formed -> how many of these to keep; None where more are needed.
        eps: relative rounding below which a value is noise.
        fine: whether they are resolved to rounding of σ₁, as `Iteration.fine_sigma` gives them, or of σ₁².
        complete: whether the values behind are all that B has.

    """

    k: int
    tol: float
    refit: Refit
    eps: float
    fine: bool = False
    complete: bool = False


@dataclass(frozen=True)
class TwoSidedResult:
    """Measured by one pass: ‖B·v−σu‖/σ and ‖Bᵀ·u−σv‖/σ, each (k,), uᵀBv/σ (k,), and ‖B−U·S·Vᵀ‖_F/‖B‖_F."""

    left: np.ndarray
    right: np.ndarray
    rayleigh: np.ndarray
    error: float


def two_sided_pass(
    matrix: Matrix, sigma: np.ndarray, short: np.ndarray, target: FactorArray
) -> dict[str, np.ndarray]:
    """The sums of `TwoSidedKernel`, by a pass that also makes the matrix known if it is the first."""

    def kernel(name: str) -> TwoSidedKernel:
        return TwoSidedKernel(f"{name}/short", target, f"{name}/values")

    return exact_pass(matrix, "two-sided", kernel, short=short, values=sigma).sums


def measure_two_sided(
    matrix: Matrix, sigma: np.ndarray, short: np.ndarray, target: FactorArray
) -> TwoSidedResult:
    """A pass over the data for given factors, U and V taken as independent."""
    sums = two_sided_pass(matrix, sigma, short, target)
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
