"""Features that are missing throughout are left out without being asked for; isolated gaps are refused."""

from __future__ import annotations

from dataclasses import replace
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
from bigsvd.execution.placement import nominal_plan
from bigsvd.results.factors import Factors
from bigsvd.solve import make_request, run
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.test_resume import StoppedError, stop_at

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


def check(
    factors: Factors,
    B: np.ndarray,
    land: np.ndarray,
    rtol: float = 1e-6,
    filled_with: str = "throughout",
    missing: int = 0,
) -> None:
    """Against LAPACK on the matrix without those features; `missing`: entries, those of others too."""
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
    missing = missing or 4 * B.shape[0]
    assert (counts.filled_with, counts.empty, counts.missing) == (filled_with, 4, missing)
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


def random_gaps(values: np.ndarray, axis: int) -> np.ndarray:
    """The same with isolated gaps too, features along an axis; no feature loses all it has."""
    gaps = np.random.default_rng(2).random(values.shape) < 0.1
    np.moveaxis(gaps, axis, 1)[0] = False
    return np.where(gaps, np.nan, values)


def filled_by_means(values: np.ndarray, axis: int, land: np.ndarray, how: dict[str, Any]) -> np.ndarray:
    """B without the features that are missing throughout, by NumPy; features along its columns."""
    A = left_out(values, axis, land)
    gaps = np.isnan(A)
    mean = np.nanmean(A, axis=0)
    A = np.where(gaps, mean, A)
    off = mean if how.get("center") else np.zeros(land.size)[~land]
    off = how["offset"][~land] if "offset" in how else off
    squares = ((A - mean) ** 2).sum(axis=0)
    B = (A - off) / (np.sqrt(squares / (~gaps).sum(axis=0)) if "scale" in how else 1.0)
    weights = how["weights"][~land] if "weights" in how else 1.0
    return np.asarray(B * weights * np.reshape(how.get("row_weights", 1.0), (-1, 1)))


HOWS = ("", "center", "center scale", "offset", "offset scale weights row_weights", "scale row_weights")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("samples", ["rows", "columns"])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("method", "dtype"), [("krylov", "f4"), ("gram", "f8"), ("tall_skinny", "f8")])
def test_means_do_not_stand_in_for_what_has_none(
    shape: tuple[int, int], samples: str, how: str, method: str, dtype: str
) -> None:
    """`missing="mean"` fills other gaps; a feature without any value is left out as without a rule."""
    axis = int(samples == "rows")
    values, land = with_land(shape, axis, dtype)
    values, rng = random_gaps(values, axis), np.random.default_rng(1)
    n, m = shape[axis], shape[1 - axis]
    drawn: dict[str, Any] = {
        "center": True, "scale": "std-observed", "offset": rng.uniform(2, 4, n),
        "weights": rng.uniform(0.5, 2, n), "row_weights": rng.uniform(0.5, 2, m),
    }  # fmt: skip
    options = {name: drawn[name] for name in how.split()}
    B = filled_by_means(values, axis, land, options)
    factors = bigsvd.svd(values, K, samples=samples, missing="mean", method=method, tol=1e-4, **options)
    check(factors, B, land, filled_with="mean", missing=int(np.isnan(values).sum()))
    if dtype == "f4":
        assert verify(factors, open_source(values, samples=samples), unheard).findings == ()
    assert np.array_equal(np.isnan(factors.truncate(2).components[0]), land)
    assert np.array_equal(np.isnan(factors.truncate(2).unstacked(np.ones(n))), land)
    whole = np.where(np.isnan(values), 3.0, values)
    whole_with_land = np.where(np.isnan(values) & np.expand_dims(land, 1 - axis), np.nan, whole)
    np.testing.assert_allclose(factors.project(whole_with_land), factors.project(whole), rtol=1e-9)
    with pytest.raises(NonFiniteError, match=f"no entry with a value: all {values.size:,} are missing"):
        bigsvd.svd(np.full_like(values, np.nan), K, samples=samples, missing="mean", method=method, **options)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_zero_stands_in_for_all_of_a_feature(shape: tuple[int, int]) -> None:
    """0 is a value that was asked for; features that have no other are part of the matrix."""
    values, _ = with_land(shape, 1)
    factors = bigsvd.svd(values, K, missing="zero", tol=1e-5, max_passes=60)
    np.testing.assert_allclose(
        factors.s, np.linalg.svd(np.nan_to_num(values), compute_uv=False)[:K], rtol=1e-6
    )
    assert not np.isnan(factors.components).any()
    assert factors.missing_features == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", ["patterson", "std"])
def test_tiles_resumed_runs_and_warm_starts_leave_them_out_too(
    tmp_path: Path, shape: tuple[int, int], scale: str
) -> None:
    rng = np.random.default_rng(4)
    doses = rng.binomial(2, rng.uniform(0.2, 0.8, shape[1]), shape).astype("i1")
    doses[5, 3] = -1
    options: dict[str, Any] = {"center": True, "scale": scale, "tol": 1e-6}
    options |= {"missing": "mean", "missing_value": -1}
    bigsvd.svd(doses, K, tmp_path / "before", **options)
    doses[:, [0, 7, 39]] = -1
    zarr.create_array(tmp_path / "a", data=doses, chunks=(10, 8))
    source = open_source(tmp_path / "a")
    request = make_request(source, K, str(tmp_path / "u"), method="krylov", **options)
    plan = nominal_plan(request, source.facts)
    tiled = replace(plan, tile_cols=8, reads_per_pass=3 if plan.transposed else 2, sample=(), panel_rows=10)
    tiled = replace(tiled, lanes=tuple((at, at + 1) for at in range(-(-tiled.rows // 10))))
    whole = run(replace(request, out=None), source, plan=tiled)
    with pytest.raises(StoppedError):
        run(request, source, plan=tiled, progress=stop_at("pass-end", 0))
    resumed = run(request, source, plan=tiled)
    warm = bigsvd.svd(tmp_path / "a", K, method="krylov", warm_start=tmp_path / "before", **options)
    for factors in (whole, resumed, warm):
        assert factors.kept.empty is not None
        assert factors.kept.empty.tolist() == [0, 7, 39]
        np.testing.assert_allclose(factors.s, whole.s, rtol=1e-6)
    assert np.array_equal(resumed.s, whole.s)
