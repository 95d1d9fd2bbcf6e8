"""Samples along either axis of a matrix: the same answer, and everything that follows it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import BigsvdError, FactorStoreError, NonFiniteError, RequestError
from bigsvd.events import PassEnded, unheard
from bigsvd.execution.dask_executor import local_client
from bigsvd.request import Request
from bigsvd.results.factors import Factors
from bigsvd.solve import run
from bigsvd.sources.open import open_source
from bigsvd.sources.oriented import OtherwiseOriented
from bigsvd.verify import verify
from tests.laws import SourceLaws

TALL, WIDE = (400, 30), (30, 400)
K = 3


def matrix(shape: tuple[int, int], gaps: float = 0.0) -> np.ndarray:
    """Samples (m) × features (n) with leading directions, distinct means and, where asked for, NaN."""
    rng = np.random.default_rng(3)
    m, n = shape
    leading = rng.standard_normal((m, K)) * [9.0, 6.0, 4.0]
    A = leading @ rng.standard_normal((K, n)) + rng.standard_normal(shape) + 10 * rng.standard_normal(n)
    A[rng.random(shape) < gaps] = np.nan
    return A


class TestOtherwiseOriented(SourceLaws):
    """A matrix whose columns are the samples."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> OtherwiseOriented:
        zarr.create_array(tmp_path / "a.zarr", data=matrix(TALL), chunks=(50, 7))
        return OtherwiseOriented(open_source(tmp_path / "a.zarr"))

    @pytest.fixture
    def entries(self) -> np.ndarray:
        return matrix(TALL)


def both_ways(tmp_path: Path, A: np.ndarray, **options: Any) -> tuple[Factors, Factors]:
    """The factors of A with rows as samples, and of Aᵀ with columns."""
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(50, 20))
    zarr.create_array(tmp_path / "t.zarr", data=A.T.copy(), chunks=(20, 50))
    given = {"tol": 1e-6} | options
    by_rows = bigsvd.svd(tmp_path / "a.zarr", K, tmp_path / "a", **given)
    by_columns = bigsvd.svd(tmp_path / "t.zarr", K, tmp_path / "t", samples="columns", **given)
    return by_rows, by_columns


@pytest.mark.parametrize(
    "options",
    [{}, {"center": True}, {"center": True, "scale": True}, {"scale": True, "missing": "mean"}],
    ids=["plain", "centred", "standardised", "filled"],
)
@pytest.mark.parametrize("method", ["krylov", "gram"])
@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
def test_columns_as_samples_are_rows_of_the_transpose(
    tmp_path: Path, shape: tuple[int, int], method: str, options: dict[str, Any]
) -> None:
    A = matrix(shape, gaps=0.02 if "missing" in options else 0.0)
    f, g = both_ways(tmp_path, A, method=method, **options)
    assert (f.shape, g.shape) == (shape, shape[::-1])
    np.testing.assert_allclose(f.s, g.s, rtol=1e-12)
    np.testing.assert_allclose(f.components, g.components, atol=1e-9)
    np.testing.assert_allclose(f.scores, g.scores, atol=1e-7)
    np.testing.assert_allclose(f[:], g[:].T, atol=1e-8)
    assert np.all(np.max(g.components, axis=1) == np.max(np.abs(g.components), axis=1))
    for one, other in ((f.mean, g.mean), (f.scale, g.scale)):
        assert (one is None) == (other is None)
        assert one is None or np.allclose(one, other, rtol=1e-12)
    assert f.certificate.relative_error == pytest.approx(g.certificate.relative_error, rel=1e-12)
    assert f.certificate.counts.missing == g.certificate.counts.missing == np.isnan(A).sum()  # type: ignore[union-attr]
    new = np.nan_to_num(A[:5])
    np.testing.assert_allclose(f.project(new), g.project(new.T), atol=1e-7)
    np.testing.assert_allclose(f.project(new[2]), g.project(new[2]), atol=1e-7)
    source = open_source(tmp_path / "t.zarr", samples="columns", missing=options.get("missing", "none"))
    assert verify(g, source, lambda _: None).findings == ()
    assert g.truncate(2).components.shape == (2, shape[1])


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
def test_given_vectors_are_of_features_and_samples(tmp_path: Path, shape: tuple[int, int]) -> None:
    m, n = shape
    rng = np.random.default_rng(5)
    weights, offset, row_weights = rng.uniform(0.5, 2, n), rng.standard_normal(n), rng.uniform(0.5, 2, m)
    given: dict[str, Any] = {"offset": offset, "weights": weights, "row_weights": row_weights}
    f, g = both_ways(tmp_path, matrix(shape), **given)
    np.testing.assert_allclose(f.s, g.s, rtol=1e-12)
    np.testing.assert_allclose(f[:], g[:].T, atol=1e-8)
    np.testing.assert_allclose(f.project(matrix(shape)[:3]), g.project(matrix(shape)[:3].T), atol=1e-7)
    assert verify(g, open_source(tmp_path / "t.zarr", samples="columns"), lambda _: None).findings == ()
    with pytest.raises(RequestError, match=f"row_weights has {m} values for {n} rows; give one for each"):
        bigsvd.plan(matrix(shape).T, K, row_weights=row_weights)


@pytest.mark.parametrize("method", ["tall_skinny", "compressed"])
def test_methods_of_dask_have_it_too(client: Client, method: str) -> None:
    A = matrix((120, 90))
    B = (A - A.mean(axis=0)) / A.std(axis=0)
    _, s, Vt = np.linalg.svd(B)
    options: dict[str, Any] = {"center": True, "scale": True, "method": method, "client": client}
    factors = bigsvd.svd(A.T, K, samples="columns", tol=0.5, **options)
    np.testing.assert_allclose(factors.s, s[:K], rtol=5e-3)
    assert np.all(np.max(factors.components, axis=1) == np.max(np.abs(factors.components), axis=1))
    np.testing.assert_allclose(np.abs(factors.components), np.abs(Vt[:K]), atol=0.1)


def test_a_dimension_may_name_the_samples(tmp_path: Path) -> None:
    A = matrix(TALL)
    names = {"dimension_names": ("variants", "people")}
    zarr.create_array(tmp_path / "a.zarr", data=A.T.copy(), chunks=(10, 50), **names)  # type: ignore[arg-type]
    old: dict[str, Any] = {"_ARRAY_DIMENSIONS": ["variants", "people"]}
    zarr.create_array(tmp_path / "b.zarr", data=A.T.copy(), chunks=(10, 50), zarr_format=2, attributes=old)
    centred = np.linalg.svd(A - A.mean(axis=0), compute_uv=False)[:K]
    for name in ("a.zarr", "b.zarr"):
        factors = bigsvd.svd(tmp_path / name, K, center=True, samples="people", tol=1e-6)
        np.testing.assert_allclose(factors.s, centred, rtol=1e-10)
        with pytest.raises(RequestError, match=r"has no axis .snps.; .* give variants or people"):
            bigsvd.plan(tmp_path / name, K, samples="snps")


def test_the_command_line_has_it_everywhere(tmp_path: Path) -> None:
    A = matrix(TALL)
    data, out = str(tmp_path / "a.zarr"), str(tmp_path / "out")
    zarr.create_array(data, data=A.T.copy(), chunks=(10, 50))
    asked = ["-k", "3", "--center", "--samples", "columns", "--tol", "1e-6"]

    def said(*arguments: str) -> dict[str, Any]:
        outcome = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        found: dict[str, Any] = json.loads(outcome.stdout)
        return found

    plan = said("plan", data, *asked)
    assert (plan["request"]["samples"], plan["facts"]["samples_axis"]) == ("columns", 1)
    said("svd", data, out, *asked, "--quiet")
    info = said("info", out)
    np.testing.assert_allclose(info["s"], np.linalg.svd(A - A.mean(axis=0), compute_uv=False)[:K], rtol=1e-9)
    assert (info["samples"], info["shape"]) == ("columns", [30, 400])
    assert said("verify", out, data)["holds"]
    region = said("reconstruct", out, "--rows", "0:30", "--cols", "3:5")["values"]
    np.testing.assert_allclose(region, bigsvd.open(out)[:, 3:5])
    assert np.allclose(region, A.T[:, 3:5], atol=6)  # the means are those of rows


def test_a_plan_and_a_request_keep_it() -> None:
    plan = bigsvd.plan(matrix(TALL), K, samples="columns", center=True)
    assert type(plan).from_json(plan.to_json()) == plan
    assert Request.from_dict(plan.request.to_dict()).samples == "columns"
    with pytest.raises(RequestError, match="samples=7"):
        Request("d", 3, samples=7)  # type: ignore[arg-type]


def test_what_is_not_finite_is_named_by_row_and_column() -> None:
    A = matrix(TALL)
    A[123, 7] = np.nan
    for shown, samples, place in ((A, "rows", "row 123, column 7"), (A.T, "columns", "row 7, column 123")):
        with pytest.raises(NonFiniteError, match=f"1 NaN, .* the first at {place}"):
            bigsvd.svd(shown, K, samples=samples)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_constant_features_are_called_what_they_are() -> None:
    A = matrix(TALL)
    A[:, 4] = 2.5
    factors = bigsvd.svd(A.T, K, samples="columns", center=True, scale=True)
    assert "1 constant row(s) were scaled by 1" in factors.certificate.warnings
    assert "1 constant row(s): 4" in str(factors.certificate)


def test_the_data_of_a_check_have_the_same_samples(tmp_path: Path) -> None:
    A = matrix(TALL)
    factors = bigsvd.svd(A, K, samples="columns")
    with pytest.raises(FactorStoreError, match=r"have columns as samples, .* has rows"):
        verify(factors, open_source(A), lambda _: None)
    with pytest.raises(RequestError, match=r"do not have 400 features; give \(400, r\) or \(400,\)"):
        factors.project(np.zeros((30, 2)))


def test_factors_of_other_samples_are_a_start(tmp_path: Path) -> None:
    """Their means are of other lines, and are not taken for those of the features."""
    A = matrix((300, 300))
    bigsvd.svd(A, K, tmp_path / "f", center=True)
    options: dict[str, Any] = {"center": True, "samples": "columns", "tol": 1e-6}
    warm = bigsvd.svd(A, K, warm_start=tmp_path / "f", **options)
    exact = np.linalg.svd(A - A.mean(axis=1)[:, None], compute_uv=False)[:K]
    np.testing.assert_allclose(warm.s, exact, rtol=1e-9)


@pytest.mark.parametrize(
    ("shape", "chunks", "reading"),
    [
        ((60, 3_000), (20, 100), {"samples": "columns"}),
        ((6, 3_000, 10), (3, 100, 10), {"dim": 1}),
        ((3_600, 90), (100, 30), {"rows": "::2", "cols": "20:80"}),
    ],
    ids=["columns", "stacked", "selected"],
)
def test_the_bits_are_those_of_any_number_of_workers(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], reading: dict[str, Any]
) -> None:
    """And those of a run that was stopped and resumed."""
    zarr.create_array(tmp_path / "a.zarr", data=matrix((3_600, 90)).ravel()[: np.prod(shape)].reshape(shape),
                      chunks=chunks)  # fmt: skip
    plan = bigsvd.plan(tmp_path / "a.zarr", K, center=True, method="krylov", tol=1e-8, **reading)
    found = []
    for threads in (1, 2):
        with local_client(threads) as client:
            found.append(_run(tmp_path / f"out-{threads}", plan, client))
    for stop in (True, False):
        with local_client(2) as client:
            try:
                found.append(_run(tmp_path / "out-3", plan, client, fail=stop))
            except BigsvdError:
                assert stop
    assert len(found) == 3
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].U[:], other.U[:])
        np.testing.assert_array_equal(found[0].Vt[:], other.Vt[:])
        np.testing.assert_array_equal(found[0].mean, other.mean)


def _run(out: Path, plan: Any, client: Client, *, fail: bool = False) -> Factors:
    def stop(event: Any) -> None:
        if isinstance(event, PassEnded) and not event.sample:
            raise BigsvdError("stopped", "go on")

    request = replace(plan.request, out=str(out))
    source = open_source(plan.request.source, **plan.request.reading)
    return run(request, source, plan=plan, client=client, progress=stop if fail else unheard)
