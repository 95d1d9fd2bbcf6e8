"""Given vectors beside stacked axes and selections: which value is of which line, against NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import RequestError
from bigsvd.events import unheard
from bigsvd.sources.open import open_source
from bigsvd.verify import verify

K = 3
RNG = np.random.default_rng(0)
FIELD = RNG.standard_normal((40, 4, 6)) * np.linspace(1, 3, 6)
LAT, LON = RNG.uniform(0.5, 2, 4), RNG.uniform(0.5, 2, 6)
A = RNG.standard_normal((30, 12)) * np.linspace(1, 2, 12)
# What is selected, and where that is, in the order in which it is asked for.
SELECTIONS: dict[str, tuple[Any, list[int]]] = {
    "slice": (slice(2, 9), list(range(2, 9))),
    "steps": ("1:12:3", [1, 4, 7, 10]),
    "mask": (np.arange(12) % 5 > 1, [2, 3, 4, 7, 8, 9]),
    "ascending": ([1, 5, 6, 11], [1, 5, 6, 11]),
    "unsorted": ([7, 2, -1, 0, 5], [7, 2, 11, 0, 5]),
}


def leading(B: np.ndarray) -> np.ndarray:
    """The leading singular values, by LAPACK."""
    return np.asarray(np.linalg.svd(B, compute_uv=False)[:K])


def field(folder: Path, kind: str) -> Any:
    """The field as data of some kind; the axes of some have names."""
    if kind == "numpy":
        return FIELD
    if kind == "xarray":
        return xr.DataArray(FIELD, dims=("time", "lat", "lon"))
    zarr.create_array(folder / "a", data=FIELD, chunks=(11, 3, 4), dimension_names=("time", "lat", "lon"))
    return folder / "a"


@pytest.mark.parametrize("kind", ["numpy", "xarray", "zarr"])
@pytest.mark.parametrize(
    "cols", [None, "mask", slice(3, 20), [13, 2, 22, 7]], ids=["all", "mask", "slice", "ids"]
)
@pytest.mark.parametrize("option", ["weights", "offset", "scale"])
def test_an_array_along_the_stacked_axes(tmp_path: Path, kind: str, cols: Any, option: str) -> None:
    land = np.random.default_rng(1).random((4, 6)) < 0.6
    taken = land if isinstance(cols, str) else cols
    given: dict[str, tuple[Any, np.ndarray]] = {
        "whole": (LAT[:, None] * LON, LAT[:, None] * LON),
        "first": (LAT[:, None], np.broadcast_to(LAT[:, None], (4, 6))),
        "last": (LON[None, :], np.broadcast_to(LON, (4, 6))),
        "flat": ((LAT[:, None] * LON).reshape(-1), LAT[:, None] * LON),
    }
    if kind != "numpy":
        turned = xr.DataArray(LON[:, None] * LAT, dims=("lon", "lat"))
        given["named"] = (turned, LAT[:, None] * LON)
        given["one name"] = (xr.DataArray(LAT, dims="lat"), np.broadcast_to(LAT[:, None], (4, 6)))
    data, ids = field(tmp_path, kind), np.arange(24)
    ids = ids if taken is None else np.sort(ids[np.ravel(taken) if taken is land else taken])
    for values, wanted in given.values():
        factors = bigsvd.svd(data, K, dim=0, cols=taken, tol=1e-6, **{option: values})
        line, B = wanted.reshape(-1)[ids], FIELD.reshape(40, -1)[:, ids]
        B = {"weights": B * line, "offset": B - line, "scale": B / line}[option]
        np.testing.assert_allclose(factors.s, leading(B), rtol=1e-9)
        stored = factors.mean if option == "offset" else getattr(factors, option)
        np.testing.assert_array_equal(stored, line)
    assert verify(factors, open_source(data, dim=0), unheard).findings == ()


@pytest.mark.parametrize("samples", ["rows", "columns"])
@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("length", ["of what is selected", "of all"])
def test_vectors_beside_a_selection(name: str, samples: str, length: str) -> None:
    """Of the length of what is selected they are in the order of the selection; of all, in the data's."""
    asked, ids = SELECTIONS[name]
    lines = np.array(sorted(ids))
    data, features = (A, "cols") if samples == "rows" else (A.T, "rows")
    w, off = RNG.uniform(0.5, 2, 12), RNG.standard_normal(12)
    given = [one if length == "of all" else one[ids] for one in (w, off)]
    options: dict[str, Any] = {features: asked, "samples": samples, "tol": 1e-6}
    factors = bigsvd.svd(data, K, weights=given[0], offset=given[1], **options)
    np.testing.assert_allclose(factors.s, leading((A[:, lines] - off[lines]) * w[lines]), rtol=1e-9)
    np.testing.assert_array_equal(factors.weights, w[lines])
    across = {"rows": "rows", "columns": "cols"}[samples]
    chosen = np.array([9, 25, 3, 4, 12, 20])
    each = RNG.uniform(0.5, 2, 30)
    given = [each if length == "of all" else each[chosen]]
    options = {across: chosen, "samples": samples, "tol": 1e-6}
    factors = bigsvd.svd(data, K, row_weights=given[0], **options)
    chosen = np.sort(chosen)
    np.testing.assert_allclose(factors.s, leading(A[chosen] * each[chosen, None]), rtol=1e-9)


def test_all_lines_in_another_order_leave_open_which_value_is_of_which() -> None:
    turned, w = np.arange(12)[::-1], np.linspace(1, 2, 12)
    said = "weights has 12 values, and all 12 columns are selected in another order than they have"
    for call in (bigsvd.plan, bigsvd.svd):
        with pytest.raises(RequestError, match=said):
            call(A, K, cols=turned, weights=w)
    factors = bigsvd.svd(A, K, cols=np.arange(12), weights=w, tol=1e-6)
    np.testing.assert_allclose(factors.s, leading(A * w), rtol=1e-9)
    by_place = bigsvd.svd(FIELD, K, dim=0, cols=np.arange(24)[::-1], weights=LAT[:, None], tol=1e-6)
    np.testing.assert_allclose(by_place.s, leading((FIELD * LAT[:, None]).reshape(40, -1)), rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": np.ones((6, 4))}, r"weights has shape \(6, 4\) for 24 places of lat x lon \(4 x 6\)"),
        ({"weights": np.ones(6)}, r"has 6 values for 24 places .* one of shape \(4, 1\) for lat alone"),
        ({"weights": np.ones(5), "cols": "0:9"}, "has 5 values for 9 of 24 places"),
        ({"row_weights": np.ones((40, 1))}, r"row_weights has shape \(40, 1\) for 40 along time"),
        ({"weights": np.full((4, 1), -1.0)}, r"24 of 24 values that are not 0 .* first -1 at \(0, 0\)"),
        (
            {"weights": np.where(np.arange(24) > 7, 1.0, np.nan).reshape(4, 6), "cols": "7:9"},
            r"1 of 2 values that are not finite, the first nan at \(1, 1\)",
        ),
    ],
)  # fmt: skip
def test_other_shapes_and_lengths_are_refused(options: dict[str, Any], said: str) -> None:
    data = xr.DataArray(FIELD, dims=("time", "lat", "lon"))
    with pytest.raises(RequestError, match=said):
        bigsvd.plan(data, K, dim="time", **options)


def test_values_of_lines_that_are_not_taken_need_be_nothing() -> None:
    w = np.where(np.arange(12) < 8, np.linspace(1, 2, 12), np.nan)
    factors = bigsvd.svd(A, K, cols="0:8", weights=w, tol=1e-6)
    np.testing.assert_allclose(factors.s, leading((A * w)[:, :8]), rtol=1e-9)


def test_from_the_command_line_by_the_names_of_axes(tmp_path: Path) -> None:
    """A netCDF file with its coordinate weights inside, a Zarr array, a .npy file in the shape of the map."""
    field(tmp_path, "zarr")
    with h5py.File(tmp_path / "w.nc", "w") as file:
        for name, length in (("lat", 4), ("lon", 6)):
            file[name] = np.arange(length, dtype=float)
            file[name].make_scale(name)
        file["square"] = np.sqrt(LAT)
        file["square"].dims[0].attach_scale(file["lat"])
    zarr.create_array(tmp_path / "w", data=np.sqrt(LAT), dimension_names=("lat",))
    np.save(tmp_path / "w.npy", np.broadcast_to(np.sqrt(LAT)[:, None], (4, 6)))
    wanted = leading((FIELD * np.sqrt(LAT)[:, None]).reshape(40, -1))
    for place in ("w.nc/square", "w", "w.npy"):
        out = tmp_path / f"of-{place.replace('/', '-')}"
        asked = ["--dim", "time", "--tol", "1e-6", "--weights", str(tmp_path / place)]
        ended = CliRunner().invoke(main, ["svd", str(tmp_path / "a"), str(out), "-k", "3", "--quiet", *asked])
        assert ended.exit_code == 0, ended.output
        np.testing.assert_allclose(bigsvd.open(out).s, wanted, rtol=1e-9)
        planned = CliRunner().invoke(main, ["plan", str(tmp_path / "a"), "-k", "3", "--json", *asked])
        (tmp_path / "plan.json").write_text(planned.output)
        again = [str(tmp_path / "a"), f"{out}2", "--plan", str(tmp_path / "plan.json"), "--quiet"]
        assert CliRunner().invoke(main, ["svd", *again]).exit_code == 0
        np.testing.assert_array_equal(bigsvd.open(f"{out}2").s, bigsvd.open(out).s)


def test_a_mask_follows_the_names_of_its_axes() -> None:
    """A square map: the mask's axes are the other way round, and no length would show it."""
    X = RNG.standard_normal((30, 5, 5))
    data = xr.DataArray(X, dims=("time", "lat", "lon"))
    land = RNG.random((5, 5)) < 0.5
    mask = xr.DataArray(land.T, dims=("lon", "lat"))
    factors = bigsvd.svd(data, K, dim="time", cols=mask, tol=1e-6)
    np.testing.assert_allclose(factors.s, leading(X[:, land]), rtol=1e-9)
