"""Variances, ratios and their errors: what NumPy and scikit-learn say of the matrix in full."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

import bigsvd
from bigsvd.errors import RequestError
from bigsvd.results.factors import Factors

M, N, K = 60, 25, 4
A = np.random.default_rng(0).standard_normal((M, N)) * np.linspace(5, 0.5, N) + 3


@pytest.fixture(scope="module", params=["rows", "columns"])
def factors(request: pytest.FixtureRequest) -> Factors:
    """Of centred samples, which are the rows or the columns."""
    data = A if request.param == "rows" else np.ascontiguousarray(A.T)
    return bigsvd.svd(data, K, samples=request.param, center=True, tol=1e-8)


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_explained_variance_is_that_of_the_scores(factors: Factors, ddof: int) -> None:
    np.testing.assert_allclose(factors.explained_variance(ddof), np.var(factors.scores, axis=0, ddof=ddof))
    total = np.var(A, axis=0, ddof=ddof).sum()
    assert factors.total_variance(ddof) == pytest.approx(total)
    np.testing.assert_allclose(factors.explained_variance_ratio, factors.explained_variance(ddof) / total)


def test_the_numbers_of_scikit_learn_are_the_same(factors: Factors) -> None:
    other = PCA(K, svd_solver="full").fit(A)
    np.testing.assert_allclose(factors.explained_variance(), other.explained_variance_)
    np.testing.assert_allclose(factors.explained_variance_ratio, other.explained_variance_ratio_)
    assert factors.noise_variance() == pytest.approx(other.noise_variance_)
    np.testing.assert_allclose(factors.components, other.components_, atol=1e-6)
    np.testing.assert_allclose(factors.scores, other.transform(A), atol=1e-5)


def test_loadings_are_computed_when_sliced(factors: Factors) -> None:
    whole = factors.components.T * np.sqrt(factors.explained_variance())
    loadings = factors.loadings()
    assert (loadings.shape, len(loadings), loadings.ndim) == ((N, K), N, 2)
    np.testing.assert_allclose(np.asarray(loadings), whole)
    for key in (3, slice(5, 9), slice(9, 1, -2), [4, 1], (slice(2, 4), 1), (..., slice(0, 2))):
        np.testing.assert_allclose(loadings[key], whole[key])
    covariance = np.cov(A.T) @ factors.components.T
    np.testing.assert_allclose(loadings[:] * np.sqrt(factors.explained_variance()), covariance, atol=1e-4)


def test_relatedness_has_these_eigenvalues(factors: Factors) -> None:
    B = A - A.mean(axis=0)
    wanted = np.linalg.eigvalsh(B @ B.T / N)[::-1][:K]
    np.testing.assert_allclose(factors.relatedness_eigenvalues, wanted)


def test_errors_of_north_shrink_with_independent_samples(factors: Factors) -> None:
    variance = factors.explained_variance()
    np.testing.assert_allclose(factors.north(), variance * np.sqrt(2 / M))
    np.testing.assert_allclose(factors.north(independent=12.5), variance * np.sqrt(2 / 12.5))
    np.testing.assert_allclose(factors.north(ddof=0), factors.explained_variance(0) * np.sqrt(2 / M))


def test_errors_of_north_are_those_of_samples_drawn_anew() -> None:
    """North et al. 1982, eq. 24, checked by drawing 300 sets of normal samples."""
    rng, sigma, count = np.random.default_rng(1), np.array([9.0, 4.0, 1.0]), 400
    drawn = [np.linalg.svd(rng.standard_normal((count, 3)) * sigma, compute_uv=False) for _ in range(300)]
    spread = np.std(np.square(drawn) / count, axis=0)
    np.testing.assert_allclose(spread, sigma**2 * np.sqrt(2 / count), rtol=0.15)


def test_variances_survive_truncation_and_are_in_the_facts(factors: Factors) -> None:
    few, facts = factors.truncate(2), factors.info()
    assert few.total_variance() == pytest.approx(factors.total_variance())
    np.testing.assert_allclose(few.explained_variance_ratio, factors.explained_variance_ratio[:2])
    assert few.noise_variance() > factors.noise_variance()
    assert facts["total_variance"] == pytest.approx(factors.total_variance())
    np.testing.assert_allclose(facts["explained_variance"], factors.explained_variance())
    np.testing.assert_allclose(facts["explained_variance_ratio"], factors.explained_variance_ratio)


def test_behind_all_triplets_there_is_no_noise() -> None:
    factors = bigsvd.svd(A, N, center=True)
    assert factors.noise_variance() == 0
    assert factors.explained_variance_ratio.sum() == pytest.approx(1)


@pytest.mark.parametrize("ddof", [-1, M, 0.5, True, None])
def test_a_ddof_that_leaves_no_samples_is_refused(factors: Factors, ddof: Any) -> None:
    for method in (factors.explained_variance, factors.total_variance, factors.noise_variance, factors.north):
        with pytest.raises(RequestError, match=r"ddof=.* with 60 samples; give an integer in 0\.\.59"):
            method(ddof)


@pytest.mark.parametrize("independent", [0, -3.0, float("nan"), float("inf")])
def test_a_number_of_independent_samples_is_positive(factors: Factors, independent: float) -> None:
    with pytest.raises(RequestError, match="independent samples; give a positive number"):
        factors.north(independent=independent)
