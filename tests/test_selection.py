"""Some rows and columns of a matrix: what is read, what is decomposed, and what is put back."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
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
from bigsvd.errors import NonFiniteError, RequestError, SourceError
from bigsvd.solve import run
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from bigsvd.sources.selected import SelectedSource, ShiftedSource
from bigsvd.sources.transposed import TransposedSource
from bigsvd.verify import verify
from tests.laws import SourceLaws

SHAPE = (90, 47)
A = np.random.default_rng(0).standard_normal(SHAPE) * 3 + np.arange(47)
MASK = np.random.default_rng(1).random(47) < 0.4
IDS = np.array([3, 88, -1, 40, 41, 7])
K = 3

# What is selected, as it is asked for; and the rows and columns that this is.
SELECTIONS: dict[str, tuple[Any, Any, Any, Any]] = {
    "steps": ("10:80:3", slice(None, None, 2), range(10, 80, 3), range(0, 47, 2)),
    "mask": (None, MASK, range(90), np.flatnonzero(MASK)),
    "ids": (IDS, None, [3, 7, 40, 41, 88, 89], range(47)),
    "both": (IDS, MASK, [3, 7, 40, 41, 88, 89], np.flatnonzero(MASK)),
    "shifted": (slice(5, 77), "-40:-2", range(5, 77), range(7, 45)),
}


def selection(name: str) -> tuple[Any, Any, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """What is asked for, what it is of A, and where that is."""
    rows, cols, own_rows, own_cols = SELECTIONS[name]
    places = np.ix_(np.array(own_rows), np.array(own_cols))
    return rows, cols, A[places], (places[0][:, 0], places[1][0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("selection")
    zarr.create_array(found / "a.zarr", data=A, chunks=(13, 8))
    zarr.create_array(found / "s.zarr", data=A, chunks=(13, 8), shards=(26, 16))
    return found


class TestSelected(SourceLaws):
    """Of every kind of selection, and of several sources."""

    @pytest.fixture(
        params=["steps", "mask", "ids", "both", "shifted", "both of dask", "ids of shards", "both of numpy"]
    )
    def which(self, request: pytest.FixtureRequest) -> tuple[str, str]:
        name, _, kind = str(request.param).partition(" of ")
        return name, kind

    @pytest.fixture
    def source(self, folder: Path, which: tuple[str, str]) -> Source:
        rows, cols, _, _ = selection(which[0])
        kinds = {"": folder / "a.zarr", "shards": folder / "s.zarr", "numpy": A}
        self.kept = da.from_array(A, chunks=(20, 9)) + 0
        return open_source(kinds.get(which[1], self.kept), rows=rows, cols=cols)

    @pytest.fixture
    def entries(self, which: tuple[str, str]) -> np.ndarray:
        return selection(which[0])[2]


class TestTransposed(TestSelected):
    """The same, streamed by columns."""

    @pytest.fixture(params=["both", "shifted"])
    def which(self, request: pytest.FixtureRequest) -> tuple[str, str]:
        return str(request.param), ""

    @pytest.fixture
    def source(self, folder: Path, which: tuple[str, str]) -> Source:
        rows, cols, _, _ = selection(which[0])
        return TransposedSource(open_source(folder / "a.zarr", rows=rows, cols=cols))

    @pytest.fixture
    def entries(self, which: tuple[str, str]) -> np.ndarray:
        return selection(which[0])[2].T


def test_only_chunks_that_hold_something_are_read(tmp_path: Path) -> None:
    """Others may not even be there."""
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(10, 8))
    for gone in ("c/2/1", "c/3/0", "c/8/5"):
        (tmp_path / "a.zarr" / gone).unlink()
    rows = np.r_[0:20, 40:80]
    factors = bigsvd.svd(tmp_path / "a.zarr", K, rows=rows, tol=1e-6)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A[rows], compute_uv=False)[:K], rtol=1e-10)
    with pytest.raises(Exception, match="do not exist"):
        bigsvd.svd(tmp_path / "a.zarr", K)
    source = open_source(tmp_path / "a.zarr", rows=[1, 85], cols=[0, 46])
    source.read(slice(0, 1), slice(0, 1))
    assert source.counters.encoded_bytes < 2 * 8 * 80 + 4000


@pytest.mark.parametrize("samples", ["rows", "columns"])
@pytest.mark.parametrize("name", SELECTIONS)
def test_the_answer_is_that_of_the_part(tmp_path: Path, folder: Path, name: str, samples: str) -> None:
    rows, cols, part, (own_rows, own_cols) = selection(name)
    options: dict[str, Any] = {"center": True, "samples": samples, "tol": 1e-6}
    plain = bigsvd.svd(part, K, **options)
    factors = bigsvd.svd(folder / "a.zarr", K, tmp_path / "f", rows=rows, cols=cols, **options)
    np.testing.assert_allclose(factors.s, plain.s, rtol=1e-12)
    assert factors.certificate.relative_error == pytest.approx(plain.certificate.relative_error, abs=1e-13)
    assert (factors.shape, factors.kept.shape) == (part.shape, SHAPE)
    opened = bigsvd.open(tmp_path / "f")
    expected = np.full(SHAPE, np.nan)
    expected[np.ix_(own_rows, own_cols)] = plain[:]
    wholes: list[Any] = [opened[:], opened.reconstruct().compute(), opened.as_zarr()[...]]
    for whole in wholes:
        np.testing.assert_allclose(whole, expected, atol=1e-9)
    np.testing.assert_allclose(opened[[5, 3], 2:44:5], expected[[5, 3], 2:44:5], atol=1e-9)
    features = (own_cols, own_rows)[opened.samples_axis]
    count = SHAPE[opened.features_axis]
    left = np.setdiff1d(np.arange(count), features)
    np.testing.assert_allclose(opened.components[:, features], plain.components, atol=1e-10)
    assert np.isnan(opened.components[:, left]).all()
    assert np.isnan(opened.unstacked(opened.mean)).sum() == left.size
    new = np.random.default_rng(4).standard_normal((count, 4))
    shown = (new.T, new)[opened.samples_axis]
    taken = (new[features].T, new[features])[opened.samples_axis]
    np.testing.assert_allclose(opened.project(shown), plain.project(taken), atol=1e-9)
    np.testing.assert_allclose(opened.truncate(2).project(taken), plain.project(taken)[:, :2], atol=1e-9)
    for source in (
        open_source(folder / "a.zarr", samples=samples),
        open_source(folder / "a.zarr", samples=samples, rows=rows, cols=cols),
    ):
        assert verify(opened, source, lambda _: None).findings == ()


def test_a_mask_may_have_the_shape_of_the_stacked_axes(tmp_path: Path) -> None:
    X = np.random.default_rng(2).standard_normal((40, 5, 7))
    mask = np.random.default_rng(3).random((5, 7)) < 0.6
    np.save(tmp_path / "mask.npy", mask)
    zarr.create_array(tmp_path / "x", data=X, chunks=(9, 2, 3))
    for given in (mask, tmp_path / "mask.npy", np.flatnonzero(mask), mask.reshape(-1)):
        factors = bigsvd.svd(tmp_path / "x", K, dim=0, cols=given, center=True, tol=1e-6)
        part = X[:, mask] - X[:, mask].mean(axis=0)
        np.testing.assert_allclose(factors.s, np.linalg.svd(part, compute_uv=False)[:K], rtol=1e-10)
        np.testing.assert_array_equal(np.isnan(factors.components[0]), ~mask)
    with pytest.raises(RequestError, match=r"cols has shape \(7, 5\)"):
        bigsvd.svd(tmp_path / "x", K, dim=0, cols=mask.T)


@pytest.mark.parametrize("axes", ["matrix", "cube", "alleles"])
@pytest.mark.parametrize("shape", [(90, 48), (40, 84)], ids=["tall", "wide"])
def test_an_absent_chunk_is_counted_once_however_often_it_is_read(
    tmp_path: Path, axes: str, shape: tuple[int, int]
) -> None:
    """Of those that hold something that is selected: others are not missed."""
    rng = np.random.default_rng(9)
    kinds: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
        "matrix": (shape, (13, 8), {}),
        "cube": ((shape[0], 4, shape[1] // 4), (13, 3, 5), {"dim": 0}),
        "alleles": ((*shape, 2), (13, 5, 2), {"sum": -1}),
    }
    lengths, chunks, how = kinds[axes]
    array = zarr.create_array(tmp_path / "a", data=rng.integers(1, 50, lengths, "int32"), chunks=chunks)
    gone = rng.random(array.cdata_shape) < 0.3
    for place in np.argwhere(gone):
        (tmp_path / "a" / array.metadata.encode_chunk_key(tuple(place))).unlink()
    near = np.r_[3:6, 20:24, 30, 31]
    whole, some = slice(None), np.r_[0:2, 9:30]
    for rows, cols in ((slice(5, 33), slice(2, 40)), (near, whole), (some, near), (whole, slice(1, 40, 13))):
        taken = np.zeros(shape, bool)
        taken[np.ix_(np.arange(shape[0])[rows], np.arange(shape[1])[cols])] = True
        entries = np.repeat(taken.reshape(-1), np.prod(lengths) // taken.size).reshape(lengths)
        held = np.unique(np.argwhere(entries) // array.chunks, axis=0)
        wanted = sum(gone[tuple(place)] for place in held)
        options: dict[str, Any] = {"rows": rows, "cols": cols, "missing_chunks": "fill", **how}
        source, plan = open_source(tmp_path / "a", **options), bigsvd.plan(tmp_path / "a", 2, **options)
        for height in (plan.panel_rows, 3):
            ends = [0, -(-plan.rows // height) // 2, -(-plan.rows // height)]
            lanes = tuple(lane for lane in pairwise(ends) if lane[0] < lane[1])
            factors = run(plan.request, source, plan=replace(plan, panel_rows=height, lanes=lanes, sample=()))
            assert factors.info()["filled_chunks"] == wanted


def test_workers_in_other_processes_read_it(client: Client, folder: Path) -> None:
    rows, cols, part, _ = selection("both")
    for data in (folder / "a.zarr", da.from_array(A, chunks=(20, 9)) + 0):
        factors = bigsvd.svd(data, K, rows=rows, cols=cols, client=client, tol=1e-6)
        np.testing.assert_allclose(factors.s, np.linalg.svd(part, compute_uv=False)[:K], rtol=1e-10)


def test_what_is_not_finite_is_named_where_the_data_have_it() -> None:
    bad = A.copy()
    bad[40, 12] = np.inf
    with pytest.raises(NonFiniteError, match="the first at row 40, column 12"):
        bigsvd.svd(bad, K, rows=slice(30, 80), cols=np.arange(2, 20, 2))


def test_the_command_line(tmp_path: Path, folder: Path) -> None:
    out, data = str(tmp_path / "out"), str(folder / "a.zarr")
    np.save(tmp_path / "mask.npy", MASK)

    def said(*arguments: str) -> dict[str, Any]:
        outcome = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        found: dict[str, Any] = json.loads(outcome.stdout)
        return found

    asked = ["-k", "3", "--rows", "10:80:3", "--cols", str(tmp_path / "mask.npy"), "--tol", "1e-6"]
    plan = said("plan", data, *asked)
    assert plan["facts"]["full_shape"] == list(SHAPE)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    said("svd", data, out, *asked, "--quiet")
    part = A[10:80:3][:, MASK]
    info = said("info", out)
    np.testing.assert_allclose(info["s"], np.linalg.svd(part, compute_uv=False)[:K], rtol=1e-9)
    assert (info["shape"], info["full_shape"]) == (list(part.shape), list(SHAPE))
    assert said("verify", out, data)["holds"]
    region = np.array(said("reconstruct", out, "--rows", "80:90", "--cols", ":")["values"], dtype=float)
    assert (region.shape, np.isnan(region).all()) == ((10, 47), True)
    said("svd", data, str(tmp_path / "again"), "--plan", str(tmp_path / "plan.json"), "--quiet")
    np.testing.assert_array_equal(bigsvd.open(tmp_path / "again").s, bigsvd.open(out).s)


def test_other_lines_under_the_same_path_are_other_data(tmp_path: Path, folder: Path) -> None:
    paths = [tmp_path / "ids.npy", tmp_path / "other.npy"]
    fingerprints = []
    for ids in (IDS, IDS[1:]):
        np.save(paths[0], ids)
        fingerprints.append(open_source(folder / "a.zarr", rows=paths[0]).facts.fingerprint)
    assert fingerprints[0] != fingerprints[1] != open_source(folder / "a.zarr").facts.fingerprint


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("5:5", "selects nothing of 90"),
        (np.zeros(90, bool), "selects nothing of 90"),
        (slice(9, 2, -1), "has the step -1"),
        ([1, 2, 1], "selects 1 of them twice"),
        ([0, 90], "selects 90 of 90"),
        ([-91], "selects -91 of 90"),
        (np.ones(89, bool), "has 89 truth values for 90"),
        ([0.5], "not indices"),
        (np.ones((3, 3), bool), r"rows has shape \(3, 3\)"),
    ],
)
def test_what_selects_no_rows_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_source(A, rows=rows)


def test_a_path_that_leads_nowhere_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match="nowhere does not exist"):
        bigsvd.plan(folder / "a.zarr", K, rows=str(folder / "nowhere"))


def test_a_digest_is_not_the_values(folder: Path) -> None:
    request = bigsvd.plan(folder / "a.zarr", K, rows=IDS).request
    assert str(request.rows).startswith("sha256:")
    with pytest.raises(RequestError, match="give the values again as rows="):
        open_source(folder / "a.zarr", **request.reading)


def test_what_follows_each_other_is_read_where_it_lies() -> None:
    source = open_source(A, rows="4:20")
    assert isinstance(source, ShiftedSource)
    assert source.facts.reader == "memory"
    assert np.may_share_memory(source.read(slice(0, 16), slice(0, 47)), A)
    assert isinstance(open_source(A, rows="4:20:2"), SelectedSource)
