"""The next block of the Krylov iteration is orthonormal, outside the subspace, and misses nothing."""

from __future__ import annotations

import numpy as np
import pytest

import bigsvd
from bigsvd.methods.subspace import orthonormal_complement

N, INSIDE, NEW = 400, 60, 12


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("digits", range(15))
@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("drift", [0.0, 1e-9])
def test_what_lies_outside_is_found_however_little_it_is(
    dtype: str, digits: int, drift: float, *, graded: bool
) -> None:
    """W = K·C + 10^-digits·(outside), graded columns each a tenth of the last; K orthonormal to `drift`."""
    eps = float(np.finfo(dtype).eps)
    rng = np.random.default_rng(digits)
    basis = np.linalg.qr(rng.standard_normal((N, INSIDE + NEW)))[0]
    K, outside = basis[:, :INSIDE] + drift * rng.standard_normal((N, INSIDE)), basis[:, INSIDE:]
    sizes = 10.0 ** -(digits + (np.arange(NEW) if graded else np.zeros(NEW)))
    W = K @ rng.standard_normal((INSIDE, NEW)) + outside * sizes
    Q = orthonormal_complement(W, K, NEW, eps)
    count = Q.shape[1]
    assert np.abs(Q.T @ Q - np.eye(count)).max(initial=0.0) < 1e-14
    assert np.abs(K.T @ Q).max(initial=0.0) < 1e-14 + drift
    scale = np.linalg.norm(W)
    assert count == np.sum(sizes > 10 * eps * scale) or np.any(np.abs(sizes / (10 * eps * scale) - 1) < 0.3)
    rounding = 1e-14 * scale / sizes[:count]
    lost = np.linalg.norm(outside[:, :count] - Q @ (Q.T @ outside[:, :count]), axis=0)
    assert np.all(lost <= np.maximum(rounding, 1e-13 + 20 * drift))


def test_what_a_correction_that_failed_has_left_out_is_found_again() -> None:
    """Five values above a flat bulk: a correction is tried and fails, and the passes after it still converge.

    Only the latest products were taken along after it once. What residuals had of older ones then stayed, at
    1.1e-2, however many passes were made; without a correction eight of them suffice.
    """
    rng = np.random.default_rng(1)
    B = rng.standard_normal((5000, 2500), dtype=np.float32)
    B[:, :5] *= np.array([9, 7, 6, 5, 3], np.float32)
    factors = bigsvd.svd(B, 10, method="krylov", memory="300MB", max_passes=10)
    assert factors.certificate.converged
    assert factors.provenance["costs"]["passes"] < 10
