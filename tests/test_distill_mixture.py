"""The mixture: its posterior is Bayes' own, its fit holds back where there is little to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from bigsvd.distill.basis import Basis
from bigsvd.distill.gaussians import Gaussians, fit_gaussians
from bigsvd.distill.mixture import MOST_ROWS, Mixture, fit_mixture, rows_to_fit
from bigsvd.distill.observed import Observed, observe
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows

N, R, C = 30, 5, 6


def a_basis(random: np.random.Generator, noise: float = 0.3) -> Basis:
    V = np.linalg.qr(random.normal(size=(N, R)))[0]
    return Basis(V, np.sqrt(np.geomspace(90, 3, R) * 1000), noise * np.exp(random.normal(size=N)), 1000)


def a_mixture(random: np.random.Generator, basis: Basis) -> Mixture:
    means = random.normal(size=(C, R)) * 4
    roots = random.normal(size=(C, R, R))
    covariances = roots @ np.swapaxes(roots, 1, 2) + 0.1 * np.eye(R)
    return Mixture(random.dirichlet(np.ones(C)), means, covariances, basis.prior)


def drawn(
    random: np.random.Generator, basis: Basis, mixture: Mixture, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of m rows, and the rows."""
    which = random.choice(len(mixture), m, p=mixture.weights)
    roots = np.linalg.cholesky(mixture.covariances)[which]
    z = mixture.means[which] + np.einsum("bij,bj->bi", roots, random.normal(size=(m, R)))
    return z, z @ basis.V.T + random.normal(size=(m, N)) * np.sqrt(basis.noise)


def by_definition(mixture: Mixture, basis: Basis, x: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, ...]:
    """The posterior from the joint normal densities of the entries seen, with nothing simplified."""
    V, found = basis.V[seen], []
    for weight, mean, S in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        K = V @ S @ V.T + np.diag(basis.noise[seen])
        away = x[seen] - V @ mean
        log = np.log(weight) - 0.5 * (np.linalg.slogdet(K)[1] + away @ np.linalg.solve(K, away))
        gain = np.linalg.solve(K, V @ S).T
        found.append((log, mean + gain @ away, S - gain @ V @ S))
    share = np.exp(np.array([log for log, _, _ in found]) - max(log for log, _, _ in found))
    share /= share.sum()
    mean = sum(s * m for s, (_, m, _) in zip(share, found, strict=True))
    parts = zip(share, found, strict=True)
    return mean, sum(s * (S + np.outer(m - mean, m - mean)) for s, (_, m, S) in parts)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_posterior_is_that_of_the_joint_density(seed: int, shared: bool) -> None:
    random = np.random.default_rng(seed)
    basis = a_basis(random)
    mixture = a_mixture(random, basis)
    _, x = drawn(random, basis, mixture, 12)
    seen = np.tile(random.random(N) < 0.3, (12, 1)) if shared else random.random((12, N)) < 0.3
    observed = observe(basis, Rows(0, x * seen, seen))
    if shared:
        observed = Observed(observed.G[:1], observed.t, observed.energy, observed.count)
    found = mixture.infer(observed)
    for place in range(12):
        mean, covariance = by_definition(mixture, basis, x[place], seen[place])
        # A thousandth of the probability may be left out, of components that lie apart.
        np.testing.assert_allclose(found.mean[place], mean, atol=2e-2)
        np.testing.assert_allclose(found.covariance[place], covariance, atol=0.1)


def test_a_row_of_which_nothing_was_seen_has_the_moments_of_the_mixture() -> None:
    random = np.random.default_rng(3)
    basis = a_basis(random)
    mixture = a_mixture(random, basis)
    seen = random.random((4, N)) < 0.3
    seen[1] = False
    _, x = drawn(random, basis, mixture, 4)
    found = mixture.infer(observe(basis, Rows(0, x * seen, seen)))
    mean = mixture.weights @ mixture.means
    away = mixture.means - mean
    spread = np.einsum(
        "c,cij->ij", mixture.weights, mixture.covariances + away[:, :, None] * away[:, None, :]
    )
    np.testing.assert_allclose(found.mean[1], mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.covariance[1], spread, rtol=1e-6, atol=1e-6)


def test_an_answer_does_not_depend_on_the_rows_beside_it() -> None:
    random = np.random.default_rng(4)
    basis = a_basis(random)
    mixture = a_mixture(random, basis)
    _, x = drawn(random, basis, mixture, 9)
    seen = random.random((9, N)) < random.random((9, 1))
    whole = mixture.infer(observe(basis, Rows(0, x * seen, seen)))
    part = mixture.infer(observe(basis, Rows(0, (x * seen)[3:6], seen[3:6])))
    np.testing.assert_allclose(part.mean, whole.mean[3:6], rtol=1e-9)
    np.testing.assert_allclose(part.covariance, whole.covariance[3:6], rtol=1e-9)


def test_one_component_is_the_ridge() -> None:
    random = np.random.default_rng(5)
    basis = a_basis(random)
    one = Mixture(np.ones(1), np.zeros((1, R)), np.diag(basis.prior)[None], basis.prior)
    seen = random.random((7, N)) < 0.4
    observed = observe(basis, Rows(0, random.normal(size=(7, N)) * seen, seen))
    mixed, ridge = one.infer(observed), Ridge(basis.prior).infer(observed)
    np.testing.assert_allclose(mixed.mean, ridge.mean, rtol=1e-9)
    np.testing.assert_allclose(mixed.covariance, ridge.covariance, rtol=1e-9, atol=1e-12)


def test_groups_are_found_and_rows_with_few_entries_know_theirs() -> None:
    random = np.random.default_rng(6)
    basis = a_basis(random)
    truth = a_mixture(random, basis)
    z, x = drawn(random, basis, truth, 2000)
    mixture = fit_mixture(x[:1500] @ basis.V, basis, seed=1)
    assert len(mixture) >= 4
    seen = random.random((500, N)) < 0.2
    observed = observe(basis, Rows(0, x[1500:] * seen, seen))
    errors = [
        np.linalg.norm(stage.infer(observed).mean - z[1500:]) for stage in (mixture, Ridge(basis.prior))
    ]
    best = np.linalg.norm(truth.infer(observed).mean - z[1500:])
    assert errors[0] < 0.85 * errors[1]
    assert errors[0] < 1.1 * best


def test_one_gaussian_is_told_from_many() -> None:
    points = np.random.default_rng(7).normal(size=(600, 4)) * [9, 4, 2, 1]
    assert len(fit_gaussians(points, 0)) == 1


def test_the_same_seed_gives_the_same_mixture() -> None:
    random = np.random.default_rng(8)
    points = random.normal(size=(300, 3)) + random.integers(0, 3, (300, 1)) * 8
    first, second = fit_gaussians(points, 3), fit_gaussians(points, 3)
    np.testing.assert_array_equal(first.means, second.means)
    np.testing.assert_array_equal(first.covariances, second.covariances)


@pytest.mark.parametrize(
    "points", [np.zeros((5, 3)), np.ones((40, 3)), np.eye(4)[:1], np.arange(60.0)[:, None] * [1, 2, 3]]
)
def test_points_that_are_few_or_alike_give_a_density(points: np.ndarray) -> None:
    found = fit_gaussians(points, 0)
    assert np.isfinite(found.log_likelihood(points))
    assert isinstance(found, Gaussians)
    np.linalg.cholesky(found.covariances)


@pytest.mark.parametrize("unit", [2.0**-500, 2.0**500])
def test_a_mixture_and_its_answers_do_not_depend_on_the_unit(unit: float) -> None:
    random = np.random.default_rng(12)
    basis = a_basis(random)
    points = random.normal(size=(300, R)) + random.integers(0, 3, (300, 1)) * 8
    rows = points[:20] @ basis.V.T + random.normal(size=(20, N)) * np.sqrt(basis.noise)
    seen = random.random(rows.shape) < 0.3
    there = Basis(basis.V, basis.s * unit, basis.noise * unit**2, basis.samples)
    stretched = np.diag(basis.prior * np.linspace(1, 3, R))
    found = fit_mixture(points, basis).moved(stretched).infer(observe(basis, Rows(0, rows * seen, seen)))
    far = fit_mixture(points * unit, there).moved(stretched * unit**2)
    again = far.infer(observe(there, Rows(0, rows * seen * unit, seen)))
    np.testing.assert_allclose(again.mean / unit, found.mean, rtol=1e-9)
    np.testing.assert_allclose(again.covariance / unit**2, found.covariance, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("r", [5, 20])
def test_rows_without_noise_but_rounding_have_an_answer(r: int) -> None:
    random = np.random.default_rng(13)
    V = np.linalg.qr(random.normal(size=(40, r)))[0]
    s = 300 * np.geomspace(1, 1e-3, r)
    basis = Basis(V, s, Basis.floored(np.zeros(40), s, 100), 100)
    points = random.normal(size=(100, r)) * s / 10
    seen = random.random((100, 40)) < 0.5
    seen[0] = True
    found = fit_mixture(points, basis).infer(observe(basis, Rows(0, points @ V.T * seen, seen)))
    np.testing.assert_allclose(found.mean[0], points[0], rtol=1e-4, atol=1e-4)
    assert np.all(np.isfinite(found.mean))


def test_components_vary_by_no_less_than_a_part_of_the_noise() -> None:
    basis = a_basis(np.random.default_rng(9))
    mixture = fit_mixture(np.random.default_rng(9).normal(size=(200, R)) * 1e-3, basis)
    noise = np.linalg.cholesky(basis.V.T @ (basis.noise[:, None] * basis.V))
    white = np.linalg.solve(noise, np.linalg.solve(noise, mixture.covariances[0]).T)
    np.testing.assert_allclose(np.linalg.eigvalsh(white), 1e-2, rtol=1e-6)


def test_rows_to_fit_are_all_or_a_part_that_the_seed_decides() -> None:
    np.testing.assert_array_equal(rows_to_fit(10, 1), np.arange(10))
    some = rows_to_fit(10**6, 1)
    assert len(np.unique(some)) == MOST_ROWS
    assert np.all(np.diff(some) > 0)
    np.testing.assert_array_equal(some, rows_to_fit(10**6, 1))


def test_its_arrays_are_all_of_it() -> None:
    random = np.random.default_rng(10)
    basis = a_basis(random)
    mixture = a_mixture(random, basis)
    again = Mixture.from_arrays(mixture.to_arrays())
    seen = random.random((3, N)) < 0.3
    observed = observe(basis, Rows(0, random.normal(size=(3, N)) * seen, seen))
    np.testing.assert_array_equal(again.infer(observed).mean, mixture.infer(observed).mean)


def test_a_moved_mixture_has_the_covariance_it_was_moved_to() -> None:
    random = np.random.default_rng(11)
    basis = a_basis(random)
    mixture = a_mixture(random, basis)
    spread = np.cov(mixture.means.T, aweights=mixture.weights, bias=True)
    total = spread + np.einsum("c,cij->ij", mixture.weights, mixture.covariances)
    # In coordinates in which its own covariance is that of the basis.
    turn = np.diag(np.sqrt(basis.prior)) @ np.linalg.inv(np.linalg.cholesky(total))
    own = Mixture(mixture.weights, mixture.means @ turn.T, turn @ mixture.covariances @ turn.T, basis.prior)
    wanted = np.cov(random.normal(size=(R, 40)) * np.linspace(1, 5, R)[:, None])
    moved = own.moved(wanted)
    found = np.cov(moved.means.T, aweights=moved.weights, bias=True)
    found = found + np.einsum("c,cij->ij", moved.weights, moved.covariances)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    same = own.moved(np.diag(basis.prior))
    np.testing.assert_allclose(same.means, own.means, rtol=1e-9)
