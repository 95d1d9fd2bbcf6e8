"""Σσ⁴ of a matrix that passes have multiplied, from a basis and the probes of the audit."""

from __future__ import annotations

import numpy as np


def fourth_powers(
    K: np.ndarray, Z: np.ndarray, W: np.ndarray, ZW: np.ndarray, squares: float
) -> tuple[float, float]:
    """‖BᵀB‖²_F = Σσ⁴, estimated: exact but for the part outside the basis on both sides.

    With P = I − KKᵀ and H = BᵀB that part is P·H·P, whose trace is known exactly. Taken as c·P + D with c its
    mean eigenvalue, ‖PHP‖²_F = c²·tr P + ‖D‖²_F as tr D = 0, and only ‖D‖²_F is estimated, by the mean of
    ‖D·ω‖² (Hutchinson 1989). Of noise with few features to a sample, or many, c·P is nearly all of it. The
    second number is the standard error of that mean.

    Args:
        K: orthonormal (N, l).
        Z: BᵀB·K.
        W: Gaussian probes (N, p) that had no part in K.
        ZW: BᵀB·W.
        squares: ‖B‖²_F.

    """
    T = K.T @ Z
    across = float(np.sum(Z**2)) - float(np.sum(T**2))  # ‖PHK‖²_F, which PHK and its transpose have each
    inside = float(np.sum(T**2)) + 2 * max(0.0, across)
    outside = K.shape[0] - K.shape[1]
    if outside <= 0:
        return inside, 0.0
    c = max(0.0, squares - float(np.trace(T))) / outside
    coordinates = K.T @ W
    X, HX = W - K @ coordinates, ZW - Z @ coordinates
    HX -= K @ (K.T @ HX)
    apart = np.sum((HX - c * X) ** 2, axis=0)
    error = float(np.std(apart, ddof=1)) / np.sqrt(len(apart))
    return inside + c**2 * outside + float(np.mean(apart)), float(error)
