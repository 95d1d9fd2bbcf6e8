"""DMD from factors alone: known eigenvalues, LAPACK's DMD of all data, weights, time, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import bigsvd
from bigsvd.errors import RankError, RequestError
from bigsvd.results.dmd import Dynamics
from bigsvd.results.steps import step_of

DT = 0.1
STEPS = 80
GRID = (7, 9)
RATES = np.array([-0.05 + 2 * np.pi * 1.3j, 0.02 + 2 * np.pi * 0.4j, -0.3])  # two pairs, and what decays
WIDTH = 5  # modes in all


def snapshots(noise: float = 0.0, steps: int = STEPS) -> np.ndarray:
    """(time, y, x): each rate in a pattern of its own."""
    rng = np.random.default_rng(5)
    patterns = rng.standard_normal((2, 3, *GRID))
    patterns = (patterns[0] + 1j * patterns[1]) * np.array([3.0, 2.0, 4.0])[:, None, None]
    waves = np.exp(np.outer(np.arange(steps) * DT, RATES))
    field = np.tensordot(waves, patterns, axes=1).real
    return np.asarray(field + noise * rng.standard_normal(field.shape))


def by_lapack(data: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and exact modes (features, rank) of snapshots (time, features), all of it in memory."""
    first, second = data[:-1].T, data[1:].T
    U, s, Vt = np.linalg.svd(first, full_matrices=False)
    image = second @ Vt[:rank].T / s[:rank]
    values, W = np.linalg.eig(U[:, :rank].T @ image)
    return values, image @ W


def assert_same_values(found: np.ndarray, wanted: np.ndarray, atol: float) -> None:
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(wanted.astype(complex)), atol=atol)


def assert_same_modes(found: np.ndarray, wanted: np.ndarray, atol: float) -> None:
    """Each of the modes (r, n) is one of the others (n, r), times a number."""
    one = found / np.linalg.norm(found, axis=1, keepdims=True)
    other = wanted / np.linalg.norm(wanted, axis=0)
    np.testing.assert_allclose(np.abs(one.conj() @ other).max(axis=1), 1.0, atol=atol)


def decomposed(data: Any, k: int = WIDTH, **options: Any) -> bigsvd.Factors:
    options = {"dim": 0, "tol": 1e-6} | options
    return bigsvd.svd(data, k, **options)


def test_eigenvalues_frequencies_and_rates_are_those_of_the_data() -> None:
    found = decomposed(snapshots()).dmd(DT)
    rates = np.concatenate([RATES, RATES[:2].conj()])
    assert_same_values(found.eigenvalues, np.exp(rates * DT), 1e-9)
    np.testing.assert_allclose(found.frequencies, [0.0, 1.3, -1.3, 0.4, -0.4], atol=1e-8)
    np.testing.assert_allclose(found.growth_rates, [-0.3, -0.05, -0.05, 0.02, 0.02], atol=1e-8)
    assert (found.amplitudes > 0).all()
    assert "1.3" in str(found).splitlines()[2]


def test_states_are_the_snapshots_between_and_after_them_too() -> None:
    found = decomposed(snapshots()).dmd(DT)
    longer = snapshots(steps=2 * STEPS)
    times = np.arange(2 * STEPS) * DT
    np.testing.assert_allclose(found.at(times), longer, atol=1e-6 * np.abs(longer).max())
    assert found.at(np.array([0.05])).shape == (1, *GRID)
    start = np.tensordot(found.amplitudes, found.modes, axes=1)
    np.testing.assert_allclose(start, longer[0], atol=1e-7)


@pytest.mark.parametrize("which", ["exact", "projected"])
def test_with_noise_it_is_lapack_s_of_the_data_of_that_rank(which: Any) -> None:
    factors = decomposed(snapshots(0.3), 12, tol=1e-10)
    low = factors.low_rank()[:, :]
    values, modes = by_lapack(np.asarray(low), 8)
    found = factors.dmd(DT, rank=8, modes=which)
    assert_same_values(found.eigenvalues, values, 1e-8)
    if which == "exact":
        assert_same_modes(found.modes.reshape(8, -1), modes, 1e-8)
    whole, _ = by_lapack(snapshots(0.3).reshape(STEPS, -1), 8)
    leading = np.exp(RATES[:2] * DT)
    assert np.abs(leading[:, None] - found.eigenvalues).min(axis=1).max() < 0.02
    assert np.abs(leading[:, None] - whole).min(axis=1).max() < 0.02


def test_exact_modes_are_of_the_next_snapshots_and_projected_ones_of_those_before() -> None:
    data = np.zeros((3, 4))
    data[0, 0], data[1, 1], data[2, 2] = 4.0, 2.0, 1.0  # e0 to e1 to e2: the last is in no other's span
    data[1:, 0] = 1.0, 0.25
    factors = decomposed(data, 3)
    exact, projected = factors.dmd(), factors.dmd(modes="projected")
    assert_same_values(exact.eigenvalues, projected.eigenvalues, 1e-12)
    assert np.abs(exact.modes[:, 2]).max() > 0.1
    np.testing.assert_allclose(projected.modes[:, 2], 0.0, atol=1e-12)
    assert "follow each snapshot" in str(exact)


def test_modes_are_orthonormal_by_the_weights_of_cells_and_so_is_the_dmd() -> None:
    rng = np.random.default_rng(1)
    area, data = rng.uniform(0.1, 3.0, GRID), snapshots(0.1)
    factors = decomposed(data, 6, weights=np.sqrt(area), tol=1e-9)
    modes = factors.modes
    gram = np.einsum("iyx,jyx,yx->ij", modes, modes, area)
    np.testing.assert_allclose(gram, np.eye(6), atol=1e-9)
    np.testing.assert_allclose(
        np.tensordot(factors.scores, modes, axes=1), factors.unstacked(factors[:, :]), atol=1e-9
    )
    weighted = (data * np.sqrt(area)).reshape(STEPS, -1)
    U, s, Vt = np.linalg.svd(weighted, full_matrices=False)
    values, vectors = by_lapack((U[:, :6] * s[:6]) @ Vt[:6], 6)
    found = factors.dmd(DT)
    assert_same_values(found.eigenvalues, values, 1e-7)
    assert_same_modes(found.modes.reshape(6, -1), vectors / np.sqrt(area).reshape(-1, 1), 1e-7)
    norms = np.einsum("iyx,iyx,yx->i", found.modes, found.modes.conj(), area).real
    np.testing.assert_allclose(norms, 1.0, atol=1e-9)


def test_modes_are_in_the_units_of_what_was_scaled_and_nan_without_weight() -> None:
    data = snapshots()
    weights = np.ones(GRID)
    weights[2, 3] = 0.0
    factors = decomposed(data, center=True, scale=True, weights=weights)
    assert np.isnan(factors.modes[:, 2, 3]).all()
    states = np.tensordot(factors.scores, factors.modes, axes=1) + factors.unstacked(factors.mean)
    seen = np.broadcast_to(weights > 0, data.shape)
    np.testing.assert_allclose(states[seen], data[seen], atol=1e-6)


def test_snapshots_may_be_columns() -> None:
    data = snapshots().reshape(STEPS, -1)
    factors = decomposed(np.ascontiguousarray(data.T), dim=None, samples="columns")
    found = factors.dmd(DT)
    assert_same_values(found.eigenvalues, np.exp(np.concatenate([RATES, RATES[:2].conj()]) * DT), 1e-9)
    np.testing.assert_allclose(found.at(np.array([0.0, DT])), data[:2], atol=1e-6)


def test_of_what_is_centred_the_mean_is_apart() -> None:
    rng = np.random.default_rng(2)
    t = np.arange(STEPS) * DT
    patterns = rng.standard_normal((2, *GRID))
    data = 100.0 + np.cos(2 * np.pi * t / 0.8)[:, None, None] * patterns[0]
    data = data + np.sin(2 * np.pi * t / 0.8)[:, None, None] * patterns[1]
    found = decomposed(data, 2, center=True).dmd(DT)
    np.testing.assert_allclose(found.frequencies, [1.25, -1.25], atol=1e-9)
    np.testing.assert_allclose(found.at(t), data, atol=1e-6)
    assert "what was subtracted" in str(found)


def test_a_centred_dmd_of_all_directions_is_refused_since_it_is_a_fourier_transform() -> None:
    data = np.random.default_rng(3).standard_normal((6, 50))
    factors = decomposed(data, 5, center=True)
    with pytest.raises(RequestError, match="Fourier transform"):
        factors.dmd()
    assert factors.dmd(rank=3).rank == 3
    uncentred = decomposed(data, 6)
    np.testing.assert_allclose(uncentred.dmd().at(np.arange(1, 6)), data[1:], atol=1e-6)
    before = uncentred.dmd(modes="projected").at(np.arange(5))
    np.testing.assert_allclose(before, data[:-1], atol=1e-6)


def test_rounding_of_float32_makes_no_modes() -> None:
    with pytest.warns(UserWarning, match="below noise"):
        factors = decomposed(snapshots().astype(np.float32), 9)
    found = factors.dmd(DT)
    assert_same_values(
        found.eigenvalues[:WIDTH], np.exp(np.concatenate([RATES, RATES[:2].conj()]) * DT), 1e-4
    )


def test_times_may_be_given_and_selected_samples_are_further_apart() -> None:
    data, dates = snapshots(), np.datetime64("2026-01-01") + np.arange(STEPS) * np.timedelta64(6, "h")
    assert decomposed(data).dmd(dates).dt == 21600.0
    assert decomposed(data).dmd(np.timedelta64(6, "h")).dt == 21600.0
    some = decomposed(data, rows=slice(0, STEPS, 2))
    for dt in (DT, np.arange(STEPS) * DT, np.arange(0, STEPS, 2) * DT):
        found = some.dmd(dt)
        assert found.dt == pytest.approx(2 * DT)
        np.testing.assert_allclose(np.sort(found.frequencies), [-1.3, -0.4, 0.0, 0.4, 1.3], atol=1e-7)


def test_the_strength_of_a_mode_is_its_mean_over_the_record() -> None:
    values = np.array([1.0, 0.5 + 0.5j, 1.02, -1.0, 1 - 1e-13, 0.0])
    modes = Dynamics(values, np.eye(6, dtype=complex), np.arange(1.0, 7.0))
    found = np.abs(values[:, None]) ** np.arange(50)
    with np.errstate(divide="ignore", invalid="ignore"):
        strengths = modes.strengths(50)
    np.testing.assert_allclose(strengths, np.arange(1.0, 7.0) * np.sqrt((found**2).mean(axis=1)), rtol=1e-11)


def test_rounded_times_are_even() -> None:
    assert step_of((np.arange(1000) * 0.01).astype(np.float32), 1000, None) == pytest.approx(0.01, rel=1e-5)
    assert step_of(np.round(np.arange(50) / 30, 6), 50, None) == pytest.approx(1 / 30, rel=1e-5)


@pytest.mark.parametrize(
    ("dt", "said"),
    [
        (np.delete(np.arange(STEPS + 1) * DT, 7), "0.1 to 0.2 apart, as after number 6"),
        (np.arange(STEPS)[::-1], "step by -1"),
        (np.zeros(STEPS), "step by 0"),
        (np.full(STEPS, np.nan), "step by nan"),
        (np.arange(GRID[0]) * DT, f"shape (7,) and type float64 for {STEPS} snapshots"),
        (0.0, "dt=0.0"),
        (-1, "dt=-1"),
        (np.nan, "dt=nan"),
        ("1", "dt=1"),
        (None, "dt=None"),
        (True, "dt=True"),
    ],
)
def test_a_step_that_is_none_is_refused(dt: Any, said: str) -> None:
    with pytest.raises(RequestError) as refused:
        step_of(dt, STEPS, None)
    assert said in str(refused.value)


def test_snapshots_that_do_not_follow_each_other_are_refused() -> None:
    data = snapshots()
    with pytest.raises(RequestError, match="row_weights"):
        decomposed(data, row_weights=np.linspace(1, 2, STEPS)).dmd(DT)
    with pytest.raises(RequestError, match="1 to 38 apart"):
        decomposed(data, rows=np.array([*range(40), 77, *range(78, 80)])).dmd(DT)
    field = xr.DataArray(data, dims=("time", "y", "x"))
    with pytest.raises(RequestError, match="along 'y', and the data have an axis 'time'"):
        decomposed(field, dim="y").dmd(DT)
    assert decomposed(field, dim="time").dmd(DT).rank == WIDTH


def test_ranks_modes_and_times_that_mean_nothing_are_refused() -> None:
    factors = decomposed(snapshots())
    for rank in (0, WIDTH + 1, True, 2.5, "2"):
        with pytest.raises(RankError, match=r"1\.\.5"):
            factors.dmd(DT, rank=rank)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="exact or projected"):
        factors.dmd(DT, modes="optimal")  # type: ignore[arg-type]
    for times in (0.5, [[0.1]], [np.nan], ["now"]):
        with pytest.raises(RequestError, match="finite numbers along one axis"):
            factors.dmd(DT).at(times)
