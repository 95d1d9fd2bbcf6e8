"""Every bound that a certificate states holds against LAPACK in float64, on hard spectra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from distributed import Client

import bigsvd
from bigsvd.methods import krylov
from bigsvd.results.certificate import angle_bounds, relative_error, sigma_bounds
from tests.clusters import if_on_dask
from tests.spectra import FAMILIES, with_values

K = 12
SHAPES = [(240, 70), (70, 240), (181, 97)]
METHODS: dict[str, dict[str, Any]] = {
    "krylov": {"method": "krylov"},
    "tight": {"method": "krylov", "tol": 1e-10},
    "gram": {"method": "gram"},
    "tall_skinny": {"method": "tall_skinny"},
}


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_bound_holds_against_lapack(client: Client, family: str, method: str, dtype: str) -> None:
    """With `SHAPES` this is 216 matrices."""
    options: dict[str, Any] = METHODS[method] | if_on_dask(client, METHODS[method]["method"])
    for seed, shape in enumerate(SHAPES):
        A = FAMILIES[family](np.random.default_rng([seed, 7]), *shape).astype(dtype)
        factors = bigsvd.svd(A, K, memory="500MB", **options)
        check_bounds(A.astype(np.float64), factors)


def check_bounds(A: np.ndarray, factors: bigsvd.Factors) -> None:
    _, s, Vt = np.linalg.svd(A, full_matrices=False)
    c, k = factors.certificate, factors.k
    eps = float(np.finfo(factors.dtype).eps)
    spread = factors.s[0] / factors.s
    bounds = np.array(c.sigma_bounds) * factors.s
    assert np.all(np.min(np.abs(s[None, :] - factors.s[:, None]), axis=1) <= bounds)
    # No promise, but true: nothing above the k-th was missed, within what one residual says of another.
    assert np.all(np.abs(factors.s - s[:k]) <= np.maximum(bounds, 2 * c.max_residual * factors.s))
    u, v = np.asarray(factors.U[:], dtype=np.float64), np.asarray(factors.Vt[:], dtype=np.float64).T
    left = np.linalg.norm(A @ v - u * factors.s, axis=0) / factors.s
    right = np.linalg.norm(A.T @ u - v * factors.s, axis=0) / factors.s
    assert np.all(np.maximum(left, right) <= 1.05 * np.array(c.residuals) + 64 * eps * spread)
    assert c.max_residual == max(c.residuals)
    # Vectors: the reference's own error is eps over the gap, as ours is.
    gap = np.array([np.min(np.abs(np.delete(s, i) - s[i]), initial=s[i]) for i in range(k)]) / s[0]
    angles = np.linalg.norm(v - np.sum(v * Vt[:k].T, axis=0) * Vt[:k].T, axis=0)
    assert np.all(angles <= np.array(c.angle_bounds) + 256 * eps / np.maximum(gap, eps))
    error = np.linalg.norm(A - (u * factors.s) @ v.T) / np.linalg.norm(A)
    assert abs(error**2 - c.relative_error**2) <= c.relative_error_floor**2 + 64 * eps
    orthonormal = 1e-5 if factors.dtype == np.float32 else 1e-11
    assert np.max(np.abs(u.T @ u - np.eye(k))) <= orthonormal
    assert np.max(np.abs(v.T @ v - np.eye(k))) <= orthonormal
    largest = np.argmax(np.abs(v), axis=0)
    assert np.all(v[largest, np.arange(k)] > 0)
    if c.converged:
        assert np.all(np.array(c.residuals) <= np.maximum(c.tol, 100 * eps * spread**2))


def test_numerical_rank_is_reported_and_null_triplets_are_dropped(client: Client) -> None:
    A = FAMILIES["deficient"](np.random.default_rng(0), 200, 60)
    for method in ("krylov", "gram", "tall_skinny"):
        with pytest.warns(UserWarning, match="numerical rank 6 < k=12"):
            factors = bigsvd.svd(A, K, method=method, **if_on_dask(client, method))
        assert factors.k == factors.certificate.numerical_rank == 6


def test_a_run_cut_short_says_so_and_its_bounds_still_hold() -> None:
    A = np.random.default_rng(3).standard_normal((900, 300))
    with pytest.warns(UserWarning, match="tolerance 0.01 not reached"):
        factors = bigsvd.svd(A, K, method="krylov", max_passes=2)
    assert not factors.certificate.converged
    s = np.linalg.svd(A, compute_uv=False)
    distance = np.min(np.abs(s[None, :] - factors.s[:, None]), axis=1)
    assert np.all(distance <= np.array(factors.certificate.sigma_bounds) * factors.s)


def test_stop_error_reaches_the_best_reconstruction_with_fewer_passes() -> None:
    A = np.random.default_rng(3).standard_normal((900, 300))
    s = np.linalg.svd(A, compute_uv=False)
    best = np.sqrt(np.sum(s[K:] ** 2) / np.sum(s**2))
    factors = bigsvd.svd(A, K, method="krylov", stop="error", tol=1e-3)
    residual = bigsvd.svd(A, K, method="krylov", tol=1e-3)
    assert factors.certificate.converged
    assert 0 <= factors.certificate.relative_error - best <= 1e-3
    assert factors.provenance["costs"]["passes"] < residual.provenance["costs"]["passes"]


@pytest.mark.parametrize("tol", [1e-5, 3e-5])
def test_an_excess_is_not_judged_by_the_gain_of_a_change_to_float64(tol: float) -> None:
    sigma = np.append(1.0, 6.6e-4 * np.arange(1, 500) ** -0.03)
    A = with_values(np.random.default_rng(1), sigma, 600, 500).astype(np.float32)
    k = 20
    factors = bigsvd.svd(A, k, method="krylov", stop="error", tol=tol)
    s = np.linalg.svd(A.astype(np.float64), compute_uv=False)
    left = A - (np.asarray(factors.U[:], dtype=np.float64) * factors.s) @ factors.Vt[:]
    excess = np.linalg.norm(left) / np.linalg.norm(s) - np.sqrt(np.sum(s[k:] ** 2) / np.sum(s**2))
    assert factors.certificate.converged
    assert excess <= tol


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("dtype", "tail"), [("float32", 2e-4), ("float64", 1e-8)])
@pytest.mark.parametrize("options", [{"missing": "mean"}, {"center": True}], ids=str)
def test_directions_that_rounding_hides_from_the_first_block_are_found(
    options: dict[str, Any], dtype: str, tail: float
) -> None:
    """The first block is a power step here, which takes them below the rounding of the leading ones."""
    rng, k = np.random.default_rng(1), 20
    sigma = np.append([1, 0.9, 0.8, 0.7, 0.6], np.linspace(tail, tail / 2, 100))
    A = 100 * with_values(rng, sigma, 400, 150)
    A = (A + 5 * A.std() * rng.choice([-1, 1], 150) * ("center" in options)).astype(dtype)
    factors = bigsvd.svd(A, k, method="krylov", **options)
    B = A.astype(np.float64)
    s = np.linalg.svd(B - B.mean(axis=0) * ("center" in options), compute_uv=False)[:k]
    assert factors.k == k
    assert not factors.certificate.converged or np.max(np.abs(factors.s / s - 1)) <= 1e-2


def test_fewer_values_than_k_are_no_convergence(monkeypatch: pytest.MonkeyPatch) -> None:
    A = with_values(np.random.default_rng(2), 0.9 ** np.arange(60), 200, 60)
    _, s, Vt = np.linalg.svd(A, full_matrices=False)
    near = Vt[:3].T + 1e-4 * np.random.default_rng(3).standard_normal((60, 3))
    monkeypatch.setattr(krylov, "gaussian_block", lambda *_: np.linalg.qr(near)[0])
    for stop in ("residual", "error"):
        factors = bigsvd.svd(A, 5, method="krylov", stop=stop)
        assert factors.k == 5
        np.testing.assert_allclose(factors.s, s[:5], rtol=1e-2)


@pytest.mark.parametrize("rule", [{"energy": 0.99}, {"error": 0.01}], ids=str)
def test_an_automatic_rank_cut_short_by_the_number_of_passes_says_so(rule: dict[str, Any]) -> None:
    A = np.random.default_rng(3).standard_normal((900, 300))
    with pytest.warns(UserWarning, match="stopped after 1 passes, the most allowed"):
        bigsvd.svd(A, "auto", method="krylov", max_passes=1, **rule)


def test_audit_estimates_the_missing_energy_it_did_not_use() -> None:
    A = np.random.default_rng(5).standard_normal((600, 200)) * np.arange(1, 201) ** -0.5
    estimates = []
    for seed in range(5):
        audit = bigsvd.svd(A, K, method="krylov", seed=seed).certificate.audit
        assert audit is not None
        assert not audit.flagged
        estimates.append(audit.missing_energy / audit.expected)
        tail = np.linalg.svd(A, compute_uv=False)[K]
        assert tail <= audit.spectral_error
        assert audit.unseen_sigma <= tail * 1.001
    assert abs(np.mean(estimates) - 1) < 0.1


def test_bounds_by_arithmetic() -> None:
    residuals, sigma = np.array([1e-3, 0.5, 2.0]), np.array([4.0, 2.0, 1.0])
    bounds = sigma_bounds(residuals, sigma, 0.0)
    theta = sigma**2
    with np.errstate(invalid="ignore"):
        furthest = sigma - np.sqrt(np.maximum(0, theta - residuals * theta))
    assert np.allclose(bounds[:2] * sigma[:2], furthest[:2])
    assert bounds[2] >= 1
    assert np.all(angle_bounds(np.zeros(3), np.array([3.0, 3.0, 1.0]), np.zeros(0), 0.0)[:2] == 1)
    assert angle_bounds(np.array([0.1]), np.array([2.0]), np.array([1.0]), 0.0)[0] == pytest.approx(
        0.1 * 4 / 3
    )
    assert relative_error(np.array([3.0]), 5.0, 0.0)[0] == pytest.approx(0.8)
    assert relative_error(np.zeros(2), 0.0, 1e-16) == (0.0, 0.0)


def test_what_rounding_keeps_from_the_tolerance_is_not_called_as_exact_as_asked() -> None:
    """Beside a value of 1 those of 1e-6 have residuals of 1e-4 in float64, whatever the tolerance."""
    sigma = np.concatenate([[1.0], 1e-6 * np.linspace(2, 1, 24)])
    A = with_values(np.random.default_rng(0), sigma, 130, 25)
    with pytest.warns(UserWarning, match="no further direction"):
        factors = bigsvd.svd(A, 5, tol=1e-8, method="krylov")
    certificate = factors.certificate
    assert certificate.max_residual > 1e-8
    assert "as exact as rounding allows, which is less than was asked" in str(certificate)
    assert np.all(np.abs(factors.s - sigma[:5]) / sigma[:5] <= np.asarray(certificate.sigma_bounds))
