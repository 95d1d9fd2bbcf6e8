"""The posterior of rows with gaps, against the textbook: a joint Gaussian, conditioned on what was seen."""

from __future__ import annotations

import numpy as np
import pytest

from bigsvd.distill.basis import Basis
from bigsvd.distill.observed import observe
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows

M = 400


def basis_of(n: int = 12, r: int = 4, seed: int = 0) -> Basis:
    random = np.random.default_rng(seed)
    V = np.linalg.qr(random.standard_normal((n, r)))[0]
    noise = random.uniform(0.1, 3.0, n)
    return Basis(V, np.sqrt(M * np.array([9.0, 4.0, 2.0, 1.5])[:r]), noise, M)


def rows_of(basis: Basis, b: int, share: float, seed: int = 1) -> Rows:
    random = np.random.default_rng(seed)
    z = random.standard_normal((b, basis.r)) * np.sqrt(basis.prior)
    x = z @ basis.V.T + random.standard_normal((b, basis.n)) * np.sqrt(basis.noise)
    seen = random.random((b, basis.n)) < share
    return Rows(0, np.where(seen, x, 0.0), seen)


def conditioned(
    basis: Basis, prior: np.ndarray, x: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of z given x at the entries seen, of the joint Gaussian of (z, x)."""
    V = basis.V[seen]
    across = prior @ V.T
    gain = across @ np.linalg.inv(V @ across + np.diag(basis.noise[seen]))
    return gain @ x[seen], prior - gain @ across.T


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("full", [False, True])
def test_it_is_the_joint_gaussian_conditioned(share: float, full: bool) -> None:
    basis, rows = basis_of(), rows_of(basis_of(), 30, share)
    prior = np.diag(basis.prior)
    if full:
        turn = np.linalg.qr(np.random.default_rng(5).standard_normal(prior.shape))[0]
        prior = turn @ prior @ turn.T
    found = Ridge(prior if full else basis.prior).infer(observe(basis, rows))
    for i in range(len(rows)):
        mean, covariance = conditioned(basis, prior, rows.values[i], rows.seen[i])
        np.testing.assert_allclose(found.mean[i], mean, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(found.covariance[i], covariance, rtol=1e-10, atol=1e-11)


def test_what_is_hidden_says_nothing() -> None:
    basis, rows = basis_of(), rows_of(basis_of(), 5, 0.6)
    bare = observe(basis, rows.hide(np.ones(rows.seen.shape, dtype=bool)))
    assert not bare.G.any()
    assert not bare.t.any()
    assert not bare.energy.any()
    assert not bare.count.any()
    np.testing.assert_array_equal(observe(basis, rows).count, rows.seen.sum(axis=1))
