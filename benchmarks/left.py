"""`left`: what one read gives by left extraction, and whether `verify` ever contradicts its certificate.

The nine matrices are those of Tropp, Yurtsever, Udell & Cevher 2019, *Streaming low-rank matrix
approximation*, sec. 7.3: diagonal up to noise, so that a sample of rows shows only its own columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import bigsvd
from benchmarks.machine import limited_to, provenance
from bigsvd.events import unheard
from bigsvd.results.factors import Factors
from bigsvd.sources.open import open_source
from bigsvd.verify import verify

SIZE, RANK = 1_000, 10
READS = (1, 2)
MEMORY = "500MB"
_MAX_LINES = 20
SPECTRA = ("flat", "clustered", "noise", "slow", "geometric", "steep", "step", "deficient", "sorted rows")
# The shape of the matrices with a bulk so wide and flat that the probes, which are few, see least of it; and
# for how many triplets after how many passes they are looked at.
BULK_SHAPE, BULK = (2_600, 2_000), "flat bulk"
_BULK_ASKED = ((3, 1), (12, 1), (12, 2), (12, 4))
# Components beside the noise of a bulk, in its standard deviations: one clear, two at its edge.
_IN_BULK = (5.0, 1.5, 1.2)
# Roundings of σ₁ by which LAPACK's values and those of stored factors may differ. The square of the rounding
# of AᵀA, relative to σ, comes on top of it.
_ROUNDINGS = 64


def diagonal(decay: str, strength: float) -> np.ndarray:
    """(SIZE,) singular values: RANK ones, then a decay of that strength."""
    i = np.arange(1, SIZE - RANK + 1, dtype=float)
    tail = {"low rank": 0.0 * i, "polynomial": (i + 1) ** -strength, "exponential": 10.0 ** (-strength * i)}
    return np.append(np.ones(RANK), tail[decay])


def nine_matrices() -> Iterator[tuple[str, np.ndarray]]:
    """(name, matrix (SIZE, SIZE) float64) of each."""
    rng = np.random.default_rng(0)
    for name, strength in (("LowRankLowNoise", 1e-4), ("LowRankMedNoise", 1e-2), ("LowRankHiNoise", 1e-1)):
        G = rng.standard_normal((SIZE, SIZE))
        yield name, np.diag(diagonal("low rank", 0.0)) + strength / SIZE * (G @ G.T)
    for name, strength in (("PolySlow", 0.5), ("PolyMed", 1.0), ("PolyFast", 2.0)):
        yield name, np.diag(diagonal("polynomial", strength))
    for name, strength in (("ExpSlow", 0.01), ("ExpMed", 0.1), ("ExpFast", 0.5)):
        yield name, np.diag(diagonal("exponential", strength))


def excess_after(A: np.ndarray, reads: int) -> dict[str, float]:
    """‖A−Â‖_F/‖A−A_r‖_F − 1 after so many reads, and the relative error against the certificate's."""
    factors = decompose(A, RANK, max_passes=reads, tol=1e-12)
    s = np.linalg.svd(A, compute_uv=False)
    found = float(np.linalg.norm(A - (np.asarray(factors.U[:]) * factors.s) @ np.asarray(factors.Vt[:])))
    certified = factors.certificate.relative_error * factors.certificate.frobenius_norm
    best = float(np.linalg.norm(s[RANK:]))
    return {
        "excess": found / best - 1,
        "certified": certified / best - 1,
        "passes": float(factors.provenance["costs"]["passes"]),
    }


def decompose(A: np.ndarray, k: int, **options: Any) -> Factors:
    """By block Krylov iteration, without its warnings, which repeat the certificate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return bigsvd.svd(A, k, **{"method": "krylov", "memory": MEMORY, **options})


@dataclass(frozen=True)
class Case:
    """One random small matrix and what is asked of it."""

    spectrum: str
    shape: tuple[int, int]
    dtype: str
    k: int
    options: dict[str, Any]
    seed: int


def draw(rng: np.random.Generator, number: int) -> Case:
    """Any case, one spectrum after the other; most are stopped early, where a bound is all there is."""
    m, n = (int(side) for side in rng.integers(20, 220, 2))
    options: dict[str, Any] = {"method": str(rng.choice(["krylov", "krylov", "krylov", "gram"]))}
    options["stop"] = str(rng.choice(["residual", "error"]))
    options["tol"] = float(rng.choice([1e-1, 1e-2, 1e-4, 1e-8]))
    if options["method"] == "krylov" and rng.random() < 0.6:
        options["max_passes"] = int(rng.integers(1, 4))
    options["center"] = bool(rng.random() < 0.2)
    k = int(rng.integers(1, 1 + min(m, n, 15)))
    dtype, seed = str(rng.choice(["float32", "float64"])), int(rng.integers(2**31))
    return Case(SPECTRA[number % len(SPECTRA)], (m, n), dtype, k, options, seed)


def bulks(seed: int) -> list[Case]:
    """Large flat bulks, stopped long before anything in them has converged, so that bounds are audited."""
    return [
        Case(BULK, BULK_SHAPE, "float32", k, {"tol": 1e-8, "max_passes": passes, "center": False}, seed)
        for k, passes in _BULK_ASKED
    ]


def matrix_of(case: Case) -> np.ndarray:
    """Its entries."""
    rng, (m, n) = np.random.default_rng(case.seed), case.shape
    r = min(m, n)
    if case.spectrum == "noise":
        return rng.standard_normal((m, n)).astype(case.dtype)
    if case.spectrum == BULK:
        scores = rng.standard_normal((m, len(_IN_BULK))) * _IN_BULK
        directions = np.linalg.qr(rng.standard_normal((n, len(_IN_BULK))))[0].T
        return np.asarray(rng.standard_normal((m, n)) + scores @ directions).astype(case.dtype)
    if case.spectrum == "sorted rows":
        centres = np.repeat(5 * rng.standard_normal((8, n)), -(-m // 8), axis=0)[:m]
        return (centres + 0.1 * rng.standard_normal((m, n))).astype(case.dtype)
    i = np.arange(r)
    sigma = {
        "flat": 1 + 1e-3 * np.sort(rng.random(r))[::-1],
        "clustered": np.where(i < 4, 10.0, np.where(i < 12, 5.0, 1.0)),
        "slow": (1.0 + i) ** -0.5,
        "geometric": 10.0 ** (-14 * i / max(1, r - 1)),
        "steep": np.where(i < 15, 10.0**-i, 0.0),
        "step": np.where(i < 7, 1.0, 1e-6),
        "deficient": np.where(i < 6, 5.0 - i * 0.8, 0.0),
    }[case.spectrum]
    U, V = (np.linalg.qr(rng.standard_normal((side, r)))[0] for side in (m, n))
    return np.asarray((U * sigma) @ V.T).astype(case.dtype)


def look_at(case: Case) -> dict[str, Any]:
    """What `verify`, and LAPACK's values beside the bounds that are certified, say of a case.

    `ratio` is the worst measured residual over the worst promised, None where both are rounding; `excess` the
    certificate's estimate over the truth, likewise.
    """
    A = matrix_of(case)
    factors = decompose(A, case.k, **case.options)
    c, source = factors.certificate, open_source(A)
    outcome = verify(factors, source, unheard)
    B = A.astype(np.float64) - (A.mean(axis=0, dtype=np.float64) if case.options["center"] else 0.0)
    s = np.linalg.svd(B, compute_uv=False)
    eps = float(np.finfo(factors.dtype).eps)
    slack, squared = _ROUNDINGS * eps * s[0], _ROUNDINGS * eps * (s[0] / factors.s) ** 2
    findings = list(outcome.findings)
    if np.any(factors.s > s[: factors.k] + slack + factors.s * squared**2):
        findings.append("a value is above the true one")
    nearest = np.min(np.abs(s - factors.s[:, None]), axis=1) / np.maximum(factors.s, np.finfo(float).tiny)
    if np.any(nearest > np.asarray(c.sigma_bounds) + slack / np.maximum(factors.s, np.finfo(float).tiny)):
        findings.append("no singular value within the bound of one")
    best = float(np.sqrt(np.sum(s[factors.k :] ** 2) / np.sum(s**2)))
    truth = c.relative_error - best
    visible = outcome.max_residual is not None and outcome.max_residual > 1e3 * slack / factors.s[-1]
    counted = c.excess_error is not None and truth > 1e3 * slack / s[0] + c.relative_error_floor
    return {
        "spectrum": case.spectrum,
        "basis": c.basis,
        "audited": c.audited,
        "findings": findings,
        "ratio": (outcome.max_residual or 0.0) / c.max_residual if visible else None,
        "excess": (c.excess_error or 0.0) / truth if counted else None,
        "case": str(case),
    }


def run_left(count: int, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """The nine matrices after each number of reads, and so many random ones against `verify`."""
    measured_with = provenance()
    rng = np.random.default_rng(seed)
    looked: list[dict[str, Any]] = []
    nine: list[dict[str, Any]] = []
    with limited_to(1):
        for name, A in nine_matrices():
            reads = [excess_after(A, passes) for passes in READS]
            nine.append({"name": name, "reads": reads})
            tell(f"{name}: {reads[0]['excess']:.1e} after one read")
        for number in range(count):
            looked.append(look_at(draw(rng, number)))
            wrong = sum(bool(row["findings"]) for row in looked)
            if len(looked) % 100 == 0:
                tell(f"{len(looked):,} random matrices, {wrong} contradicted")
        for case in bulks(seed):
            looked.append(look_at(case))
            tell(f"{BULK}, k={case.k}: {len(looked[-1]['findings'])} findings")
    return {
        **measured_with,
        "parameters": {
            "size": SIZE,
            "rank": RANK,
            "count": count,
            "seed": seed,
            "bulk": {"shape": BULK_SHAPE, "cases": len(_BULK_ASKED)},
        },
        "nine": nine,
        "spectra": [_summary(name, looked) for name in (*SPECTRA, BULK)],
        "contradicted": [row for row in looked if row["findings"]][:_MAX_LINES],
    }


def _summary(spectrum: str, looked: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [row for row in looked if row["spectrum"] == spectrum]
    summary: dict[str, Any] = {
        "spectrum": spectrum,
        "cases": len(rows),
        "left": sum(row["basis"] == "left" for row in rows),
        "audited": sum(row["audited"] for row in rows),
        "contradicted": sum(bool(row["findings"]) for row in rows),
    }
    for name in ("ratio", "excess"):
        values = [row[name] for row in rows if row[name] is not None]
        summary[name] = {
            "cases": len(values),
            "median": float(np.median(values)) if values else None,
            "least": min(values, default=None),
            "most": max(values, default=None),
        }
    return summary
