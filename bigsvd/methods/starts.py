"""First blocks for the Krylov iteration: Gaussian, or from a sample of the panels.

The sample is a few whole panels spread over the data. Products with it, S = (M/rows)·B_sᵀB_s, are passes over
those panels alone, which the workers' caches hold after the first. Their sums come back in memory and nothing
is recorded: a run that was killed takes its sample again. S stands in for BᵀB twice: its leading vectors are
the first block (`sample_block`), and it preconditions the residuals of later ones (`Sample.correct`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.catalog.widths import CORRECTION_TERMS, PROBES, SAMPLE_BLOCKS, SPECTRAL_GAP
from bigsvd.errors import RequestError
from bigsvd.events import SampleTaken
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.products import product_pass
from bigsvd.methods.subspace import Subspace, gaussian, orthonormal_complement
from bigsvd.planning.outlook import Seen
from bigsvd.results.factors import Factors
from bigsvd.slabs.transform import MeansAndDivisors, Transform

# Part of the first block that is random, so that a biased sample cannot hide a direction.
_GAUSSIAN_SHARE = 0.1
# Blocks' worth of the values of the sample that are nearly those of S; the others are too small yet.
_WELL_KNOWN_BLOCKS = 2
# Roundings of the largest value of S on a subspace from which on the others are no longer rounding.
_LEAST_OF_SAMPLE = 1e3
# Times that the sample is looked at, at most: each may teach a prescaling or better means for the next.
_LOOKS = 3


def gaussian_block(matrix: Matrix, seed: int) -> np.ndarray:
    """An orthonormalised Gaussian block (N, l)."""
    plan = matrix.context.plan
    return np.linalg.qr(gaussian(seed, 2, (plan.cols, plan.width)))[0]


class Sample:
    """S = (M/rows)·B_sᵀB_s, the estimate of BᵀB from the panels of the plan's sample."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._scale = 1 / matrix.context.plan.sample_share

    def multiply(self, name: str, X: np.ndarray) -> np.ndarray:
        """S·X (N, c) float64; `name` is the product's place in scratch."""
        return np.asarray(product_pass(self._matrix, name, X, keep=0, sample=True).sums["z"] * self._scale)

    def correct(self, name: str, R: np.ndarray, theta: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Directions (N, c) in which Ritz vectors with residuals R and values θ (c,) err, outside span K.

        The correction t of a Ritz vector solves (θ − P·BᵀB·P)t = r, P the projector off span K (Sleijpen and
        Van der Vorst 1996, Jacobi-Davidson). With S in place of BᵀB its Neumann series t = Σ (P·S·P/θ)ʲ r/θ
        converges where S has nothing above θ left outside K; a term that would grow is kept from growing.
        """

        def off(X: np.ndarray) -> np.ndarray:
            return np.asarray(X - K @ (K.T @ X))

        term = off(R) / theta
        total = term.copy()
        for j in range(CORRECTION_TERMS):
            size = np.linalg.norm(term, axis=0)
            term = off(self.multiply(f"{name}-{j}", term)) / theta
            with np.errstate(divide="ignore", invalid="ignore"):
                growth = np.linalg.norm(term, axis=0) / size
            term = term * np.where(growth > 1, 1 / growth, 1.0)
            total += term
        return np.asarray(total)

    def complement(self, name: str, Q: np.ndarray, K: np.ndarray) -> np.ndarray:
        """QᵀSQ − QᵀSK·(KᵀSK)⁻¹·KᵀSQ (c, c): what S has on span Q besides what its products with K tell."""
        SQ = self.multiply(f"{name}-new", Q)
        cross, width = K.T @ SQ, self._matrix.context.plan.width
        inner = [
            K.T @ self.multiply(f"{name}-{start}", K[:, start : start + width])
            for start in range(0, K.shape[1], width)
        ]
        gram, whole = np.concatenate(inner, axis=1), Q.T @ SQ
        theta, E = np.linalg.eigh((gram + gram.T) / 2)
        solid = theta > _LEAST_OF_SAMPLE * self._matrix.eps * theta[-1]
        half = (E[:, solid] / np.sqrt(theta[solid])).T @ cross
        return np.asarray((whole + whole.T) / 2 - half.T @ half)


@dataclass(frozen=True)
class Start:
    """What a sample is good for: a first block (N, l), vectors behind it (N, c), and what was seen.

    Nothing was where the sample could not be used.
    """

    block: np.ndarray
    behind: np.ndarray
    seen: Seen | None


def sample_block(matrix: Matrix, seed: int, tol: float) -> Start:
    """The leading vectors of the sample, completed with Gaussian columns, and those behind.

    Also gives the matrix its first estimates of means, divisors and prescaling, and float64 products where
    float32 will not resolve the k-th value to `tol`. A tenth of the block, and no
    less than there are probes, is Gaussian, so that a biased sample cannot hide a direction. Where the values
    of the sample fall off fast enough behind the k-th, a narrower block serves; the vectors that it leaves
    out are for a next block that has to be wide.
    """
    plan = matrix.context.plan
    columns = min(plan.narrow, plan.cols)
    matrix.context.progress(SampleTaken(round(plan.sample_share * plan.rows)))
    Q = np.linalg.qr(gaussian(seed, 0, (plan.cols, columns)))[0]
    Z = _first_look(matrix, Q)
    if Z is None:
        return Start(gaussian_block(matrix, seed), np.zeros((plan.cols, 0)), None)
    sample = Sample(matrix)
    space = Subspace(plan.cols, min(plan.cols, SAMPLE_BLOCKS * columns))
    for step in range(SAMPLE_BLOCKS):
        if step > 0:
            Q = orthonormal_complement(Z, space.K, min(columns, plan.cols - space.width), matrix.eps)
            if Q.shape[1] == 0:
                break
            Z = sample.multiply(f"start-{step}", Q)
        space.append(Q, Z)
    ritz = space.ritz(0)
    easy = ritz.theta.size > plan.narrow and ritz.theta[plan.narrow] < SPECTRAL_GAP * ritz.theta[plan.k - 1]
    width = plan.narrow if easy else plan.width
    last = ritz.theta[min(plan.k, ritz.theta.size) - 1]
    if matrix.unresolved(ritz.theta[0], last, tol):
        matrix.dtype = "float64"
    rest = max(PROBES, int(np.ceil(_GAUSSIAN_SHARE * width)))
    vectors = space.K @ ritz.coordinates[:, : plan.width]
    leading, behind = np.split(vectors, [max(0, width - rest)], axis=1)
    more = gaussian(seed, 2, (plan.cols, width - leading.shape[1]))
    seen = Seen(
        ritz.theta[: _WELL_KNOWN_BLOCKS * columns], matrix.norm_squared, round(plan.sample_share * plan.rows)
    )
    block = np.linalg.qr(np.concatenate([leading, more], axis=1))[0]
    return Start(block, behind[:, : plan.width - width], seen)


def warm_block(matrix: Matrix, factors: Factors, seed: int, tol: float) -> np.ndarray:
    """The short factor of published factors, completed with Gaussian columns (N, l).

    Where the basis has become longer, with columns appended to A streamed by rows or rows to A streamed by
    columns, the new entries start at 0. Its means and divisors are the first estimates of the matrix's, and
    products are float64 where float32 will not resolve its last value to `tol`.

    Raises:
        RequestError: the factors are of a matrix with more of these than this one has.

    """
    plan = matrix.context.plan
    orientation = matrix.context.source.orientation
    short = np.asarray(orientation.short.of(factors)[:], dtype=np.float64)
    if short.shape[0] > plan.cols:
        raise RequestError(
            f"{factors.path} is of a matrix with {short.shape[0]} {orientation.column}s, "
            f"this one has {plan.cols}",
            "start without it",
        )
    grown = plan.cols - short.shape[0]
    rms = factors.certificate.frobenius_norm / np.sqrt(np.prod(np.array(factors.shape, dtype=float)))
    matrix.expect(rms)
    if matrix.unresolved(float(factors.s[0]) ** 2, float(factors.s[-1]) ** 2, tol):
        matrix.dtype = "float64"
    same = factors.samples_axis == plan.facts.samples_axis
    if matrix.transform.by_columns and same and not grown:
        matrix.lines = stored_lines(factors, matrix.transform)
    short = np.pad(short, ((0, grown), (0, 0)))[:, : plan.width]
    rest = min(plan.cols, max(plan.narrow, short.shape[1] + PROBES)) - short.shape[1]
    more = gaussian(seed, 2, (plan.cols, max(0, rest)))
    return np.linalg.qr(np.concatenate([short, more], axis=1))[0]


def stored_lines(factors: Factors, transform: Transform) -> MeansAndDivisors:
    """Mean and divisor of the features, of factors in a matrix's prescaled units, where those are its own."""
    n, exponent = factors.shape[factors.features_axis], transform.exponent
    mean, scale = np.zeros(n), np.ones(n)
    if transform.center and factors.mean is not None:
        mean = np.asarray(factors.mean[:])
    if transform.scale and factors.scale is not None:
        scale = np.asarray(factors.scale[:])
    return MeansAndDivisors(np.ldexp(mean, exponent), np.zeros(n), np.ldexp(scale, exponent))


def _first_look(matrix: Matrix, Q: np.ndarray) -> np.ndarray | None:
    """S·Q (N, c), and what the matrix is estimated to be; None where the sample is of no use.

    Products of a look that taught something about the matrix are of another matrix, and made again.
    """
    plan = matrix.context.plan
    rows = round(plan.sample_share * plan.rows)
    for attempt in range(_LOOKS):
        unknown = matrix.transform.by_columns and matrix.lines is None
        name = f"start-0-{attempt}"
        result = product_pass(matrix, name, Q, keep=0, sample=True, look=True)
        if result.census.first is not None or not 0 < result.census.peak < np.inf:
            return None
        if matrix.absorb_sample(name, result, rows) and not unknown:
            Z = result.sums["z"] / plan.sample_share
            return Z if np.isfinite(Z).all() else None
    return None
