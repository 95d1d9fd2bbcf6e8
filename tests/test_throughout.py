"""Features that are missing throughout are left out without being asked for; isolated gaps are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import NonFiniteError
from bigsvd.events import unheard
from bigsvd.results.factors import Factors
from bigsvd.sources.open import open_source
from bigsvd.verify import verify

K = 3
SHAPES = [(90, 40), (40, 90)]
PACKED: dict[str, Any] = {"scale_factor": 0.01, "add_offset": 3.0, "_FillValue": -32768}


def with_land(shape: tuple[int, int], axis: int, dtype: str = "f8") -> tuple[np.ndarray, np.ndarray]:
    """Data whose features lie along an axis, and which of these are NaN throughout."""
    rng = np.random.default_rng(5)
    values = 3 + rng.standard_normal(shape) * np.geomspace(3, 0.1, shape[axis]).reshape(
        (-1, 1)[:: 1 - 2 * axis]
    )
    land = np.isin(np.arange(shape[axis]), [0, 7, 8, 39])
    np.moveaxis(values, axis, 0)[land] = np.nan
    return values.astype(dtype), land


def left_out(values: np.ndarray, axis: int, land: np.ndarray) -> np.ndarray:
    """The data without them, float64, features along the columns."""
    return np.asarray(np.moveaxis(values, axis, 1)[:, ~land], np.float64)


def check(factors: Factors, B: np.ndarray, land: np.ndarray, rtol: float = 1e-6) -> None:
    """Against LAPACK on the matrix without those features."""
    s, axis = np.linalg.svd(B, compute_uv=False), factors.features_axis
    np.testing.assert_allclose(factors.s, s[:K], rtol=rtol)
    np.testing.assert_allclose(factors.certificate.frobenius_norm, np.linalg.norm(B), rtol=rtol)
    lazily = factors.reconstruct().compute(scheduler="threads")
    regions = (factors[:], factors[3:9, 5:40], lazily, factors.as_zarr()[:])
    shown = [factors.components, *(np.moveaxis(np.asarray(one), axis, 1) for one in regions)]
    lines = np.arange(land.size)
    for one, some in zip(shown, (lines, lines, (lines[3:9], lines[5:40])[axis], lines, lines), strict=True):
        np.testing.assert_array_equal(np.isnan(one), np.broadcast_to(land[some], one.shape))
    counts = factors.certificate.counts
    assert counts is not None
    assert (counts.filled_with, counts.empty, counts.missing) == ("throughout", 4, 4 * B.shape[0])
    assert factors.missing_features == 4


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("samples", ["rows", "columns"])
@pytest.mark.parametrize("standard", [{}, {"center": True}, {"center": True, "scale": True}], ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_lapack_without_them(
    shape: tuple[int, int], samples: str, standard: dict[str, Any], dtype: str
) -> None:
    axis = int(samples == "rows")
    values, land = with_land(shape, axis, dtype)
    B = left_out(values, axis, land)
    B = B - B.mean(axis=0) * bool(standard)
    B = B / (B.std(axis=0) if "scale" in standard else 1.0)
    method, tol = {"f4": ("krylov", 1e-4), "f8": ("gram", 1e-5)}[dtype]
    factors = bigsvd.svd(values, K, samples=samples, method=method, tol=tol, max_passes=60, **standard)
    check(factors, B, land)
    np.testing.assert_allclose(factors.project(values), factors.scores, atol=1e-3 * factors.s[0])
    for name in factors.lines:
        assert np.array_equal(np.isnan(factors.unstacked(getattr(factors, name))), land)
    if dtype == "f4":  # whose rounding verify allows for
        assert verify(factors, open_source(values, samples=samples), unheard).findings == ()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scaled", [False, True])
def test_what_is_given_does_not_make_them_part_of_it(shape: tuple[int, int], *, scaled: bool) -> None:
    values, land = with_land(shape, 1)
    rng = np.random.default_rng(1)
    offset, weights, across = (rng.uniform(0.5, 2, count) for count in (shape[1], shape[1], shape[0]))
    B = left_out(values, 1, land)
    B = (B - offset[~land]) / (B.std(axis=0) if scaled else 1.0) * weights[~land] * across[:, np.newaxis]
    factors = bigsvd.svd(
        values, K, offset=offset, weights=weights, row_weights=across, scale=scaled, tol=1e-5, max_passes=60
    )
    check(factors, B, land)


@pytest.mark.parametrize("center", [False, True])
def test_a_packed_field(tmp_path: Path, *, center: bool) -> None:
    values, land = with_land((60, 40), 1)
    stored = np.where(np.isnan(values), -32768, np.round((values - 3) / 0.01)).astype("i2").reshape(60, 5, 8)
    zarr.create_array(
        tmp_path / "a", data=stored, chunks=(7, 2, 3), attributes=PACKED, dimension_names=("time", "y", "x")
    )
    command = ["svd", str(tmp_path / "a"), str(tmp_path / "u"), *f"-k {K} --dim time --tol 1e-6".split()]
    ended = CliRunner().invoke(main, [*command, *["--center"] * center, "--quiet"])
    assert ended.exit_code == 0, ended.output
    factors = bigsvd.open(tmp_path / "u")
    B = left_out(np.where(land, np.nan, stored.reshape(60, 40) * 0.01 + 3.0), 1, land)
    np.testing.assert_allclose(
        factors.s, np.linalg.svd(B - B.mean(axis=0) * center, compute_uv=False)[:K], rtol=1e-6
    )
    assert factors.components.shape == (K, 5, 8)
    assert np.array_equal(np.isnan(factors.components[0]).reshape(-1), land)
    told = CliRunner().invoke(main, ["info", str(tmp_path / "u")])
    assert "40 places of y x x (5 x 8), 4 of them missing throughout and left out" in told.output
    judged = CliRunner().invoke(main, ["verify", str(tmp_path / "u"), str(tmp_path / "a")])
    assert judged.exit_code == 0, judged.output


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("samples", ["rows", "columns"])
@pytest.mark.parametrize("center", [False, True])
def test_isolated_gaps_are_refused_and_counted(shape: tuple[int, int], samples: str, *, center: bool) -> None:
    axis = int(samples == "rows")
    values, _ = with_land(shape, axis)
    lines = np.moveaxis(values, axis, 0)
    lines[3, [2, 5]] = lines[11, 4] = np.nan
    with pytest.raises(NonFiniteError, match=r"; 2 (row|column)\(s\), the first of them 3, have some values"):
        bigsvd.svd(values, K, samples=samples, center=center)
    lines[3, [2, 5]] = lines[11, 4] = 0.0
    lines[20, 1] = np.inf
    with pytest.raises(NonFiniteError, match=r" 1 \+Inf"):
        bigsvd.svd(values, K, samples=samples, center=center)
    with pytest.raises(NonFiniteError, match=f" {values.size} NaN"):
        bigsvd.svd(np.full_like(values, np.nan), K, samples=samples, center=center)


def test_they_take_no_pass_and_data_without_them_keep_their_bits() -> None:
    values, land = with_land((90, 40), 1)
    options: dict[str, Any] = {"center": True, "tol": 1e-4, "method": "gram"}
    with_them = bigsvd.svd(values, K, **options)
    without = bigsvd.svd(values[:, ~land], K, **options)
    assert with_them.info()["passes"] == without.info()["passes"]
    filled = bigsvd.svd(values[:, ~land], K, missing="mean", **options)
    assert np.array_equal(without.s, filled.s)


@pytest.mark.parametrize("how", ["missing", "weights", "columns"])
def test_noise_is_that_of_the_features_that_are_part_of_it(how: str) -> None:
    """The law of noise hangs on the shape: as many rows with a tenth of the features have another edge."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((300, 1_200)) + 2 * rng.standard_normal((300, 4)) @ rng.standard_normal(
        (4, 1_200)
    )
    some = rng.permutation(1_200) < 250
    choices: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "missing": (np.where(some, A, np.nan), {}),
        "weights": (A, {"weights": some + 0.0}),
        "columns": (np.where(some, A, np.nan).T.copy(), {"samples": "columns"}),
    }
    given, options = choices[how]
    alone = bigsvd.svd(np.ascontiguousarray(A[:, some]), 30, stop="signal").certificate.signal
    signal = bigsvd.svd(given, 30, stop="signal", **options).certificate.signal
    assert alone is not None
    assert signal is not None
    assert signal.count == alone.count == 4
    assert signal.edge == pytest.approx(alone.edge, rel=1e-6)
    factors = bigsvd.svd(given, "auto", **options)
    assert factors.k == 4
    assert factors.spectrum().shape in ((300, 250), (250, 300))


@pytest.mark.parametrize(
    "filled", [{}, {"missing": "mean", "missing_value": np.nan}], ids=["dropped", "filled"]
)
def test_a_start_with_the_mean_of_a_feature_that_is_missing_now(
    tmp_path: Path, filled: dict[str, Any]
) -> None:
    A = np.random.default_rng(1).standard_normal((200, 10)) + 5
    bigsvd.svd(A, K, tmp_path / "u", center=True)
    A[:, 4] = np.nan
    factors = bigsvd.svd(A, K, warm_start=tmp_path / "u", tol=1e-8, center=True, **filled)
    B = np.delete(A, 4, axis=1)
    exact = np.linalg.svd(B - B.mean(axis=0), compute_uv=False)[:K]
    np.testing.assert_allclose(factors.s, exact, rtol=1e-7)


def test_features_are_named_as_the_data_number_them() -> None:
    A, _ = with_land((90, 40), 1)
    A[:, 30] = 2.0
    factors = bigsvd.svd(A, K, center=True, cols=slice(5, 40))
    counts = factors.certificate.counts
    assert counts is not None
    assert (counts.constant_columns, counts.empty_columns) == ((30,), (7, 8, 39))
    A[5, 33] = np.nan
    with pytest.raises(NonFiniteError, match=r"row 0, column 7; 1 column.*the first of them 33,"):
        bigsvd.svd(A, K, cols=slice(5, 40))
