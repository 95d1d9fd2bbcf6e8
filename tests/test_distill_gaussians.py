"""A mixture of normal densities: its density, both steps of its EM, and how its fit looks for strengths."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from bigsvd.distill import gaussians, moments
from bigsvd.distill.gaussians import Gaussians, expectation_maximisation, fit_gaussians
from bigsvd.distill.moments import packed, pairs_bytes, pairs_of

M, R, C = 400, 5, 3


def a_mixture(random: np.random.Generator) -> Gaussians:
    roots = random.normal(size=(C, R, R))
    covariances = roots @ np.swapaxes(roots, 1, 2) + 0.1 * np.eye(R)
    return Gaussians(random.dirichlet(np.ones(C)), random.normal(size=(C, R)) * 3, covariances)


def by_definition(mixture: Gaussians, points: np.ndarray) -> np.ndarray:
    """weights_c·N(z; means_c, covariances_c), (m, c)."""
    away = points[:, None, :] - mixture.means
    squares = np.einsum("mci,cij,mcj->mc", away, np.linalg.inv(mixture.covariances), away)
    volumes = np.sqrt(np.linalg.det(2 * np.pi * mixture.covariances))
    return np.asarray(mixture.weights * np.exp(-0.5 * squares) / volumes)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs are made a few points at a time, and none are kept."""
    monkeypatch.setattr(moments, "_FEWEST", 7)
    monkeypatch.setattr(moments, "_BLOCK_BYTES", 0)
    monkeypatch.setattr(moments, "_HELD_BYTES", 0)


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_the_likelihood_is_that_of_its_definition(far: float) -> None:
    random = np.random.default_rng(1)
    mixture, points = a_mixture(random), random.normal(size=(M, R)) * 4
    expected = np.mean(np.log(by_definition(mixture, points).sum(axis=1)))
    moved = mixture.about(np.full(R, -far))
    np.testing.assert_allclose(moved.log_likelihood(points + far), expected, rtol=1e-7)


def test_a_step_of_expectation_maximisation_is_that_of_its_definition() -> None:
    random = np.random.default_rng(2)
    points = random.normal(size=(M, R)) * np.arange(1, R + 1)
    points -= points.mean(axis=0)
    share, strength = np.eye(C)[random.integers(0, C, M)], 0.5
    found = expectation_maximisation(gaussians._Sample.of(points), share.T, strength, steps=2)
    first = maximised(points, share, strength * R)
    density = by_definition(first, points)
    expected = maximised(points, density / density.sum(axis=1, keepdims=True), strength * R)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-9)
    np.testing.assert_allclose(found.means, expected.means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.covariances, expected.covariances, rtol=1e-9, atol=1e-9)


def maximised(points: np.ndarray, share: np.ndarray, borrowed: float) -> Gaussians:
    """The mode of each component's mean (one point at 0 beside its own) and of its covariance."""
    counts = share.sum(axis=0)
    means = (share.T @ points) / (counts + 1)[:, None]
    away = points[:, None, :] - means
    scatter = np.einsum("mc,mci,mcj->cij", share, away, away)
    within = scatter.sum(axis=0) / len(points)
    within += 1e-6 * np.mean(np.diag(within)) * np.eye(R)
    covariances = (scatter + borrowed * within) / (counts + borrowed)[:, None, None]
    return Gaussians((counts + 1) / (counts + 1).sum(), means, covariances)


@pytest.mark.usefixtures("blocks")
def test_pairs_are_products_of_any_two_coordinates() -> None:
    random = np.random.default_rng(3)
    points, forms = random.normal(size=(30, R)), random.normal(size=(2, R + 1, R + 1))
    forms += np.swapaxes(forms, 1, 2)
    rows, made = np.insert(points, 0, 1.0, axis=1), list(pairs_of(points))
    assert [some.shape[1] for some in made] == [7, 7, 7, 7, 2]
    pairs = np.concatenate(made, axis=1)
    np.testing.assert_allclose(packed(forms) @ pairs, np.einsum("cij,mi,mj->cm", forms, rows, rows))


def test_pairs_that_are_not_kept_give_the_same_mixture(request: pytest.FixtureRequest) -> None:
    random = np.random.default_rng(4)
    points = random.normal(size=(100, R)) + random.integers(0, 3, (100, 1)) * 5
    kept = fit_gaussians(points, 0)
    assert isinstance(pairs_of(points), list)
    request.getfixturevalue("blocks")
    made = fit_gaussians(points, 0)
    assert not isinstance(pairs_of(points), list)
    np.testing.assert_allclose(made.covariances, kept.covariances, rtol=1e-9, atol=1e-12)


def test_pairs_hold_no_more_than_is_said() -> None:
    few, many = pairs_bytes(1000, R), pairs_bytes(10**7, R)
    assert sum(some.nbytes for some in pairs_of(np.zeros((1000, R)))) <= few < 2**22
    assert many < 2**27 + 2**22


def test_every_size_looks_for_its_strength_from_that_of_the_size_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best = {1: 2.0, 2: 0.125, 4: 0.125, 8: 0.5, 16: 0.5, 32: 0.5}
    tried: list[tuple[int, float]] = []

    def likelihood(_known: object, _others: object, start: np.ndarray, strength: float) -> gaussians._Trial:
        size = len(start)
        tried.append((size, strength))
        return gaussians._Trial(size - abs(np.log2(strength / best[size])), size, strength)

    monkeypatch.setattr(gaussians, "_tried", likelihood)
    found = gaussians._best(np.random.default_rng(5).normal(size=(M, R)), 0)
    assert (found.size, found.strength) == (32, 0.5)
    assert [strength for size, strength in tried if size == 2] == [2.0, 0.5, 0.125]
    assert [strength for size, strength in tried if size == 4] == [0.125, 0.5]
    assert [strength for size, strength in tried if size == 8] == [0.125, 0.5, 2.0]


def test_a_fit_holds_no_more_than_is_said() -> None:
    points = np.random.default_rng(6).normal(size=(4000, 12))
    tracemalloc.start()
    try:
        fit_gaussians(points, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert gaussians.fit_bytes(4000, 12) / 4 < peak < gaussians.fit_bytes(4000, 12)


def test_a_fit_multiplies_about_as_much_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    random, taken = np.random.default_rng(7), [0.0]
    step = gaussians._expected

    def counted(found: Gaussians, pairs: gaussians.Pairs) -> tuple[np.ndarray, float]:
        taken[0] += 2 * found.natural.size * sum(some.shape[1] for some in pairs)
        return step(found, pairs)

    monkeypatch.setattr(gaussians, "_expected", counted)
    angle = random.uniform(0, 2 * np.pi, (160, 1))
    fit_gaussians(np.cos(angle + np.arange(4)) * 3 + 0.3 * random.normal(size=(160, 4)), 0)
    assert 1 <= gaussians.fit_flops(160, 4) / taken[0] < 3
