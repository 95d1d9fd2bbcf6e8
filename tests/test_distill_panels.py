"""Panels of samples in the units of B: standardised as `project` does it, with what was not seen at 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd.distill.panels import Absence, RowPanels
from bigsvd.distill.rows import Rows
from bigsvd.errors import NonFiniteError, RequestError, ShapeError
from bigsvd.results.factors import Factors
from bigsvd.results.standard import Standard
from bigsvd.sources.open import open_source

M, N, K = 60, 14, 3
OPTIONS: dict[str, dict[str, Any]] = {
    "bare": {},
    "standardised": {"center": True, "scale": True, "missing": "mean"},
    "functions": {"functions": ["normalize_total:100", "log1p"], "center": True, "missing": "mean"},
    "weighted": {"center": True, "weights": np.arange(N) * 0.5, "missing": "mean"},
    "selected": {"center": True, "missing": "mean", "cols": np.array([0, 3, 4, 9, 13])},
}


def data() -> np.ndarray:
    random = np.random.default_rng(3)
    return random.gamma(2.0, 3.0, (M, K)) @ random.random((K, N)) + random.random((M, N))


def teacher(tmp_path: Path, **options: Any) -> Factors:
    return bigsvd.svd(data(), K, out=tmp_path / "t.zarr", **options)


def joined(panels: RowPanels) -> Rows:
    parts = list(panels)
    assert [part.start for part in parts] == [panels.span(i).start for i in range(len(panels))]
    values = np.concatenate([part.values for part in parts])
    return Rows(0, values, np.concatenate([part.seen for part in parts]))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_panel_is_what_project_multiplies(tmp_path: Path, name: str) -> None:
    factors = teacher(tmp_path, **OPTIONS[name])
    new = data()[:20] + 1.0
    if name != "bare":
        new[4, 3] = new[7, 9] = np.nan
    found = joined(RowPanels(open_source(new), factors.standard, 7))
    V = np.asarray(factors.Vt[:], dtype=np.float64).T
    np.testing.assert_allclose(found.values @ V, factors.project(new), rtol=1e-12, atol=1e-12)
    informative = factors.standard.informative
    ids = OPTIONS[name].get("cols", np.arange(N))
    np.testing.assert_array_equal(found.seen, ~np.isnan(new[:, ids]) & informative)
    assert not found.values[~found.seen].any()


def test_samples_along_columns_come_as_rows(tmp_path: Path) -> None:
    new = data()[:20]
    new[2, 5] = np.nan
    standard = teacher(tmp_path, center=True, scale=True).standard
    one = joined(RowPanels(open_source(new), standard, 6))
    other = joined(RowPanels(open_source(np.ascontiguousarray(new.T), samples="columns"), standard, 6))
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.seen, other.seen)


def test_a_panel_is_made_again_by_its_number(tmp_path: Path) -> None:
    panels = RowPanels(open_source(data()), teacher(tmp_path, center=True).standard, 9)
    assert (len(panels), panels.samples) == (7, M)
    for number, rows in zip((5, 0, 6), panels.some((5, 0, 6)), strict=True):
        again = panels.panel(number)
        assert again.start == rows.start == 9 * number
        np.testing.assert_array_equal(again.values, rows.values)
        np.testing.assert_array_equal(again.seen, rows.seen)


def gone(absent: Absence, source: Any) -> np.ndarray:
    seen: np.ndarray = joined(RowPanels(source, Standard(4), 2, absent)).seen
    return ~seen


def test_what_is_absent_by_each_rule(tmp_path: Path) -> None:
    whole = np.arange(12, dtype=np.int16).reshape(3, 4)
    source = open_source(whole)
    by_zero = Absence.of(source, missing="zero")
    np.testing.assert_array_equal(gone(by_zero, source), whole == 0)
    by_value = Absence.of(source, missing_value=(3, 7))
    np.testing.assert_array_equal(gone(by_value, source), np.isin(whole, (3, 7)))
    mask = whole % 5 == 0
    np.testing.assert_array_equal(gone(Absence.of(source, mask=mask), source), mask)
    stored = zarr.create_array(tmp_path / "mask.zarr", data=mask, chunks=(2, 3))
    del stored
    by_path = Absence.of(source, mask=tmp_path / "mask.zarr", missing_value=3)
    np.testing.assert_array_equal(gone(by_path, source), mask | (whole == 3))


def test_fill_values_of_cf_are_absent(tmp_path: Path) -> None:
    packed = np.array([[1, 2, -9, 4], [5, -9, 7, 8]], dtype=np.int16)
    attributes: Any = {"_FillValue": -9, "scale_factor": 0.5, "add_offset": 10.0}
    zarr.create_array(tmp_path / "cf.zarr", data=packed, chunks=(1, 4), attributes=attributes)
    source = open_source(tmp_path / "cf.zarr")
    found = joined(RowPanels(source, Standard(4), 1, Absence.of(source)))
    np.testing.assert_array_equal(found.seen, packed != -9)
    np.testing.assert_array_equal(found.values, np.where(packed == -9, 0.0, packed * 0.5 + 10.0))


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    source = open_source(data())
    with pytest.raises(ShapeError, match=r"the mask is \(3, 14\).*is \(60, 14\)"):
        Absence.of(source, mask=np.ones((3, N), dtype=bool))
    with pytest.raises(RequestError, match="has entries of float64"):
        Absence.of(source, mask=np.ones((M, N)))
    with pytest.raises(ShapeError, match="has 14 features, the teacher 5"):
        RowPanels(source, Standard(5), 10)
    infinite = data()
    infinite[11, 3] = np.inf
    with pytest.raises(NonFiniteError, match="first sample 11, feature 3"):
        list(RowPanels(open_source(infinite), Standard(N), 8))


def test_an_error_of_the_reading_thread_is_raised_and_the_thread_ends(tmp_path: Path) -> None:
    broken = data()
    broken[50] = -np.inf
    panels = iter(RowPanels(open_source(broken), Standard(N), 10))
    assert [next(panels).start for _ in range(5)] == [0, 10, 20, 30, 40]
    with pytest.raises(NonFiniteError):
        next(panels)
    with pytest.raises(StopIteration):
        next(panels)
