"""Modes of flows and video: by the sizes of cells, from arrays as they lie, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from bigsvd.errors import RequestError
from bigsvd.fluids import plot_modes, pod
from bigsvd.report.dynamics import _map

STEPS, GRID = 40, (6, 8)
AREA = np.random.default_rng(1).uniform(0.1, 3.0, GRID)


def flow() -> np.ndarray:
    """(time, y, x)."""
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((4, *GRID)) * np.array([8.0, 4.0, 2.0, 1.0])[:, None, None]
    return np.asarray(5.0 + np.tensordot(rng.standard_normal((STEPS, 4)), patterns, axes=1))


def by_snapshots(data: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies and modes by the method of snapshots (Sirovich 1987): eigenvectors of their inner products."""
    deviations = (data - data.mean(axis=0)).reshape(len(data), -1)
    energies, vectors = np.linalg.eigh(deviations * weights.reshape(-1) @ deviations.T)
    energies, vectors = energies[::-1][:4], vectors[:, ::-1][:, :4]
    return energies, (deviations.T @ vectors / np.sqrt(energies)).T.reshape(4, *data.shape[1:])


def weights_in(form: str, folder: Path) -> Any:
    """The same sizes of cells, as they may be given."""
    if form == "xarray":
        return xr.DataArray(AREA.T, dims=("x", "y"))
    path = folder / "area.zarr"
    if form == "zarr":
        zarr.create_array(path, data=AREA.T, dimension_names=("x", "y"))
        return path
    if form == "npy":
        np.save(folder / "area.npy", AREA)
        return str(folder / "area.npy")
    return AREA


@pytest.mark.parametrize("form", ["array", "xarray", "zarr", "npy"])
def test_modes_are_those_of_the_method_of_snapshots(form: str, tmp_path: Path) -> None:
    data = xr.DataArray(flow(), dims=("time", "y", "x"))
    found = pod(data, 4, dim="time", inner_product_weights=weights_in(form, tmp_path), tol=1e-8)
    energies, modes = by_snapshots(flow(), AREA)
    np.testing.assert_allclose(found.s**2, energies, rtol=1e-9)
    assert found.modes.shape == (4, *GRID)
    overlaps = np.einsum("iyx,jyx,yx->ij", found.modes, modes, AREA)
    np.testing.assert_allclose(np.abs(overlaps), np.eye(4), atol=1e-7)
    states = found.unstacked(found.mean) + np.tensordot(found.scores, found.modes, axes=1)
    np.testing.assert_allclose(states, flow(), atol=1e-7)


def test_time_may_be_any_axis_and_a_cell_without_size_is_left_out() -> None:
    area = AREA.copy()
    area[0, 0] = 0.0
    found = pod(np.moveaxis(flow(), 0, 2), 4, dim=2, inner_product_weights=area)
    assert np.isnan(found.modes[:, 0, 0]).all()
    assert np.isfinite(found.modes[:, 1:]).all()
    by_columns = pod(np.ascontiguousarray(flow().reshape(STEPS, -1).T), 4, dim=1)
    assert by_columns.scores.shape == (STEPS, 4)
    np.testing.assert_allclose(by_columns.s, pod(flow(), 4, dim=0).s, rtol=1e-9)


def test_a_video_is_read_in_its_own_chunks_and_modes_are_pictures(tmp_path: Path) -> None:
    times, x = np.arange(60), np.arange(24)
    wave = 100 + 90 * np.cos(2 * np.pi * (x / 12 - times[:, None, None, None] / 15))
    video = np.broadcast_to(np.moveaxis(wave, 3, 2), (60, 16, 24, 3)).round().astype(np.uint8)
    zarr.create_array(tmp_path / "video.zarr", data=video, chunks=(7, 5, 9, 3))
    found = pod(tmp_path / "video.zarr", 2, dim=0, memory="100MB")
    assert found.modes.shape == (2, 16, 24, 3)
    dynamics = found.dmd(1 / 30)
    np.testing.assert_allclose(dynamics.frequencies, [2.0, -2.0], atol=1e-3)
    np.testing.assert_allclose(dynamics.at(times / 30), video, atol=2.0)
    picture = _map(found, found.modes[0], "mode")
    assert picture.values.shape == (16, 24)
    assert picture.downwards
    plot_modes(found, tmp_path / "modes.png", n_modes=1)
    assert (tmp_path / "modes.png").read_bytes().startswith(b"\x89PNG")


def one_cell(size: float) -> np.ndarray:
    """Sizes of which one is this."""
    found = AREA.copy()
    found[2, 5] = size
    return found


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (one_cell(-1.0), "1 of 48 values that are not finite and 0 or more, the first -1 at (2, 5)"),
        (one_cell(np.nan), "the first nan at (2, 5)"),
        (one_cell(np.inf), "the first inf at (2, 5)"),
        (AREA[:-1], "has shape (5, 8)"),
        (np.ones(STEPS), "has 40 values"),
        (AREA + 0j, "not real numbers"),
        ("nowhere.npy", "does not exist"),
    ],
)
def test_weights_that_are_none_of_cells_are_refused(weights: Any, said: str) -> None:
    with pytest.raises(Exception, match="weights") as refused:
        pod(flow(), 4, dim=0, inner_product_weights=weights)
    assert said in str(refused.value)
    assert str(refused.value).startswith("error[E_")


def test_what_pod_decides_and_axes_that_are_not_there_are_refused() -> None:
    with pytest.raises(RequestError, match="'weights' is decided by pod"):
        pod(flow(), 4, dim=0, weights=AREA)
    with pytest.raises(RequestError, match="time"):
        pod(flow(), 4, dim="time")
