"""Factors of new data from the coordinates that were inferred of their rows, without the data.

With Z (m, r) the posterior means, C their covariances and Ψ the noise of the columns, what is expected of BᵀB
in the span of the components V is M = ZᵀZ + ΣC + m·VᵀΨV. Its eigenvectors W (r, k) rotate the components to
those of the new data: s² = eig(M), Vt = (V·W)ᵀ, U = Z·W/s. Columns of U are means of what is possible: their
squared norms, WᵀZᵀZW/s², say how much of σ² was inferred, and are 1 only where nothing is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bigsvd.floats import silent
from bigsvd.orientation import LEFT, RIGHT, Rows, Side, largest_entries, signs
from bigsvd.results.certificate import Certificate, relative_error
from bigsvd.results.factor_array import FactorArray
from bigsvd.results.prediction import BASIS, Prediction
from bigsvd.results.store import FOLDER, chunk_lines

if TYPE_CHECKING:
    from bigsvd.distill.basis import Basis
    from bigsvd.distill.inference import Inference, Sums
    from bigsvd.scratch import Scratch


@dataclass(frozen=True, eq=False)
class Rotation:
    """What of the coordinates becomes factors.

    Attributes:
        s: (k,) descending. W: (r, k). next_sigma: s of the component behind them; None where there is none.
        captured: the part of each s² that was inferred, (k,).
        norm: ‖B‖_F, as the model expects it of all entries, seen or not.

    """

    s: np.ndarray
    W: np.ndarray
    next_sigma: float | None
    captured: np.ndarray
    norm: float


@silent
def rotate(basis: Basis, sums: Sums, samples: int, k: int, informative: np.ndarray) -> Rotation:
    """The k leading triplets of what is expected of new data, which are 0 where not `informative`, (n,)."""
    values, vectors = np.linalg.eigh(_expected(basis, sums, samples))
    s, W = np.sqrt(np.maximum(0.0, values[::-1])), vectors[:, ::-1]
    W = W * signs(largest_entries(basis.V @ W))
    captured = _over(np.einsum("ik,ij,jk->k", W, sums.outer, W), s**2)
    following = float(s[k]) if k < len(s) else None
    return Rotation(s[:k], W[:, :k], following, captured[:k], _norm(basis, sums, samples, informative))


def _expected(basis: Basis, sums: Sums, samples: int) -> np.ndarray:
    """VᵀBᵀBV as the model expects it, (r, r)."""
    noise = basis.V.T @ (basis.noise[:, None] * basis.V)
    found: np.ndarray = sums.outer + sums.covariance + samples * noise
    return found / 2 + found.T / 2


def _norm(basis: Basis, sums: Sums, samples: int, informative: np.ndarray) -> float:
    """‖B‖_F as the model expects it."""
    noise = samples * np.sum(basis.noise[informative])
    return float(np.sqrt(np.trace(sums.outer + sums.covariance) + noise))


def _over(values: np.ndarray, divisors: np.ndarray) -> np.ndarray:
    """Their quotient, 0 where nothing is divided by."""
    found: np.ndarray = np.divide(values, divisors, out=np.zeros_like(values), where=divisors > 0)
    return found


def write_vectors(
    scratch: Scratch, inference: Inference, rotation: Rotation, samples_axis: int, dtype: str
) -> None:
    """Write U, s, Vt and the uncertainty of each sample into the result in scratch, panel by panel."""
    sides = LEFT, RIGHT
    features, samples = inference.basis.n, inference.panels.samples
    across = _created(scratch, sides[1 - samples_axis], (features, len(rotation.s)), dtype)
    across[:] = (inference.basis.V @ rotation.W).astype(dtype)
    along = _created(scratch, sides[samples_axis], (samples, len(rotation.s)), dtype)
    rows = chunk_lines(1, samples, "float64")
    spread = scratch.create(f"{FOLDER}/uncertainty", (samples,), (rows,), "float64")
    turned = _over(rotation.W, np.broadcast_to(rotation.s, rotation.W.shape))
    for span, z, uncertainty in inference.pieces():
        along[span] = (z @ turned).astype(dtype)
        spread[span] = uncertainty
    scratch.write(f"{FOLDER}/s", rotation.s)


def _created(scratch: Scratch, side: Side, shape: tuple[int, int], dtype: str) -> Rows:
    """A new factor (length, k) on that side of A."""
    return FactorArray.of(side).create(scratch, shape, chunk_lines(shape[1], shape[0], dtype), dtype)


def certificate_of(rotation: Rotation, prediction: Prediction) -> Certificate:
    """What is expected of the error; nothing is proved, so there is no residual and no bound."""
    eps = float(np.finfo(np.float64).eps)
    error, floor = relative_error(rotation.s, rotation.norm, eps, rotation.captured)
    return Certificate(
        relative_error=error, relative_error_floor=floor, frobenius_norm=rotation.norm, max_residual=np.nan,
        residuals=(), sigma_bounds=(), angle_bounds=(), identifiable=(), numerical_rank=len(rotation.s),
        noise_floor=0.0, tol=1.0, stop="residual", converged=False, excess_error=None, basis=BASIS,
        audit=None, next_sigma=rotation.next_sigma, predicted=prediction,
    )  # fmt: skip
