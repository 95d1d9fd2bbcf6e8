"""What is wrong with a factor store, judged by itself, without the matrix it came from."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np

from bigsvd.floats import silent
from bigsvd.results.certificate import relative_error
from bigsvd.results.factors import STORED_VECTORS, UNCERTAINTY, Factors
from bigsvd.results.prediction import Prediction
from bigsvd.results.store import damage_errors, digest

_SHRUNK_TOLERANCE = 1e-5  # of squares of norms; rounding of float32 vectors


@silent
def orthonormality(array: Any, *, rows: bool) -> float:
    """Max |QᵀQ − I| of the columns of U, or of the rows of Vt if `rows`, read a chunk at a time."""
    found = _gram(array, rows=rows)
    return float(np.max(np.abs(found - np.eye(len(found))), initial=0.0))


def _shrinkage(name: str, array: Any, predicted: Prediction, *, rows: bool) -> list[str]:
    """Where the samples' vectors of predicted factors are not what they say: means of unit vectors or less.

    No combination of the columns is longer than 1, and each is as long as its part of σ² that was inferred.
    """
    gram = _gram(array, rows=rows)
    longest = float(np.max(np.linalg.eigvalsh(gram), initial=0.0))
    apart = float(np.max(np.abs(np.diag(gram) - np.asarray(predicted.captured)), initial=0.0))
    findings = []
    if not longest <= 1 + _SHRUNK_TOLERANCE:
        findings.append(f"{name} has a combination of norm^2 {longest:.9g}, predicted ones have at most 1")
    if not apart <= _SHRUNK_TOLERANCE:
        findings.append(f"norms of {name} differ by {apart:.1e} from what the prediction says was captured")
    return findings


def _gram(array: Any, *, rows: bool) -> np.ndarray:
    """QᵀQ (k, k) of the columns of U, or of the rows of Vt if `rows`, read a chunk at a time."""
    k = array.shape[0] if rows else array.shape[1]
    length = array.shape[1] if rows else array.shape[0]
    step = array.chunks[1 if rows else 0]
    gram = np.zeros((k, k))
    for start in range(0, length, step):
        span = slice(start, start + step)
        block = np.asarray(array[:, span] if rows else array[span], dtype=np.float64)
        gram += block @ block.T if rows else block.T @ block
    return gram


@silent
def check_store(factors: Factors) -> list[str]:
    """What is wrong with a store, judged by itself: digests, order, orthonormality, its norm.

    Digests are of all that is stored, the rest of the triplets in hand, which may be the leading ones.
    """
    with damage_errors(factors.path):
        findings = _altered(factors.whole)
        tolerance = 1e-5 if factors.dtype == np.float32 else 1e-10
        for name, array, rows in (("U", factors.U, False), ("Vt", factors.Vt, True)):
            of_samples = rows == (factors.samples_axis == 1)
            if factors.predicted is not None and of_samples:
                findings += _shrinkage(name, array, factors.predicted, rows=rows)
                continue
            worst = orthonormality(array, rows=rows)
            if not worst <= tolerance:
                findings.append(f"{name} is not orthonormal: {worst:.1e} where {tolerance:g} is allowed")
    s = factors.s
    if not np.all(np.isfinite(s)) or np.any(s < 0) or np.any(np.diff(s) > 0):
        findings.append("s is not finite, non-negative and descending")
    c = factors.certificate
    error, _ = relative_error(s, c.frobenius_norm, np.finfo(float).eps, c.captured)
    spacing = np.spacing(c.frobenius_norm) / (c.frobenius_norm or 1.0)  # coarse where the norm is subnormal
    if not abs(error**2 - c.relative_error**2) <= 64 * max(np.finfo(factors.dtype).eps, spacing):
        findings.append(f"s gives relative error {error:.9g}, the certificate says {c.relative_error:.9g}")
    return findings


def _altered(whole: Factors) -> list[str]:
    """Which arrays of a store are not what was published."""
    manifest = whole.provenance["manifest"]
    lines = {name: getattr(whole, name) for name in ("s", *STORED_VECTORS)}
    lines |= {"rows": whole.kept.rows, "cols": whole.kept.cols, "missing": whole.kept.empty}
    crcs = {"U": digest(whole.U), "Vt": digest(whole.Vt)}
    if whole.uncertainty is not None:
        crcs[UNCERTAINTY] = digest(whole.uncertainty)
    crcs |= {name: google_crc32c.value(line) for name, line in lines.items() if line is not None}
    return [
        f"{name} is not what was published (checksum of its entries differs)"
        for name in crcs
        if crcs[name] != manifest[name]["crc32c"]
    ]
