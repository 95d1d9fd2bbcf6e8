"""Zoom levels are the block means of the dense reconstruction, and are made in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bigsvd
from bigsvd.results import pooled
from bigsvd.results.blocks import Blocked, Make, keep_nothing
from bigsvd.results.kept import Kept
from bigsvd.results.pooled import Level, level, level_shapes
from bigsvd.results.reconstruct import LowRank, region

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def block_means(whole: np.ndarray, number: int) -> np.ndarray:
    """Means over the defined entries of blocks of 2^number by 2^number, by the definition."""
    side = 2**number
    m, n = (-(-length // side) for length in whole.shape)
    found = np.full((m, n), np.nan)
    for i, j in np.ndindex(m, n):
        block = whole[i * side : (i + 1) * side, j * side : (j + 1) * side]
        if not np.isnan(block).all():
            found[i, j] = np.nanmean(block.astype(np.float64))
    return found


def assert_is_level(low_rank: LowRank, number: int, chunks: tuple[int, int] = (3, 2)) -> None:
    found = level(low_rank, number, chunks, keep_nothing)
    wide = replace(low_rank, dtype=FLOAT64)
    whole = region(wide, slice(None), slice(None))
    expected = block_means(whole, number)
    assert found.shape == expected.shape
    assert found.dtype == low_rank.dtype
    actual = found[:, :]
    assert actual.dtype == low_rank.dtype
    largest = float(np.nanmax(np.abs(whole), initial=1e-300))
    tolerance = 100 * len(low_rank.s) * float(np.finfo(low_rank.dtype).eps) * largest
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def make(
    m: int,
    n: int,
    k: int,
    *,
    dtype: np.dtype[Any] = FLOAT64,
    mean: bool = False,
    scale: bool = False,
    across: bool = False,
    features_axis: int = 1,
    seed: int = 0,
    **others: Any,
) -> LowRank:
    rng = np.random.default_rng(seed)
    features, samples = (m, n)[features_axis], (m, n)[1 - features_axis]
    return LowRank(
        U=rng.standard_normal((m, k)).astype(dtype),
        s=np.sort(rng.uniform(0.1, 4, k))[::-1],
        Vt=rng.standard_normal((k, n)).astype(dtype),
        mean=rng.standard_normal(features) if mean else None,
        scale=rng.uniform(0.5, 2, features) if scale else None,
        chunks=(4, 4),
        dtype=dtype,
        row_scale=rng.uniform(0.5, 2, samples) if across else None,
        features_axis=features_axis,
        **others,
    )


sizes = st.integers(1, 40)


@given(
    m=sizes, n=sizes, k=st.integers(1, 3), number=st.integers(1, 6),
    dtype=st.sampled_from([FLOAT32, FLOAT64]),
    mean=st.booleans(), scale=st.booleans(), across=st.booleans(), features_axis=st.integers(0, 1),
    chunks=st.tuples(st.integers(1, 7), st.integers(1, 7)), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_level_is_the_block_means_of_the_dense_matrix(
    m: int, n: int, k: int, number: int, chunks: tuple[int, int], **options: Any
) -> None:
    assert_is_level(make(m, n, k, **options), number, chunks)


@given(
    m=sizes, n=sizes, number=st.integers(1, 6), features_axis=st.integers(0, 1), data=st.data(),
    scale=st.booleans(), across=st.booleans(),
)  # fmt: skip
def test_lines_that_were_left_out_have_no_part_in_a_mean(
    m: int, n: int, number: int, data: st.DataObject, **options: Any
) -> None:
    """Neither those that were not taken, nor those of which nothing is known."""
    rows, cols = (
        np.array(sorted(data.draw(st.sets(st.integers(0, side - 1), min_size=1)))) for side in (m, n)
    )
    low_rank = make(len(rows), len(cols), 2, mean=True, kept=Kept((m, n), rows, cols), **options)
    if low_rank.scale is not None:
        unknown = data.draw(st.sets(st.integers(0, low_rank.scale.shape[0] - 1)))
        low_rank.scale[list(unknown)] = np.nan  # type: ignore[index]
    if low_rank.row_scale is not None:
        unknown = data.draw(st.sets(st.integers(0, low_rank.row_scale.shape[0] - 1)))
        low_rank.row_scale[list(unknown)] = np.nan  # type: ignore[index]
    assert_is_level(low_rank, number)


def test_a_block_with_a_missing_entry_is_nan() -> None:
    missing = np.zeros((9, 7), dtype=bool)
    missing[3, 2] = missing[8, 6] = True

    class Two:
        def among(
            self, rows: np.ndarray, cols: np.ndarray
        ) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
            for i in range(len(rows)):
                yield (slice(i, i + 1), slice(None)), missing[rows[i : i + 1]][:, cols]

    low_rank = make(9, 7, 2, gaps=Two())
    shown = level(low_rank, 1, (3, 2), keep_nothing)[:, :]
    assert np.argwhere(np.isnan(shown)).tolist() == [[1, 1], [4, 3]]
    numbers = level(replace(low_rank, gaps=None), 1, (3, 2), keep_nothing)[:, :]
    np.testing.assert_array_equal(shown[~np.isnan(shown)], numbers[~np.isnan(shown)])
    taken = replace(low_rank, kept=Kept((20, 7), np.arange(9) * 2, None))
    shown = level(taken, 2, (3, 2), keep_nothing)[:, :]
    assert np.argwhere(np.isnan(shown)).tolist() == [[1, 0], [4, 1]]


def test_levels_of_published_factors_are_means_of_what_they_reconstruct(tmp_path: Path) -> None:
    A = np.random.default_rng(3).standard_normal((70, 45)) + 5
    factors = bigsvd.svd(
        A, 4, tmp_path / "f", center=True, scale="std", row_weights=np.linspace(1, 2, 70), rows="1:70:3"
    )
    whole = factors[:, :]
    assert np.isnan(whole[0]).all()
    for number in (1, 2, 6):
        found = level(factors.low_rank(), number, (8, 8), keep_nothing)[:, :]
        np.testing.assert_allclose(found, block_means(whole, number), atol=1e-12)


def test_fewer_singular_values_than_vectors_are_the_truncation() -> None:
    low_rank = make(21, 17, 4)
    few = replace(low_rank, s=low_rank.s[:2])
    cut = replace(few, U=low_rank.U[:, :2], Vt=low_rank.Vt[:2])
    for one, other in zip(*(level(each, 2, (4, 4), keep_nothing)[:, :] for each in (few, cut)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("size", [1e-40, 1e40])
def test_factors_beyond_the_range_of_float32(size: float) -> None:
    low_rank = make(16, 8, 2, dtype=FLOAT32, scale=True, across=True)
    scale, across = np.asarray(low_rank.scale), np.asarray(low_rank.row_scale)
    far = replace(low_rank, scale=scale * size, row_scale=across / size)
    np.testing.assert_allclose(
        level(far, 2, (4, 4), keep_nothing)[:, :], level(low_rank, 2, (4, 4), keep_nothing)[:, :], rtol=1e-5
    )


def test_levels_halve_both_sides_until_neither_is_long() -> None:
    assert level_shapes((512, 3), 512) == [(512, 3)]
    assert level_shapes((513, 1), 512) == [(513, 1), (257, 1)]
    assert level_shapes((2049, 5), 512)[-1] == (257, 1)
    shapes = level_shapes((10**9, 999), 512)
    assert len(shapes) == 22
    assert shapes[-1] == (477, 1)
    for number, shape in enumerate(shapes):
        assert shape == (-(-(10**9) // 2**number), -(-999 // 2**number))


def test_sums_are_the_same_however_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    low_rank = make(300, 210, 3, scale=True, kept=Kept((1000, 211), np.arange(300) * 3, np.arange(210)))
    expected = level(low_rank, 4, (8, 8), keep_nothing)[:, :]
    monkeypatch.setattr(pooled, "_PIECE_BYTES", 500)
    np.testing.assert_array_equal(level(low_rank, 4, (8, 8), keep_nothing)[:, :], expected)


def test_errors_do_not_grow_with_the_number_of_lines() -> None:
    """Sums by halves: a hundred thousand equal numbers one after the other would err by 1e-12."""
    m = 2**17
    low_rank = LowRank(np.full((m, 1), 0.1), np.ones(1), np.ones((1, 1)), None, None, (4, 4), FLOAT64)
    assert abs(level(low_rank, 17, (4, 4), keep_nothing)[:, :].item() - 0.1) < 1e-16


def test_a_long_factor_is_pooled_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Long:
        """(2^24, 2) float32, 128 MiB, of which a part is made when it is read."""

        shape, dtype, most = (2**24, 2), FLOAT32, 0

        def __getitem__(self, key: Any) -> np.ndarray:
            start, stop, _ = key[0].indices(self.shape[0])
            self.most = max(self.most, stop - start)
            return np.ones((stop - start, 2), np.float32)

    monkeypatch.setattr(pooled, "_PIECE_BYTES", 2**20)
    U = Long()
    low_rank = LowRank(U, np.ones(2), np.ones((2, 1)), None, None, (4, 4), FLOAT32)
    tracemalloc.start()
    found = level(low_rank, 20, (4, 4), keep_nothing)[:, :]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found == 2).all()
    assert found.shape == (16, 1)
    assert U.most <= 2**15
    assert peak_bytes < 8 * 2**20


def test_pooled_factors_are_asked_for_by_name_and_made_of_all_vectors() -> None:
    asked: Counter[Hashable] = Counter()
    kept: dict[Hashable, np.ndarray] = {}

    def keep(key: Hashable, make: Make) -> np.ndarray:
        asked[key] += 1
        if key not in kept:
            kept[key] = make()
        return kept[key]

    low_rank = make(21, 17, 4, mean=True)
    level(low_rank, 1, (4, 4), keep)[:4, :4]
    assert set(asked) == {(0, 1, 4, 0), (1, 1, 4, 0)}
    few = replace(low_rank, s=low_rank.s[:2])
    level(few, 1, (4, 4), keep)[:4, :4]
    assert set(kept) == {(0, 1, 4, 0), (1, 1, 4, 0)}
    assert kept[0, 1, 4, 0].shape == (4, 5)
    assert isinstance(level(low_rank, 1, (4, 4), keep), Level)


ARRAY = np.arange(60.0).reshape(10, 6)


@given(axis=st.integers(0, 1), grain=st.integers(1, 11), data=st.data())
def test_blocks_read_as_the_array_they_are_of(axis: int, grain: int, data: st.DataObject) -> None:
    def block(b: int) -> np.ndarray:
        lines = slice(b * grain, (b + 1) * grain)
        return ARRAY[(slice(None),) * axis + (lines,)]

    blocked = Blocked(ARRAY.shape, ARRAY.dtype, axis, grain, block)
    length = ARRAY.shape[axis]
    start, stop = sorted(data.draw(st.tuples(st.integers(0, length), st.integers(0, length))))
    index = np.array(sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1))))
    for lines in (slice(start, stop), slice(None), index):
        key = (lines, slice(0, 3)) if axis == 0 else (slice(0, 3), lines)
        np.testing.assert_array_equal(blocked[key], ARRAY[key])
    np.testing.assert_array_equal(blocked[:], ARRAY)
    with pytest.raises(IndexError, match="a step of 2"):
        blocked[(slice(None, None, 2), slice(None))[:: 1 - 2 * axis]]
