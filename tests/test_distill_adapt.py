"""`AdaptSums`: components follow data whose subspace has turned, and stay where nothing is to follow."""

from __future__ import annotations

import numpy as np
import pytest

from bigsvd.distill.adapt import AdaptSums, adapt_bytes
from bigsvd.distill.basis import Basis
from bigsvd.distill.observed import observe
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows

N, R, M = 60, 4, 1500
VARIANCES = np.array([40.0, 20.0, 10.0, 5.0])


def a_basis(random: np.random.Generator) -> Basis:
    V = np.linalg.qr(random.normal(size=(N, R)))[0]
    noise = 0.1 * np.exp(random.normal(size=N))
    return Basis(V, np.sqrt((VARIANCES + noise @ V**2) * 4000), noise, 4000)


def turned(random: np.random.Generator, V: np.ndarray, degrees: float) -> np.ndarray:
    """Every component by this angle out of the span of all."""
    away = random.normal(size=V.shape)
    away = np.linalg.qr(away - V @ (V.T @ away))[0]
    angle = np.deg2rad(degrees)
    return np.asarray(np.cos(angle) * V + np.sin(angle) * away)


def rows_of(
    random: np.random.Generator, V: np.ndarray, noise: np.ndarray, share: float
) -> tuple[Rows, np.ndarray]:
    """Rows with gaps, and the same complete."""
    x = (random.normal(size=(M, R)) * np.sqrt(VARIANCES)) @ V.T + random.normal(size=(M, N)) * np.sqrt(noise)
    seen = random.random((M, N)) < share
    return Rows(0, x * seen, seen), x


def adapted(basis: Basis, rows: Rows, kappa: float) -> Basis:
    sums = AdaptSums(basis)
    for start in range(0, M, 400):
        part = Rows(start, rows.values[start : start + 400], rows.seen[start : start + 400])
        sums.add(part, Ridge(basis.prior).infer(observe(basis, part)))
    return sums.basis(kappa)


def error(basis: Basis, rows: Rows, x: np.ndarray) -> float:
    """RMSE on entries that were not seen."""
    z = Ridge(basis.prior).infer(observe(basis, rows)).mean
    return float(np.sqrt(np.mean((x - z @ basis.V.T)[~rows.seen] ** 2)))


@pytest.mark.parametrize("seed", range(3))
def test_the_error_falls_where_the_subspace_has_turned(seed: int) -> None:
    random = np.random.default_rng(seed)
    basis = a_basis(random)
    V = turned(random, basis.V, 25)
    rows, x = rows_of(random, V, basis.noise, 0.4)
    moved = adapted(basis, rows, 50.0)
    before, after = error(basis, rows, x), error(moved, rows, x)
    best = error(Basis(V, basis.s, basis.noise, basis.samples), rows, x)
    assert after - best < 0.5 * (before - best)
    angles = [np.linalg.norm(V - other.V @ (other.V.T @ V), 2) for other in (basis, moved)]
    assert angles[1] < 0.6 * angles[0]


def test_a_second_pass_comes_nearer() -> None:
    random = np.random.default_rng(5)
    basis = a_basis(random)
    rows, x = rows_of(random, turned(random, basis.V, 35), basis.noise, 0.4)
    once = adapted(basis, rows, 50.0)
    assert error(adapted(once, rows, 50.0), rows, x) < error(once, rows, x)


def test_data_of_the_same_kind_lose_little() -> None:
    random = np.random.default_rng(6)
    basis = a_basis(random)
    rows, x = rows_of(random, basis.V, basis.noise, 0.4)
    assert error(adapted(basis, rows, 500.0), rows, x) < 1.02 * error(basis, rows, x)


def test_without_rows_it_is_the_teacher() -> None:
    basis = a_basis(np.random.default_rng(7))
    same = AdaptSums(basis).basis(10.0)
    np.testing.assert_allclose(np.abs(np.sum(same.V * basis.V, axis=0)), 1, rtol=1e-9)
    np.testing.assert_allclose(same.noise, basis.noise, rtol=1e-9)
    np.testing.assert_allclose(same.s, basis.s, rtol=1e-9)


def test_a_column_that_nobody_has_stays_and_components_are_orthonormal() -> None:
    random = np.random.default_rng(8)
    basis = a_basis(random)
    rows, _ = rows_of(random, basis.V, basis.noise, 0.5)
    gone = rows.hide(np.broadcast_to(np.arange(N) == 3, (M, N)))
    moved = adapted(basis, gone, 20.0)
    np.testing.assert_allclose(moved.V.T @ moved.V, np.eye(R), atol=1e-12)
    np.testing.assert_allclose(moved.noise[3], basis.noise[3], rtol=1e-9)
    assert np.all(np.diff(moved.prior) <= 0)


def test_the_bytes_are_those_of_its_sums() -> None:
    sums = AdaptSums(a_basis(np.random.default_rng(9)))
    held = sum(part.nbytes for part in (sums._moments, sums._products, sums._squares, sums._counts))
    assert adapt_bytes(N, R) == held
