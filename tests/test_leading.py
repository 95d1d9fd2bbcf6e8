"""Fewer triplets as a store of their own, results deleted, and the data beside what is made of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigsvd
from bigsvd.errors import OutputBusyError, OutputExistsError, RankError, SourceChangedError
from bigsvd.events import unheard
from bigsvd.originals import Original
from bigsvd.results.check import check_store
from bigsvd.results.factors import Factors
from bigsvd.results.leading import publish_leading
from bigsvd.results.output import Output
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.small_arrays import small_matrix, store


def decomposed(folder: Path, data: np.ndarray, **options: Any) -> Factors:
    source = store(folder / "data.zarr", data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # how good they are does not matter here
        return bigsvd.svd(source, 5, folder / "factors", **{"tol": 1e-3, **options})


def with_gaps(data: np.ndarray) -> np.ndarray:
    found = data.copy()
    found[3, 5] = found[50, 70] = np.nan
    found[:, 7] = np.nan  # missing throughout
    return found


@pytest.mark.parametrize("k", [1, 3, 5])
def test_leading_triplets_are_published(tmp_path: Path, k: int) -> None:
    factors = decomposed(tmp_path, with_gaps(small_matrix()), missing="mean", center=True, scale=True)
    few = publish_leading(factors, k, tmp_path / "few")
    expected = factors.truncate(k)
    for name in ("U", "s", "Vt", "mean", "scale"):
        np.testing.assert_array_equal(getattr(few, name)[:], getattr(expected, name)[:])
    np.testing.assert_array_equal(few[:], expected[:])
    assert few.certificate == expected.certificate
    assert few.kept.empty is not None
    assert few.provenance["truncated_from"] == {"path": str(factors.path), "k": 5}
    assert check_store(few) == []
    assert verify(few, open_source(str(tmp_path / "data.zarr"), missing="mean"), unheard).findings == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.zarr", "factors", "few"]


def test_selected_lines_stay_selected(tmp_path: Path) -> None:
    factors = decomposed(tmp_path, small_matrix(), rows="10:90", cols="0:60:2")
    few = publish_leading(factors, 2, tmp_path / "few")
    np.testing.assert_array_equal(few[:], factors.truncate(2)[:])
    assert few.kept.shape == (120, 80)


def test_what_cannot_be_published(tmp_path: Path) -> None:
    factors = decomposed(tmp_path, small_matrix())
    for k in (0, 6):
        with pytest.raises(RankError):
            publish_leading(factors, k, tmp_path / "few")
    with pytest.raises(OutputExistsError):
        publish_leading(factors, 2, factors.path)
    with Output(tmp_path / "few", overwrite=False), pytest.raises(OutputBusyError):
        publish_leading(factors, 2, tmp_path / "few")
    assert not (tmp_path / "few").exists()


def test_a_result_is_deleted_with_its_scratch(tmp_path: Path) -> None:
    factors = decomposed(tmp_path, small_matrix(), max_passes=1, tol=1e-12)
    assert (tmp_path / "factors.scratch").is_dir()
    with Output(factors.path, overwrite=True) as output:
        output.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["data.zarr"]


def test_a_result_with_something_of_somebody_in_it_stays(tmp_path: Path) -> None:
    factors = decomposed(tmp_path, small_matrix())
    (factors.path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError), Output(factors.path, overwrite=True) as output:
        output.remove()
    assert (factors.path / "notes.txt").exists()


def original_of(factors: Factors, name: str = "data.zarr") -> Original:
    return Original.of(factors, str(factors.path.parent / name))


def test_the_data_beside_the_reconstruction(tmp_path: Path) -> None:
    data = with_gaps(small_matrix())
    original = original_of(decomposed(tmp_path, data, missing="mean"))
    np.testing.assert_array_equal(original.region(slice(0, 120), slice(0, 80)), data)
    np.testing.assert_array_equal(original.region(slice(40, 60), slice(65, 75)), data[40:60, 65:75])
    assert original.chunks_for(slice(40, 60), slice(65, 75)) == 2
    assert original.chunks_for(slice(0, 1), slice(0, 80)) == 3


def test_lines_that_were_not_taken_are_nan(tmp_path: Path) -> None:
    data = small_matrix()
    factors = decomposed(tmp_path, data, rows="10:90", cols="0:60:2")
    found = original_of(factors).region(slice(0, 120), slice(0, 80))
    expected = np.full(data.shape, np.nan)
    expected[10:90, 0:60:2] = data[10:90, 0:60:2]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("samples", ["rows", "columns"])
def test_functions_are_applied_with_the_totals_of_whole_samples(tmp_path: Path, samples: str) -> None:
    counts = np.random.default_rng(0).poisson(3.0, (120, 80)).astype(np.float32)
    factors = decomposed(
        tmp_path, counts, functions=("normalize_total:100", "log1p"), samples=samples, tol=1e-3
    )
    totals = counts.astype(np.float64).sum(axis=1 if samples == "rows" else 0, keepdims=True)
    expected = np.log1p(counts / totals * 100)
    original = original_of(factors)
    found = original.region(slice(30, 60), slice(10, 40))
    np.testing.assert_allclose(found, expected[30:60, 10:40], rtol=1e-6)
    read = original.read_for(slice(30, 60), slice(10, 40))
    assert read == ((slice(30, 60), slice(0, 80)) if samples == "rows" else (slice(0, 120), slice(10, 40)))


def test_integers_are_the_numbers_they_stand_for(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(-1, 3, (120, 80)).astype(np.int8)
    factors = decomposed(tmp_path, stored, missing="mean", missing_value=-1, tol=1e-3)
    expected = np.where(stored == -1, np.nan, stored)
    np.testing.assert_array_equal(original_of(factors).region(slice(0, 120), slice(0, 80)), expected)


def test_other_data_are_refused(tmp_path: Path) -> None:
    factors = decomposed(tmp_path, small_matrix())
    store(tmp_path / "other.zarr", small_matrix(100, 80))
    with pytest.raises(SourceChangedError, match=r"shape \(120, 80\).*\(100, 80\)"):
        original_of(factors, "other.zarr")
