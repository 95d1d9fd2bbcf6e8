"""Missing entries: nowhere taken for a number, compared as they are stored, counted and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client

import bigsvd
from bigsvd.cli import main
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import DynamicRangeError, NonFiniteError, RequestError
from bigsvd.sentinels import held, matches
from bigsvd.slabs.moments import ColumnMoments
from tests.clusters import if_on_dask

METHODS: dict[str, dict[str, Any]] = {
    "krylov": {"method": "krylov"},
    "gram": {"method": "gram"},
    "tall_skinny": {"method": "tall_skinny"},
}


def filled(entries: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries with gaps at their column's mean, the means, and deviations, 1 for constant columns."""
    observed = np.where(missing, np.nan, entries.astype(float))
    mean = np.array(
        [np.mean(column[~np.isnan(column)]) if (~np.isnan(column)).any() else 0.0 for column in observed.T]
    )
    numbers = np.where(missing, mean, observed)
    deviation = numbers.std(axis=0)
    return numbers, mean, np.where(deviation < 1e-12 * np.maximum(1, np.abs(mean)), 1.0, deviation)


def genotypes(m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Calls 0..2 as int8 with -1 for missing; every tenth column is the same in all rows."""
    rng = np.random.default_rng(0)
    calls = rng.binomial(2, rng.uniform(0.1, 0.9, n), (m, n)).astype("i1")
    calls[:, ::10] = 2
    missing = rng.random((m, n)) < 0.05
    return np.where(missing, -1, calls).astype("i1"), missing


@pytest.mark.parametrize("shape", [(60, 300), (300, 60)], ids=["wide", "tall"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [True, False])
def test_a_constant_column_with_gaps_is_divided_by_one(
    client: Client, method: str, shape: tuple[int, int], *, center: bool
) -> None:
    """Where rows are streamed as columns their shift saw gaps as 0: the divisor was rounding noise."""
    entries, missing = genotypes(*shape)
    numbers, mean, deviation = filled(entries, missing)
    B = (numbers - mean * center) / deviation
    options: dict[str, Any] = METHODS[method] | if_on_dask(client, method)
    with pytest.warns(UserWarning, match="constant"):
        factors = bigsvd.svd(
            entries, 4, center=center, scale=True, missing="mean", missing_value=-1, **options
        )
    assert np.allclose(factors.scale, deviation, rtol=1e-10)
    assert np.allclose(factors.s, np.linalg.svd(B, compute_uv=False)[:4], rtol=1e-4)
    counts = factors.certificate.counts
    assert counts is not None
    constant = np.flatnonzero(deviation == 1)
    assert (counts.constant, counts.constant_columns) == (constant.size, tuple(constant[:10]))
    assert counts.missing == missing.sum()
    assert f"{missing.sum():,} of {missing.size:,} entries missing" in str(factors.certificate)


def test_a_large_mean_with_gaps_costs_no_accuracy() -> None:
    """The shift of a row was off by mean × share missing, so that its variance cancelled."""
    rng = np.random.default_rng(1)
    entries = 1e9 + rng.standard_normal((50, 400))
    missing = rng.random(entries.shape) < 0.3
    _, _, deviation = filled(entries, missing)
    entries[missing] = np.nan
    factors = bigsvd.svd(entries, 3, center=True, scale=True, missing="mean")
    assert np.allclose(factors.scale, deviation, rtol=1e-7)


def test_means_that_a_sample_shows_nearly_cost_no_further_pass() -> None:
    """The first pass fills gaps with estimated means: its products were dropped, and made again."""
    rng = np.random.default_rng(3)
    sigma = 0.8 ** np.arange(60.0)
    entries = rng.standard_normal((6000, 60)) * sigma @ np.linalg.qr(rng.standard_normal((60, 60)))[0] + 2
    found = {}
    for gaps in (0.0, 0.02):
        missing = rng.random(entries.shape) < gaps
        holed = np.where(missing, np.nan, entries).astype("f4")
        source = da.from_array(holed, chunks=(100, 60))
        factors = bigsvd.svd(source, 4, method="krylov", center=True, missing="mean")
        numbers, mean, _ = filled(holed, missing)
        assert factors.certificate.converged
        exact = np.linalg.svd(numbers - mean, compute_uv=False)
        assert np.allclose(factors.s, exact[:4], rtol=1e-3)
        found[gaps] = factors.provenance["costs"]["passes"]
    assert found[0.02] == found[0.0]


def test_a_column_without_any_entry_is_named() -> None:
    entries = np.random.default_rng(0).standard_normal((200, 30))
    entries[:, [3, 17]] = np.nan
    factors = bigsvd.svd(entries, 2, center=True, missing="mean")
    counts = factors.certificate.counts
    assert counts is not None
    assert (counts.empty, counts.empty_columns) == (2, (3, 17))
    assert "2 column(s) all missing, left out: 3, 17" in str(factors.certificate)


def test_rows_that_begin_with_gaps_take_their_shift_where_they_are_first_observed() -> None:
    device, length = CpuDevice(), 40
    values = 1e8 + np.random.default_rng(0).standard_normal((3, length))
    mask = np.zeros(values.shape, dtype=bool)
    mask[1, :25] = True
    values[mask] = 0.0
    first, later = slice(0, 20), slice(20, 40)
    sums = ColumnMoments(np.zeros(3), length, axis=0)
    for part in (first, later):
        sums.learn(device, values[:, part], device.gaps(mask[:, part]), at=slice(None))
    wanted = [np.std(row[~gone]) * np.sqrt((~gone).mean()) for row, gone in zip(values, mask, strict=True)]
    assert np.allclose(sums.deviation, wanted, rtol=1e-7)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("columns", [slice(None), slice(3, 20)])
def test_gaps_few_or_many_are_filled_where_the_mask_says(share: float, order: Any, columns: slice) -> None:
    rng, device = np.random.default_rng(0), CpuDevice()
    mask = np.array(rng.random((40, 40)) < share)[:, columns]
    gaps = device.gaps(np.asarray(mask, order=order))
    if gaps is None:
        assert share == 0
        return
    assert gaps.count == mask.sum()
    line = rng.standard_normal((1, mask.shape[1]))
    for array in (rng.standard_normal((40, 40))[:, columns], np.asfortranarray(rng.random(mask.shape))):
        for fill in (0.0, line):
            wanted = np.where(mask, fill, array)
            assert np.array_equal(device.filled(array.copy("K"), gaps, fill), wanted)
            assert np.array_equal(device.filled(array, gaps, fill), wanted)


def test_columns_too_faint_to_be_scaled_are_refused() -> None:
    """Squares of values 1e160 below the largest are 0 in float64: they counted as constant."""
    A = np.random.default_rng(0).standard_normal((100, 30)) * 10.0 ** np.linspace(-90, 90, 30)
    for matrix in (A, np.ascontiguousarray(A[:20])):
        with pytest.raises(DynamicRangeError, match="multiply them by a power of ten"):
            bigsvd.svd(matrix, 3, scale=True)
    assert bigsvd.svd(A, 3).certificate.converged


@pytest.mark.parametrize(
    ("value", "dtype", "wanted"),
    [
        (-9999.9, "f4", float(np.float32(-9999.9))),
        (-9999.9, "f8", -9999.9),
        (-1, "i1", -1),
        (-1.0, "i1", -1),
        (-1, "u1", None),
        (300, "i1", None),
        (0.5, "i4", None),
        (float("nan"), "i4", None),
        (1e20, "f2", None),
        (10**400, "f8", None),
        (2**63, "u8", 2**63),
        (2**63, "i8", None),
        (1, "b1", None),
    ],
)
def test_a_sentinel_is_what_the_stored_type_makes_of_it(value: float, dtype: str, wanted: Any) -> None:
    assert held(value, np.dtype(dtype)) == wanted


def test_several_sentinels_match_each_of_their_entries() -> None:
    raw = np.array([1.0, -1.0, np.nan, -2.0, 0.0])
    found = matches(np, raw, raw.dtype, (-1, -2, float("nan")))
    assert found.tolist() == [False, True, True, True, False]
    big = np.array([2**53, 2**53 + 1])
    assert matches(np, big, big.dtype, (2**53 + 1,)).tolist() == [False, True]


def test_a_sentinel_that_matches_nothing_is_said() -> None:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((60, 20))
    widened = np.where(rng.random(A.shape) < 0.1, np.float32(-9999.9), A)
    with pytest.warns(UserWarning, match=r"no entry equals missing_value=-9999.9: nothing was filled"):
        bigsvd.svd(widened, 2, missing="mean", missing_value=-9999.9)
    narrow = widened.astype("f4")
    factors = bigsvd.svd(narrow, 2, missing="mean", missing_value=-9999.9)
    assert factors.certificate.counts is not None
    assert factors.certificate.counts.missing == np.sum(narrow == np.float32(-9999.9)) > 0


@pytest.mark.parametrize("value", [None, float("nan"), 200, 0.5])
def test_integers_that_cannot_be_missing_are_refused(value: float | None) -> None:
    entries = np.ones((30, 20), "i1")
    with pytest.raises(RequestError, match=r"int8 entries of .* cannot be"):
        bigsvd.svd(entries, 2, missing="mean", missing_value=value)


@pytest.mark.parametrize("center", [True, False])
def test_both_ways_of_filling_count_the_same(*, center: bool) -> None:
    A = np.random.default_rng(0).standard_normal((60, 20))
    A[::7] = np.nan
    for shape in (A, A.T.copy()):
        found = {
            how: bigsvd.svd(shape, 2, center=center, missing=how).info()["missing_entries"]
            for how in ("mean", "zero")
        }
        assert found == {"mean": 180, "zero": 180}


def test_nan_beside_a_sentinel_is_refused_with_what_to_add_or_filled_if_named() -> None:
    A = np.random.default_rng(0).standard_normal((60, 20))
    A[3, 4], A[5, 6] = np.nan, -9
    with pytest.raises(NonFiniteError, match=r"missing_value=\[-9, nan\]"):
        bigsvd.svd(A, 2, missing="mean", missing_value=-9)
    factors = bigsvd.svd(A, 2, missing="mean", missing_value=[-9, np.nan])
    assert factors.certificate.counts is not None
    assert factors.certificate.counts.missing == 2
    A[7, 7] = np.inf
    with pytest.raises(NonFiniteError, match=r"1 \+Inf"):
        bigsvd.svd(A, 2, missing="mean", missing_value=[-9, np.nan])


@pytest.mark.filterwarnings("ignore:numerical rank")
def test_a_sentinel_is_no_integer_that_was_rounded() -> None:
    entries = np.random.default_rng(0).integers(0, 100, (60, 20))
    entries[::9, 0] = np.iinfo(np.int64).min
    entries[1, 1] = 2**60
    with pytest.warns(UserWarning, match="1 integers beyond"):
        factors = bigsvd.svd(entries, 2, missing="zero", missing_value=np.iinfo(np.int64).min)
    assert factors.certificate.counts is not None
    assert factors.certificate.counts.rounded == 1


def test_the_command_line_takes_several_values_and_keeps_integers(tmp_path: Path) -> None:
    entries = np.random.default_rng(0).integers(0, 100, (60, 20))
    entries[3, 4], entries[5, 6] = 2**60 + 1, -1
    entries[7, 8] = 2**60  # the nearest float64 to the first
    zarr.create_array(str(tmp_path / "a.zarr"), data=entries, chunks=(20, 20))
    command = [
        "svd",
        str(tmp_path / "a.zarr"),
        str(tmp_path / "f"),
        "-k",
        "2",
        "--missing",
        "mean",
        "--quiet",
    ]
    ended = CliRunner().invoke(main, [*command, "--missing-value", str(2**60 + 1), "--missing-value", "-1"])
    assert ended.exit_code == 0, ended.output
    assert "2 of 1,200 entries missing" in ended.output
    wrong = CliRunner().invoke(main, [*command, "--missing-value", "some"])
    assert wrong.exit_code == 2
    assert "'some'" in wrong.output


@pytest.mark.parametrize(
    "options",
    [
        {"missing": "mean", "missing_value": np.float32(1e20)},
        {"missing": "mean", "missing_value": np.array(-5)},
        {"missing": "zero", "missing_value": [np.int16(-5), np.float64(7)]},
        {"tol": np.float32(0.01)},
        {"tol": np.array(0.01)},
        {"seed": np.int64(3)},
        {"max_passes": np.int32(3)},
        {"memory": np.int64(10**8)},
        {"memory": np.float64(1e8)},
        {"center": np.bool_(True)},
        {"method": np.str_("gram")},
        {"deadline": np.float32(100)},
        {"overwrite": np.bool_(False)},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:no entry equals")
def test_scalars_of_numpy_are_the_numbers_they_stand_for(options: dict[str, Any]) -> None:
    factors = bigsvd.svd(np.eye(30, 20), np.int8(3), **options)  # type: ignore[arg-type]
    assert factors.k == 3
