"""`stop="estimate"`: one factor and s a read before they are proved, foretold by probes and never by hope."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy.stats import chi2

import bigsvd
from bigsvd.catalog.widths import PROBES
from bigsvd.cli.console import _foretold
from bigsvd.errors import RequestError
from bigsvd.events import Certified, Event, unheard
from bigsvd.methods.foretold import LEAST_SHOWN, Probes, foresee
from bigsvd.methods.left import LeftRitz
from bigsvd.results.certificate import Certificate
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.spectra import FAMILIES, with_values
from tests.test_left import outside_of, subspace_of
from tests.test_signal import spiked, stored

K = 8


def slow(m: int, n: int) -> np.ndarray:
    side = min(m, n)
    return with_values(np.random.default_rng(0), 50 * np.arange(1, side + 1) ** -0.5, m, n)


def drifting(m: int, n: int) -> np.ndarray:
    """A bump that moves along the columns from row to row: a few panels show little of it."""
    centre, place = np.linspace(0.05, 0.95, m)[:, None], np.linspace(0, 1, n)[None, :]
    noise = 0.02 * np.random.default_rng(0).standard_normal((m, n))
    return np.asarray(np.exp(-((place - centre) ** 2) / (2 * 0.01**2)) + noise)


def decomposed(A: np.ndarray, **options: Any) -> bigsvd.Factors:
    return bigsvd.svd(stored(A), K, **{"method": "krylov", "stop": "estimate", "tol": 5e-2, **options})


def reads(factors: bigsvd.Factors) -> int:
    """Passes over all data."""
    return len(factors.provenance["costs"]["pass_seconds"])


def true_residuals(A: np.ndarray, factors: bigsvd.Factors) -> np.ndarray:
    """Of the factor that is foretold, and of s."""
    X, B = factors.Vt[:].T.astype(float), A
    if A.shape[0] < A.shape[1]:
        X, B = factors.U[:].astype(float), A.T
    return np.asarray(np.linalg.norm(B.T @ (B @ X) - X * factors.s**2, axis=0) / factors.s**2)


def test_probes_show_a_residual_of_any_direction_and_size() -> None:
    """They are below it as often as χ² says, whether the level of their entries varies or not."""
    assert chi2.ppf(1e-3, PROBES) / PROBES == pytest.approx(LEAST_SHOWN**2, rel=1e-3)
    rng, draws = np.random.default_rng(0), 1500
    A = FAMILIES["clustered"](rng, 60, 30)
    H = A.T @ A
    V = np.linalg.qr(rng.standard_normal((30, 4)))[0]
    theta = np.einsum("ij,ij->j", V, H @ V)
    truth = np.linalg.norm(H @ V - V * theta, axis=0) / theta
    for level in (np.ones(30), rng.uniform(0.7, 1.3, 30)):
        shown = []
        for _ in range(draws):
            W = level[:, None] * rng.standard_normal((30, PROBES))
            shown.append(Probes(W, H @ W, float(level.min()), 0.0).residuals(theta, V))
        below = np.mean(np.array(shown) < truth, axis=0)
        assert np.all(below <= 4e-3)
        assert np.all(np.median(shown, axis=0) < 5 * truth)


def test_where_the_sample_shows_nothing_they_are_the_left_triplets() -> None:
    A = FAMILIES["noise"](np.random.default_rng(0), 240, 90)
    space, ritz = subspace_of(A, 15, 1)
    left = LeftRitz.of(ritz, outside_of(A, space, ritz), 15)
    Q = np.linalg.qr(space.Z - space.K @ (space.K.T @ space.Z))[0]
    probes = Probes(np.eye(90)[:, :10], (A.T @ A)[:, :10], 1.0, 1e-16)
    seen = foresee(space, ritz, Q, np.zeros((15, 15)), K, probes)
    np.testing.assert_allclose(seen.sigma, left.sigma[:K], rtol=1e-9)
    np.testing.assert_allclose(seen.outside, left.lost[:K], atol=1e-8)
    V = space.Z @ left.coordinates(K) / left.sigma[:K]
    np.testing.assert_allclose(np.abs(np.sum(V * seen.V, axis=0)), 1, rtol=1e-8)


def test_with_all_that_the_sample_lacks_they_are_those_of_the_next_pass() -> None:
    A = slow(300, 90)
    space, ritz = subspace_of(A, 15, 1)
    H, theta = A.T @ A, ritz.theta[:15]
    Q = np.linalg.qr(space.Z - space.K @ (space.K.T @ space.Z))[0]
    known = (ritz.coordinates / np.sqrt(theta)).T @ (space.Z.T @ Q)
    probes = Probes(np.eye(90)[:, :10], H[:, :10], 1.0, 1e-16)
    seen = foresee(space, ritz, Q, Q.T @ H @ Q - known.T @ known, K, probes)
    both = np.concatenate([space.K, Q], axis=1)
    values = np.linalg.eigvalsh(both.T @ H @ both)[::-1]
    np.testing.assert_allclose(seen.sigma**2, values[:K], rtol=1e-10)


@pytest.mark.parametrize("shape", [(3000, 200), (200, 3000)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_read_gives_one_factor_and_s(shape: tuple[int, int], dtype: str) -> None:
    A = slow(*shape).astype(dtype)
    factors = decomposed(A)
    c = factors.certificate
    assert reads(factors) == 1
    assert (c.basis, c.converged, c.stop) == ("estimate", True, "estimate")
    assert c.foretold is not None
    assert c.foretold.factor == ("Vt" if shape[0] > shape[1] else "U")
    wide = A.astype(float)
    truth = true_residuals(wide, factors)
    assert np.all(truth <= c.foretold.residuals)
    assert max(c.foretold.residuals) <= min(5e-2, c.max_residual / 2)  # the other factor is not so exact
    s = np.linalg.svd(wide, compute_uv=False)
    with pytest.warns(UserWarning, match="not reached"):
        left = decomposed(A, stop="residual", max_passes=1)
    assert np.max(np.abs(factors.s / s[:K] - 1)) < np.max(np.abs(left.s / s[:K] - 1)) / 4
    assert np.max(truth) < np.max(true_residuals(wide, left)) / 2
    U, Vt = factors.U[:].astype(float), factors.Vt[:].astype(float)
    for k in (K, 3):
        error = np.linalg.norm(wide - (U[:, :k] * factors.s[:k]) @ Vt[:k]) / np.linalg.norm(wide)
        assert factors.truncate(k).certificate.relative_error == pytest.approx(error, abs=1e-6)
    nearest = np.min(np.abs(s - factors.s[:, None]), axis=1) / factors.s
    assert np.all(nearest <= c.sigma_bounds)
    assert verify(factors, open_source(A), unheard).findings == ()


def test_a_certificate_says_that_nothing_is_proved() -> None:
    c = decomposed(slow(3000, 200)).certificate
    assert str(c).startswith("FORETOLD, not proved: s and Vt as exact as asked")
    assert "one more read" in str(c)
    values: dict[str, Any] = json.loads(json.dumps(c.to_dict()))
    assert Certificate.from_dict(values) == c
    del values["foretold"]
    assert Certificate.from_dict(values).foretold is None  # a store of before


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_where_probes_show_what_was_missed_nothing_is_called_exact() -> None:
    """One row with much along a column that no other has: what is foretold of the others is good."""
    random = np.random.default_rng(0)
    values = np.arange(1, 201) ** -0.5 * np.where(np.arange(200) < K, 1, 0.5)
    A = random.standard_normal((3000, 200)) * values
    A[1234, -1] += 28
    c = decomposed(A, tol=0.3, max_passes=1).certificate
    assert c.foretold is not None
    assert c.audit is not None
    assert c.audit.unseen_direction
    assert not c.converged
    assert str(c).startswith("NOT converged")


def test_it_is_said_while_it_goes_on() -> None:
    seen: list[Event] = []
    decomposed(slow(3000, 200), progress=seen.append)
    last = [event for event in seen if isinstance(event, Certified)][-1]
    assert (last.foretold, last.converged, last.passes) == (True, True, 1)
    assert _foretold(last) == "foretold as "
    decomposed(slow(3000, 200), stop="residual", progress=seen.append)
    assert [event.foretold for event in seen if isinstance(event, Certified)][-2:] == [False, False]


def test_where_a_sample_misleads_it_is_refused_and_proved_by_another_read() -> None:
    A = drifting(3000, 200)
    factors = decomposed(A, tol=3e-2)
    c = factors.certificate
    assert reads(factors) > 1
    assert c.converged
    assert c.foretold is None
    assert np.all(true_residuals(A, factors) <= c.max_residual)


def test_what_is_refused_when_no_more_reads_are_allowed_is_as_without_it() -> None:
    A = drifting(3000, 200)
    with pytest.warns(UserWarning, match="not reached"):
        refused = decomposed(A, max_passes=1, tol=3e-2)
    with pytest.warns(UserWarning, match="not reached"):
        strict = decomposed(A, max_passes=1, tol=3e-2, stop="residual")
    assert not refused.certificate.converged
    assert refused.certificate.foretold is None
    np.testing.assert_array_equal(refused.s, strict.s)
    np.testing.assert_array_equal(refused.Vt[:], strict.Vt[:])


def test_what_one_read_proves_is_not_called_an_estimate() -> None:
    A = with_values(np.random.default_rng(0), 0.6 ** np.arange(200.0), 3000, 200)
    c = decomposed(A, tol=1e-2).certificate
    assert c.basis == "left"
    assert c.converged
    assert c.foretold is None


@pytest.mark.parametrize("options", [{"center": True}, {"center": True, "scale": True}])
def test_the_matrix_is_standardised(options: dict[str, Any]) -> None:
    A = slow(3000, 200) + np.linspace(-1, 1, 200)
    factors, B = decomposed(A, **options), A - A.mean(axis=0)
    B /= B.std(axis=0) if "scale" in options else 1.0
    foretold = factors.certificate.foretold
    assert foretold is not None
    assert reads(factors) == 1
    assert np.all(true_residuals(B, factors) <= foretold.residuals)
    assert verify(factors, open_source(A), unheard).findings == ()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "family", ["flat", "clustered", "geometric", "step", "deficient", "noise", "huge_row"]
)
def test_no_certificate_is_contradicted_on_hard_spectra(family: str) -> None:
    A = FAMILIES[family](np.random.default_rng(3), 1200, 160)
    for tol, passes in ((3e-1, 1), (1e-1, 2), (1e-2, 4)):
        factors = decomposed(A, tol=tol, max_passes=passes)
        c = factors.certificate
        assert verify(factors, open_source(A), unheard).findings == ()
        if c.foretold is not None:
            assert np.all(true_residuals(A, factors) <= c.foretold.residuals)
            assert max(c.foretold.residuals) <= tol


class KilledError(Exception):
    """Ends a run in the middle."""


@pytest.mark.parametrize("when", ["pass-end", "phase", "formed"])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, when: str) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=slow(3000, 200), chunks=(50, 200))
    options: dict[str, Any] = {"method": "krylov", "stop": "estimate", "tol": 5e-2}

    def kill(event: Event) -> None:
        if event.kind == when and not (when == "pass-end" and event["sample"]):
            raise KilledError

    whole = bigsvd.svd(tmp_path / "a.zarr", K, tmp_path / "whole", **options)
    assert whole.certificate.foretold is not None
    with pytest.raises(KilledError):
        bigsvd.svd(tmp_path / "a.zarr", K, tmp_path / "killed", progress=kill, **options)
    resumed = bigsvd.svd(tmp_path / "a.zarr", K, tmp_path / "killed", **options)
    for name in ("U", "s", "Vt"):
        np.testing.assert_array_equal(getattr(resumed, name)[:], getattr(whole, name)[:])
    assert resumed.certificate == whole.certificate


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_estimate_that_was_stopped_is_proved_from_its_scratch(tmp_path: Path) -> None:
    A = stored(drifting(3000, 200))
    options: dict[str, Any] = {"method": "krylov", "tol": 3e-2}
    bigsvd.svd(A, K, tmp_path / "u", stop="estimate", max_passes=1, **options)
    proved = bigsvd.svd(A, K, tmp_path / "u", stop="residual", overwrite=True, **options)
    assert proved.certificate.converged
    assert proved.certificate.foretold is None
    assert reads(proved) == 2


def test_a_method_that_proves_in_one_read_does() -> None:
    c = decomposed(spiked((900, 120), [9.0, 7.0], 1), method="gram", tol=1e-6).certificate
    assert c.converged
    assert c.foretold is None


def test_a_rank_rule_needs_proved_values() -> None:
    with pytest.raises(RequestError, match="needs proved values"):
        bigsvd.svd(slow(300, 60), "auto", stop="estimate")
