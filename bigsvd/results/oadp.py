"""Where new samples lie among those of factors: online augmentation, decomposition and Procrustes.

Coordinates of new samples by products with the components are nearer to 0 than those of the samples that
the components were computed from, since each component has been turned towards these. With far more features
than samples that matters: OADP (Zhang, Dey & Lee 2020, Bioinformatics 36:3439, section 2.2) asks where a
sample would be if it had taken part.
"""

from __future__ import annotations

import numpy as np

_ROWS = 2**20  # entries of small matrices that are decomposed at a time, about; chosen, not measured


def augmented(s: np.ndarray, simple: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Coordinates (r, k) of new rows b as those of one more row of B each.

    Args:
        s: (k,) singular values of B ≈ U·diag(s)·Vᵀ.
        simple: l = b·V of each row, (r, k).
        squares: ‖b‖² of each row, (r,). Of rows where it is not finite the coordinates are NaN.

    """
    found = np.full(simple.shape, np.nan)
    known = np.flatnonzero(np.isfinite(squares))
    if not s.any():
        found[known] = 0.0
        return found
    step = max(1, _ROWS // (len(s) + 1) ** 2)
    for start in range(0, len(known), step):
        some = known[start : start + step]
        found[some] = _augmented(s, simple[some], squares[some])
    return found


def _augmented(s: np.ndarray, simple: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """The same of few rows.

    Section 2.2, steps 1 and 2: [B; b] = [U 0; 0 1]·Q·[V v]ᵀ with Q = [diag(s) 0; l ρ] and ρ what V leaves of
    b. Of Q = P·diag(d)·Rᵀ the first k rows of P·diag(d) are the old samples, in coordinates of U, and the
    last is the new one.
    """
    r, k = simple.shape
    Q = np.zeros((r, k + 1, k + 1))
    Q[:, range(k), range(k)] = s
    Q[:, k, :k] = simple
    Q[:, k, k] = np.sqrt(np.maximum(0.0, squares - np.sum(simple**2, axis=1)))
    P, d, _ = np.linalg.svd(Q)
    moved = P[:, :, :k] * d[:, np.newaxis, :k]
    return _turned_back(s, moved[:, :k], moved[:, k])


def _turned_back(s: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Step 3: `new` (r, k) by the rotation and scaling that bring `old` (r, k, k) closest to diag(s).

    Schönemann & Carroll 1970. Both are centred where B is, so that nothing is shifted.
    """
    W, strengths, Z = np.linalg.svd(np.swapaxes(old, 1, 2) * s)
    scale = np.sum(strengths, axis=1) / np.sum(old**2, axis=(1, 2))
    return np.asarray(scale[:, np.newaxis] * np.einsum("ri,rij,rjl->rl", new, W, Z))
