"""The posterior of rows with gaps, against the textbook: a joint Gaussian, conditioned on what was seen."""

from __future__ import annotations

import numpy as np
import pytest

import bigsvd.distill.basis as basis_module
from bigsvd.distill.basis import Basis
from bigsvd.distill.inverses import inverses
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


def check(basis: Basis, rows: Rows, prior: np.ndarray, stage: Ridge, tolerance: float = 1e-10) -> None:
    """Each row's posterior against the textbook's, in units of the prior's deviations."""
    found = stage.infer(observe(basis, rows))
    covariances = np.broadcast_to(found.covariance, (len(rows), *prior.shape))
    unit = np.sqrt(np.diag(prior))
    for i in range(len(rows)):
        mean, covariance = conditioned(basis, prior, rows.values[i], rows.seen[i])
        size = max(1.0, float(np.max(np.abs(mean / unit))))
        np.testing.assert_allclose(found.mean[i] / unit, mean / unit, atol=tolerance * size, rtol=0)
        np.testing.assert_allclose(
            covariances[i] / np.outer(unit, unit), covariance / np.outer(unit, unit), atol=tolerance, rtol=0
        )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("full", [False, True])
def test_it_is_the_joint_gaussian_conditioned(share: float, full: bool) -> None:
    basis, rows = basis_of(), rows_of(basis_of(), 30, share)
    prior = np.diag(basis.prior)
    if full:
        turn = np.linalg.qr(np.random.default_rng(5).standard_normal(prior.shape))[0]
        prior = turn @ prior @ turn.T
    check(basis, rows, prior, Ridge(prior if full else basis.prior))


def test_what_is_hidden_says_nothing() -> None:
    basis, rows = basis_of(), rows_of(basis_of(), 5, 0.6)
    bare = observe(basis, rows.hide(np.ones(rows.seen.shape, dtype=bool)))
    assert not bare.G.any()
    assert not bare.t.any()
    assert not bare.energy.any()
    assert not bare.count.any()
    np.testing.assert_array_equal(observe(basis, rows).count, rows.seen.sum(axis=1))


@pytest.mark.parametrize("share", [0.08, 0.5, 0.9])
def test_every_form_gives_the_same_matrices(share: float) -> None:
    """Few columns are gathered, many taken off the whole; else it is one product; one mask is one matrix."""
    basis, rows = basis_of(60, 4), rows_of(basis_of(60, 4), 40, share)
    observed = observe(basis, rows)
    V = basis.V
    for i, seen in enumerate(rows.seen):
        weigh = seen / basis.noise
        np.testing.assert_allclose(observed.G[i], V.T @ (weigh[:, None] * V), atol=1e-13)
        np.testing.assert_allclose(observed.t[i], V.T @ (weigh * rows.values[i]), atol=1e-12)
        assert observed.energy[i] == pytest.approx(np.sum(weigh * rows.values[i] ** 2))
        one = observe(basis, Rows(0, rows.values[i : i + 1], seen[None]))
        np.testing.assert_allclose(one.G[0], observed.G[i], atol=1e-13)
        np.testing.assert_allclose(one.t[0], observed.t[i], atol=1e-12)
        assert one.energy[0] == pytest.approx(observed.energy[i])
    alike = Rows(0, rows.values * rows.seen[0], np.repeat(rows.seen[:1], 40, axis=0))
    assert observe(basis, alike).G.shape == (1, 4, 4)
    check(basis, alike, np.diag(basis.prior), Ridge(basis.prior))


def test_products_of_pairs_are_made_some_columns_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(basis_of(60, 4), 20, 0.5)
    whole = observe(basis_of(60, 4), rows)
    monkeypatch.setattr(basis_module, "_PRODUCTS_BYTES", 7 * 8 * 10)
    basis = basis_of(60, 4)
    assert [some.stop - some.start for some, _ in basis.products()] == [7] * 8 + [4]
    np.testing.assert_allclose(observe(basis, rows).G, whole.G, atol=1e-14)


@pytest.mark.parametrize("r", [1, 2, 8, 9, 31, 50])
def test_inverses_are_those_of_lapack(r: int) -> None:
    random = np.random.default_rng(r)
    roots = random.standard_normal((5, r, r + 3)) * np.geomspace(1, 1e4, r)[:, None]
    A = np.eye(r) + roots @ roots.mT
    found = inverses(A)
    np.testing.assert_allclose(found @ A, np.broadcast_to(np.eye(r), A.shape), atol=1e-6)
    np.testing.assert_allclose(found, np.linalg.inv(A), rtol=1e-6, atol=1e-12)


HARD = {
    "one column is noise": (np.array([1e6] + [1.0] * 19), np.array([50.0, 9.0, 2.0])),
    "one column is exact": (np.array([1e-6] + [1.0] * 19), np.array([50.0, 9.0, 2.0])),
    "a component of nothing": (np.full(20, 0.5), np.array([50.0, 9.0, 0.0])),
    "variances far apart": (np.full(20, 1e-2), np.array([1e7, 1.0, 1e-2])),
    "huge": (np.full(20, 1e200), np.array([50.0, 9.0, 2.0]) * 1e200),
    "tiny": (np.full(20, 1e-200), np.array([50.0, 9.0, 2.0]) * 1e-200),
    "no noise but rounding": (
        Basis.floored(np.zeros(20), np.sqrt(M * np.array([50.0, 9, 2])), M),
        np.array([50.0, 9.0, 2.0]),
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_cases_are_the_textbook_too(name: str) -> None:
    noise, variances = HARD[name]
    V = np.linalg.qr(np.random.default_rng(4).standard_normal((20, 3)))[0]
    basis = Basis(V, np.sqrt(M * variances), noise, M)
    rows = rows_of(basis, 12, 0.5)
    seen = rows.seen.copy()
    seen[0], seen[1], seen[2] = False, np.arange(20) == 4, True  # nothing, one entry, everything
    rows = Rows(0, rows.values * seen, seen)
    # Of what has no noise the textbook inverts a matrix of condition 1e12, this one I + LᵀGL.
    tolerance = 1e-3 if name == "no noise but rounding" else 1e-6
    check(basis, rows, np.diag(basis.prior), Ridge(basis.prior), tolerance)
    found = Ridge(basis.prior).infer(observe(basis, rows))
    assert not found.mean[0].any()
    np.testing.assert_allclose(found.covariance[0], np.diag(basis.prior), rtol=1e-14)
