"""What a run ends with: `Solution`, its certificate in the input's own units, and the sealed factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bigsvd.counters import Counters
from bigsvd.errors import BigsvdError
from bigsvd.execution.passes import Context
from bigsvd.machine.monitor import MemoryMonitor
from bigsvd.methods.choosing import Shortfall
from bigsvd.methods.goal import Solution
from bigsvd.methods.matrix import Matrix
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.results.certificate import (
    Audit,
    Certificate,
    Counts,
    angle_bounds,
    relative_error,
    sigma_bounds,
)
from bigsvd.results.check import check_store
from bigsvd.results.factor_array import FactorArray
from bigsvd.results.factors import Factors, sealed_factors
from bigsvd.results.store import FOLDER, chunk_lines, seal
from bigsvd.scratch import MACHINES
from bigsvd.slabs.second_opinion import disagreements, miscounts
from bigsvd.sources.transposed import streamed
from bigsvd.units import human_bytes

# Bytes that a process may grow beyond a plan unsaid. Modules that a run is the first to use take up to 20 MB;
# CUDA's libraries and kernels that CuPy compiles on first use took 55 to 183 MB (pytest -m gpu on an H200).
_LITTLE_BYTES = 2**25
_LITTLE_BYTES_WITH_CUDA = 2**28
_LITTLE_SHARE = 0.1


def certify(solution: Solution, request: Request) -> Certificate:
    """The certificate of a solution, in the input's own units."""
    matrix, t = solution.matrix, solution.triplets
    exponent = matrix.transform.result_exponent
    sigma, norm = t.sigma, matrix.norm_squared**0.5
    # Sums are float64; what rounds them is the precision of the products, a random walk over many terms.
    error, floor = relative_error(
        sigma, norm, matrix.eps * 2**-6 if matrix.dtype == "float32" else matrix.eps
    )
    angles = angle_bounds(t.judged, sigma, t.beyond, matrix.eps)
    worst, signal = float(np.max(t.residuals, initial=0.0)), solution.signal
    asked = t.judged if signal is None else t.judged[: signal.count]
    return Certificate(
        relative_error=t.error if t.error is not None else error,
        relative_error_floor=floor if t.error_floor is None else t.error_floor,
        frobenius_norm=float(np.ldexp(norm, -exponent)),
        max_residual=worst,
        residuals=tuple(map(float, t.residuals)),
        sigma_bounds=tuple(map(float, sigma_bounds(t.judged, sigma, matrix.eps))),
        angle_bounds=tuple(map(float, angles)),
        identifiable=tuple(bool(bound < 0.5) for bound in angles),
        numerical_rank=int(np.sum(sigma > 0)),
        noise_floor=float(np.ldexp(t.noise_floor, -exponent)),
        tol=request.tol,
        stop=request.stop,
        converged=solution.converged,
        excess_error=_excess(solution, error),
        basis=t.basis,
        audited=t.audited,
        foretold=t.foretold,
        next_sigma=float(np.ldexp(t.beyond[0], -exponent)) if t.beyond.size else None,
        audit=solution.audit and _unscaled(solution.audit, exponent),
        warnings=tuple(_notes(solution, request, float(np.max(asked, initial=0.0)))),
        counts=counts_of(matrix),
        signal=signal and replace(signal, edge=float(np.ldexp(signal.edge, -exponent))),
    )


def _excess(solution: Solution, by_values: float) -> float | None:
    """Error above the best possible for this k; of an estimate, above what its values alone would leave."""
    t = solution.triplets
    if t.foretold is None or t.error is None:
        return solution.excess
    return max(0.0, t.error - by_values)


def counts_of(matrix: Matrix) -> Counts:
    """What the first pass counted."""
    census, plan = matrix.census, matrix.context.plan
    return Counts(
        entries=plan.rows * plan.cols,
        missing=census.missing,
        filled_with=matrix.transform.missing,
        filled_chunks=matrix.costs[0].counters.filled_chunks if matrix.costs else 0,
        constant=census.constant,
        constant_columns=tuple(map(matrix.named, census.constant_columns)),
        empty=census.empty,
        empty_columns=tuple(map(matrix.named, census.empty_columns)),
        rounded=census.inexact,
        feature=matrix.feature,
    )


def _notes(solution: Solution, request: Request, worst: float) -> list[str]:
    """What a reader of the certificate must be told in words; first, in one line, why it did not converge."""
    matrix, t = solution.matrix, solution.triplets
    notes = [] if solution.converged else [_not_converged(solution, request, worst)]
    if solution.converged and solution.shortfall is not None:
        notes = [solution.shortfall.cause]
    if t.dropped:
        asked = t.sigma.size + t.dropped
        notes.append(f"numerical rank {t.sigma.size} < k={asked}: {t.dropped} triplets below noise dropped")
    if matrix.census.inexact:
        notes.append(f"{matrix.census.inexact} integers beyond 2^53 were rounded to float64")
    constant = matrix.census.constant
    if constant and matrix.transform.scale.startswith("std"):
        notes.append(f"{constant} constant {matrix.feature}(s) were scaled by 1")
    if request.missing_value is not None and matrix.census.missing == 0:
        notes.append(f"no entry equals missing_value={request.missing_value}: nothing was filled")
    if solution.audit is not None and solution.audit.flagged:
        notes.append("the audit saw energy that the basis missed")
    return notes


def _not_converged(solution: Solution, request: Request, worst: float) -> str:
    """What was not reached, why, and what to do."""
    lack = solution.shortfall or Shortfall(
        f"rounding of {solution.matrix.dtype} products hides smaller residuals",
        f"ask for tol={min(1.0, 1.1 * worst):.1e} or a smaller k",
    )
    reached = f"worst residual {worst:.2e}"
    if lack.of_rule:
        return (
            f"the rank rule was not met ({lack.cause}): took k={solution.triplets.sigma.size}; {lack.remedy}"
        )
    return f"tolerance {request.tol:g} not reached ({lack.cause}): {reached}; {lack.remedy}"


def _unscaled(audit: Audit, exponent: int) -> Audit:
    return replace(
        audit,
        spectral_error=float(np.ldexp(audit.spectral_error, -exponent)),
        unseen_sigma=float(np.ldexp(audit.unseen_sigma, -exponent)),
    )


def write_factors(
    solution: Solution, request: Request, vectors: Mapping[str, np.ndarray], monitor: MemoryMonitor
) -> None:
    """Complete the factor folder beside the long factor, check it, seal it; `vectors` are those given."""
    matrix, context = solution.matrix, solution.matrix.context
    scratch, plan = context.scratch, context.plan
    t = solution.triplets
    k, dtype = t.sigma.size, matrix.dtype
    short = FactorArray.of(context.source.orientation.short)
    rows = short.create(scratch, (plan.cols, k), chunk_lines(k, plan.cols, dtype), dtype)
    rows[:] = t.short.astype(dtype)
    scratch.write(f"{FOLDER}/s", np.ldexp(t.sigma, -matrix.transform.result_exponent))
    for name, values in stored_vectors(matrix, request, vectors).items():
        scratch.write(f"{FOLDER}/{name}", values)
    for name, ids in zip(
        ("rows", "cols"), streamed(context.source, transposed=plan.transposed).kept, strict=True
    ):
        if ids is not None:
            scratch.write(f"{FOLDER}/{name}", ids)
    if matrix.missing.size:
        scratch.write(f"{FOLDER}/missing", matrix.missing)
    costs, certificate = _costs(solution, plan) | _memory(context, monitor), certify(solution, request)
    excess = excess_of_memory(costs, _LITTLE_BYTES_WITH_CUDA if plan.has_own_memory else _LITTLE_BYTES)
    if excess:
        certificate = replace(certificate, warnings=(*certificate.warnings, excess))
    attributes = {
        "request": request.to_dict(),
        "plan": plan.to_dict(),
        "certificate": certificate.to_dict(),
        "source": plan.facts.to_dict(),
        "costs": costs,
        "machines": (scratch.recorded(MACHINES) or {"kinds": []})["kinds"],
    }
    seal(scratch, attributes)
    written = sealed_factors(scratch.path / FOLDER)
    findings = check_store(written) + check_statistics(written, matrix)
    if findings:
        raise BigsvdError(
            f"the factors failed their own check ({findings[0]})", "report this: it is a defect of bigsvd"
        )


def stored_vectors(
    matrix: Matrix, request: Request, vectors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What reconstruction needs besides triplets, by its name in the store, in A's own units.

    `mean` is what is subtracted and `scale` what is divided by, each feature's own or given.
    """
    lines, found = matrix.feature_lines(), dict(vectors)
    if "offset" in found:
        found["mean"] = found.pop("offset")
    if lines is not None and request.center:
        found["mean"] = lines[0]
    if lines is not None and request.own_scale:
        found["scale"] = lines[1]
    return found


def check_statistics(factors: Factors, matrix: Matrix) -> list[str]:
    """Where stored means, divisors and counts are not what a second opinion on the data found."""
    opinion, counts = matrix.opinion, factors.certificate.counts
    if not opinion.columns:
        return []
    transform, columns = matrix.transform, list(opinion.columns)
    mean, scale = (
        np.ldexp(line[columns], transform.exponent) if line is not None and own else None
        for line, own in ((factors.mean, transform.center), (factors.scale, transform.scale))
    )
    findings = disagreements(opinion, mean, scale, transform)
    if counts is not None:
        findings += miscounts(opinion, counts.missing, matrix.census.observed, counts.entries)
    return findings


def excess_of_memory(costs: dict[str, Any], little_bytes: int = _LITTLE_BYTES) -> str:
    """That the process held more than was planned, in words; empty where it did not, or by little.

    `little_bytes` is what libraries take that are used for the first time, or a caller's other threads.
    """
    exceeded, planned = costs["memory_exceeded_bytes"], costs["planned_memory_bytes"]
    if exceeded <= max(little_bytes, _LITTLE_SHARE * planned):
        return ""
    return (
        f"peak memory of a process of this run was {human_bytes(planned + exceeded)} beyond the "
        f"{human_bytes(costs['baseline_memory_bytes'])} before the run: it exceeded the plan's "
        f"{human_bytes(planned)} by {human_bytes(exceeded)}; report this unless something else in this "
        "process took it"
    )


def _memory(context: Context, monitor: MemoryMonitor) -> dict[str, Any]:
    """What was held by the processes that held the panels, and by this one, which led the run.

    `peak_memory_bytes` is of that process with panels which has grown most. Each of them has the whole plan.
    """
    planned, led = context.plan.memory_bytes, monitor.seen()
    held = dict(context.memory) or {led.process: led}
    if led.process in held:
        held[led.process] = led  # the same process, watched for longer
    most = max(held.values(), key=lambda seen: seen.grown_bytes)
    if led.exceeded_bytes(planned) > most.exceeded_bytes(planned):
        most = led  # the plan did not hold here, and that is what has to be said
    return {
        "peak_memory_bytes": most.peak_bytes,
        "baseline_memory_bytes": most.baseline_bytes,
        "planned_memory_bytes": planned,
        "memory_exceeded_bytes": most.exceeded_bytes(planned),
        "memory_by_process": [seen.to_dict() for seen in held.values()],
        "leading_process_grown_bytes": led.grown_bytes,
    }


def _seconds_by_part(solution: Solution) -> dict[str, float]:
    """Measured time of the parts that a plan predicts."""
    sample = sum(c.seconds for c in solution.matrix.sample_costs)
    passes = sum(c.seconds for c in [*solution.matrix.totals_costs, *solution.matrix.costs])
    return {"warm start": sample, "passes": passes, "the rest": max(0.0, solution.seconds - sample - passes)}


def _costs(solution: Solution, plan: Plan) -> dict[str, Any]:
    """What the run took: passes, bytes, seconds."""
    matrix = solution.matrix
    costs = matrix.costs
    every = [*matrix.totals_costs, *matrix.sample_costs, *costs]
    by_dask = solution.reads_by_dask * plan.bytes_per_pass
    counters = Counters.total(c.counters for c in every)
    cached, streamed = counters.cached_bytes, counters.streamed_bytes
    return {
        "method": plan.method,
        "passes": solution.passes + len(matrix.totals_costs),
        "bytes_read": round(counters.bytes_read + by_dask),
        "cached_bytes": cached,
        "device_cached_bytes": counters.device_cached_bytes,
        "cache_hit_rate": cached / streamed if cached else 0.0,
        "encoded_bytes_read": counters.encoded_bytes,
        "seconds": solution.seconds,
        "predicted_seconds": plan.predicted_seconds,
        "seconds_by_part": _seconds_by_part(solution),
        "pass_seconds": [c.seconds for c in costs],
        "pass_precisions": list(matrix.precisions),
        "filled_chunks": costs[0].counters.filled_chunks if costs else 0,
        "missing_entries": matrix.census.missing,
        "retries": counters.retries,
    }
