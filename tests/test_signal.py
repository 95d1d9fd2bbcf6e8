"""`stop="signal"`: what stands above the noise is found as LAPACK has it, and the rest is not waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

import bigsvd
from bigsvd.events import Certified, Event
from bigsvd.results.rank import Spectrum, fit_bulk

K = 10


def spiked(shape: tuple[int, int], strengths: list[float], seed: int) -> np.ndarray:
    """Noise of variance 1, and components that have so many times its variance along their direction."""
    rng = np.random.default_rng([seed, *shape])
    directions = np.linalg.qr(rng.standard_normal((shape[1], max(1, len(strengths)))))[0][:, : len(strengths)]
    scores = rng.standard_normal((shape[0], len(strengths))) * np.sqrt(strengths)
    return np.asarray(scores @ directions.T + rng.standard_normal(shape))


def stored(A: np.ndarray) -> zarr.Array[Any]:
    """The same in sixty chunks along its long side, so that a sample of the chunks is a small part of it."""
    chunks = tuple(-(-side // 60) if side == max(A.shape) else side for side in A.shape)
    array = zarr.create_array(MemoryStore(), shape=A.shape, chunks=chunks, dtype=A.dtype, compressors=None)
    array[:] = A
    return array


def standardised(A: np.ndarray) -> np.ndarray:
    centred = A - A.mean(axis=0)
    return np.asarray(centred / centred.std(axis=0))


def of_lapack(A: np.ndarray, *, centred: bool = False) -> tuple[int, np.ndarray]:
    """How many values stand above the noise when all are known, and these."""
    s = np.linalg.svd(A, compute_uv=False)
    shape = (A.shape[0] - centred, A.shape[1])
    known = s[: min(shape)]
    count = fit_bulk(Spectrum(known, float(np.linalg.norm(s)), shape, A.nbytes, 8)).rank
    return count, s[:count]


def decomposed(A: np.ndarray, **options: Any) -> tuple[bigsvd.Factors, list[Certified]]:
    seen: list[Event] = []
    given = {"method": "krylov", "stop": "signal"} | options
    factors = bigsvd.svd(stored(A), K, progress=seen.append, **given)
    return factors, [event for event in seen if isinstance(event, Certified)]


@pytest.mark.parametrize("shape", [(3000, 300), (300, 3000), (700, 600)])
def test_the_components_are_those_of_lapack_and_the_noise_behind_them_is_not_waited_for(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    A = spiked(shape, [20, 12, 8, 6, 5] if shape[0] >= shape[1] else [200, 120, 80, 60, 50], 0)
    count, sigma = of_lapack(A)
    assert count == 5
    factors, told = decomposed(A, tol=1e-3, out=tmp_path / "u")
    strict, told_strict = decomposed(A, tol=1e-3, stop="residual")
    c = bigsvd.open(tmp_path / "u").certificate
    assert c.converged
    assert strict.certificate.converged
    assert c.signal is not None
    assert c.signal.count == 5
    assert sigma[4] > c.signal.edge > strict.s[5]
    np.testing.assert_allclose(factors.s[:5], sigma, rtol=1e-6)
    assert max(c.residuals[:5]) <= 1e-3 < c.max_residual
    assert told[-1].passes < told_strict[-1].passes
    assert (told[-1].above_noise, told[-1].reached, told_strict[-1].reached) == (5, 5, K)
    assert "5 of 10 triplets stand above the noise" in str(c)
    assert "any orthonormal vectors there would do as well" in str(c)
    U = factors.U[:]
    np.testing.assert_allclose(U.T @ U, np.eye(K), atol=1e-10)


@pytest.mark.parametrize("strength", [1.7, 2.0, 2.5, 3.2])
def test_a_component_that_the_sample_cannot_show_is_not_taken_for_noise(strength: float) -> None:
    """Of a tenth of the rows the bulk is so wide that it hides what lies 4 to 30 % above that of all rows."""
    shape = (4000, 400)
    limit = (shape[1] / shape[0]) ** 0.5
    for seed in range(2):
        A = spiked(shape, [500 * limit, strength * limit], seed)
        count, sigma = of_lapack(A)
        assert count == 2
        factors, _ = decomposed(A)
        signal = factors.certificate.signal
        assert signal is not None
        assert signal.count == 2
        assert np.max(np.abs(factors.s[:2] / sigma - 1)) < 1e-2


def test_noise_alone_is_said_to_be_noise() -> None:
    A = spiked((3000, 400), [], 0)
    factors, told = decomposed(A)
    c = factors.certificate
    assert c.converged
    assert c.signal is not None
    assert c.signal.count == 0
    assert of_lapack(A)[0] == 0
    assert 2 <= told[-1].passes <= 4
    assert "0 of 10 triplets stand above the noise" in str(c)


def test_where_all_are_above_the_noise_it_is_the_strict_test() -> None:
    A = spiked((2000, 300), list(np.linspace(60, 5, 14)), 0)
    factors, _ = decomposed(A)
    strict, _ = decomposed(A, stop="residual")
    assert factors.certificate.signal is not None
    assert factors.certificate.signal.count == K
    np.testing.assert_array_equal(factors.s, strict.s)
    np.testing.assert_array_equal(factors.Vt[:], strict.Vt[:])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_pass_cannot_show_where_the_noise_ends() -> None:
    factors, _ = decomposed(spiked((3000, 400), [], 0), max_passes=1)
    assert not factors.certificate.converged
    assert "stopped after 1 passes" in str(factors.certificate.shortfall)


def test_counts_that_are_centred_and_scaled() -> None:
    """Allele counts of two groups of people: one component, or none."""
    rng = np.random.default_rng(0)
    common = rng.uniform(0.2, 0.8, 3000)
    for apart, wanted in ((0.15, 1), (0.0, 0)):
        frequencies = np.clip(common + apart * rng.standard_normal((2, 3000)), 0.05, 0.95)
        A = rng.binomial(2, frequencies[np.arange(200) % 2]).astype(np.int8)
        factors, _ = decomposed(A, center=True, scale=True)
        assert of_lapack(standardised(A), centred=True)[0] == wanted
        assert factors.certificate.signal is not None
        assert factors.certificate.signal.count == wanted
        assert factors.certificate.converged


def test_another_start_knows_it_too() -> None:
    factors, _ = decomposed(spiked((900, 120), [9.0, 7.0], 1), method="gram")
    assert factors.certificate.converged
    assert factors.certificate.signal is not None
    assert factors.certificate.signal.count == 2


def test_fewer_triplets_hold_no_more_of_the_signal() -> None:
    factors, _ = decomposed(spiked((900, 120), [9.0, 7.0], 1))
    for k, count in ((1, 1), (2, 2), (5, 2)):
        signal = factors.truncate(k).certificate.signal
        assert signal is not None
        assert signal.count == count
