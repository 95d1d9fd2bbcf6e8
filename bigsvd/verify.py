"""`verify`: whether a factor store holds what its certificate promises, by itself and against the data."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bigsvd.certify import check_statistics, counts_of
from bigsvd.errors import FactorStoreError, RequestError
from bigsvd.events import Progress
from bigsvd.execution.passes import Context, panels_kept
from bigsvd.execution.placement import executor_in_turn, plan_for_source
from bigsvd.floats import silent
from bigsvd.machine.blas import one_blas_thread
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.result import TwoSidedResult, long_target, measure_two_sided
from bigsvd.methods.starts import stored_lines
from bigsvd.orientation import Orientation, Rows
from bigsvd.request import Request
from bigsvd.results.check import check_store
from bigsvd.results.factors import Factors
from bigsvd.results.verification import Verification
from bigsvd.scratch import Scratch
from bigsvd.slabs.transform import Given, Transform
from bigsvd.sources.base import Source
from bigsvd.sources.selected import selected
from bigsvd.sources.transposed import streamed

if TYPE_CHECKING:
    from bigsvd.execution.cluster import DaskClient

_SAME_DIVISORS = 1e-8  # part of itself by which a divisor may be summed otherwise, as for a second opinion


@silent
def verify(
    factors: Factors,
    source: Source | None,
    progress: Progress,
    client: DaskClient | None = None,
    device: Literal["auto", "cpu", "gpu"] = "auto",
) -> Verification:
    """Check digests, order and orthonormality; with a source also residuals, σ and error, by one pass."""
    findings = check_store(factors)
    if factors.predicted is not None and source is not None:
        raise RequestError(
            f"{factors.path} was predicted, and has no certificate that data could contradict",
            "measure it by bigsvd.distill.measured.verification_of",
        )
    if source is None:
        said = factors.predicted.said if factors.predicted is not None else ""
        return Verification(tuple(findings), None, None, said)
    if not factors.kept.all and source.facts.shape == factors.kept.shape != factors.shape:
        source = selected(source, *factors.kept.lines)
    if source.facts.samples_axis != factors.samples_axis:
        raise FactorStoreError(
            f"the factors have {factors.samples} as samples, {source.facts.name} has {source.facts.sample}s",
            f"open the data with samples={factors.samples!r}",
        )
    if source.facts.shape != factors.shape:
        raise FactorStoreError(
            f"the factors are of a {factors.shape} matrix, {source.facts.name} is {source.facts.shape}",
            "give the data they were computed from",
        )
    with tempfile.TemporaryDirectory(prefix="bigsvd-verify-") as folder:
        measured, matrix = _measure(factors, source, Path(folder), progress, client, device)
        lines = matrix.feature_lines()
    same = matrix.context.plan.transposed == factors.provenance["plan"]["transposed"]
    findings += _compare(factors, measured, np.zeros((2, 0)) if lines is None else lines, as_then=same)
    findings += check_statistics(factors, matrix) + _recount(factors, matrix)
    worst = float(np.max(np.maximum(measured.left, measured.right), initial=0.0))
    return Verification(tuple(findings), worst, measured.error)


def _measure(
    factors: Factors,
    source: Source,
    folder: Path,
    progress: Progress,
    client: DaskClient | None,
    device: Literal["auto", "cpu", "gpu"],
) -> tuple[TwoSidedResult, Matrix]:
    asked = Request.from_dict(factors.provenance["request"])
    request = replace(
        asked.by_method("krylov"), k=factors.k, tol=1e-6, precision="float32", device=device,
        device_memory=None, stage=None,
        warm_start=None, energy=None, error=None, max_bytes=None,
    )  # fmt: skip
    with executor_in_turn(client, request, progress) as executor:
        offers = executor.machines(request)
        source = executor.reach(source)
        planned, offer = plan_for_source(request, source, executor, offers)
        plan = replace(planned, cache_bytes=0, device_cache_bytes=0)  # one pass
        with one_blas_thread, executor.for_run(plan) as running:
            B, scratch = streamed(source, transposed=plan.transposed), Scratch(folder / "verify.scratch")
            context = Context(running, plan, B, scratch, offer.device, progress)
            return _measured_by_a_pass(factors, asked, context)


def _measured_by_a_pass(factors: Factors, asked: Request, context: Context) -> tuple[TwoSidedResult, Matrix]:
    """The stored triplets against the data, standardised as the request that they are of has it."""
    source = context.source
    transform = Transform.of(asked, source.facts)
    matrix = Matrix(context, transform, "float64", Given.of(factors.given(asked)))
    rms = factors.certificate.frobenius_norm / np.sqrt(np.prod(np.array(factors.shape, dtype=float)))
    matrix.expect(rms)
    if matrix.transform.by_columns:
        matrix.lines = stored_lines(factors, matrix.transform)
    target, _ = long_target(context, factors.k, factors.dtype.name)
    short = _copy_factors(factors, source.orientation, target.open(context.scratch))
    sigma = np.ldexp(factors.s, matrix.transform.result_exponent)
    with panels_kept(context):
        return measure_two_sided(matrix, sigma, short, target), matrix


def _copy_factors(factors: Factors, orientation: Orientation, to: Rows) -> np.ndarray:
    """Copy the long factor into scratch, a few chunks at a time; return the short one (N, k)."""
    long, step = orientation.long.of(factors), 16 * to.chunk
    for start in range(0, len(to), step):
        rows = slice(start, min(len(to), start + step))
        to[rows] = long[rows]
    return orientation.short.of(factors)[:].astype(np.float64)


def _recount(factors: Factors, matrix: Matrix) -> list[str]:
    """Where the certificate's counts are not those of the data; stores of version 0.1 have none."""
    counts = factors.certificate.counts
    if counts is None:
        return []
    found, gone = counts_of(matrix), factors.kept.empty
    if not np.array_equal(matrix.missing, np.zeros(0) if gone is None else gone):
        return [f"other {found.feature}s are missing throughout in the data than in the factors"]
    names = ("entries", "missing", "filled_chunks", "constant", "empty", "rounded")
    return [
        f"the certificate counts {getattr(counts, name):,} {name.replace('_', ' ')}, "
        f"the data has {getattr(found, name):,}"
        for name in names
        if getattr(counts, name) != getattr(found, name)
    ]


def _mean_rounding(factors: Factors) -> float:
    """‖1·δᵀ‖₂ for the rounding δ of the stored means, by which they shift the matrix as decomposed."""
    if factors.mean is None:
        return 0.0
    divisor = 1.0 if factors.scale is None else np.asarray(factors.scale)
    weights = 1.0 if factors.weights is None else np.asarray(factors.weights)
    samples = np.ones(factors.shape[factors.samples_axis])
    if factors.row_weights is not None:
        samples = np.asarray(factors.row_weights)
    delta = np.finfo(np.float64).eps * np.asarray(factors.mean) * weights / divisor
    return float(np.linalg.norm(samples) * np.linalg.norm(delta))


def _divisor_rounding(factors: Factors, found: np.ndarray) -> float:
    """By which part of themselves stored divisors differ from those `found`, as two sums of a feature may."""
    asked = Request.from_dict(factors.provenance["request"])
    if factors.scale is None or not asked.own_scale:
        return 0.0
    differences = np.abs(np.asarray(factors.scale[:]) / found - 1)
    return min(float(np.max(differences, initial=0.0)), _SAME_DIVISORS)


def _compare(factors: Factors, measured: TwoSidedResult, lines: np.ndarray, *, as_then: bool) -> list[str]:
    """Where the measurement contradicts the certificate by more than rounding of the stored factors.

    `as_then`: A was streamed along the same axis now as when the factors were computed.
    """
    c, sigma = factors.certificate, factors.s
    eps = float(np.finfo(factors.dtype).eps)
    spread = _divisor_rounding(factors, lines[1])  # of the norm, and so of residuals
    rounding = 64 * max(eps * sigma[0], np.spacing(sigma[0]))  # which is more where values are subnormal
    rounding += spread * sigma[0]
    slack = np.where(sigma > 0, (rounding + _mean_rounding(factors)) / sigma, np.inf)
    promised = np.asarray(c.residuals) * 1.05 + slack
    # Of right Ritz pairs of the streamed matrix B·v = σu holds to rounding, of left ones Bᵀ·u = σv to that of
    # BᵀB, and so does uᵀB·v = σ, which differs by vᵀ(Bᵀ·u − σv); B may have been Aᵀ then and A now.
    squared = 8 * eps * (sigma[0] / np.maximum(sigma, np.finfo(float).tiny)) ** 2
    exact, rayleigh = slack, slack
    if c.basis == "left":
        exact = rayleigh = slack + squared
    elif c.basis == "estimate":  # no residual is 0, and uᵀAv is not σ
        rayleigh = promised**2 / 2 + slack
    by_right, by_left = c.basis == ("ritz" if as_then else "left"), c.basis == ("left" if as_then else "ritz")
    findings = []
    for name, values, limit in (
        ("|B*v - sigma*u|/sigma", measured.left, exact if by_right else promised),
        ("|B'*u - sigma*v|/sigma", measured.right, exact if by_left else promised),
        ("|u'*A*v - sigma|/sigma", np.abs(measured.rayleigh - 1), rayleigh),
    ):
        bad = np.flatnonzero(~(values <= limit) & (sigma > 0))
        if bad.size:
            i = int(bad[0])
            findings.append(
                f"triplet {i}: {name} is {values[i]:.2e} where {limit[i]:.2e} is promised ({bad.size} such)"
            )
    by_means = _mean_rounding(factors) / c.frobenius_norm if c.frobenius_norm else 0.0
    by_lines = by_means + spread
    allowed = 64 * eps + c.relative_error_floor**2 + 2 * by_lines + by_lines**2
    if abs(measured.error**2 - c.relative_error**2) > allowed:
        findings.append(
            f"relative error is {measured.error:.9g}, the certificate says {c.relative_error:.9g}"
        )
    asked = Request.from_dict(factors.provenance["request"])
    learned = {"means": (factors.mean, lines[0])} if asked.center else {}
    learned |= {"scales": (factors.scale, lines[1])} if asked.own_scale else {}
    for name, (stored, found) in learned.items():
        if stored is not None:
            shift = float(np.max(np.abs(np.asarray(stored[:]) - found), initial=0.0))
            if shift > 1e-6 * np.max(np.abs(found), initial=0.0):
                findings.append(f"the stored {name} differ from the data's by up to {shift:.2e}")
    return findings
