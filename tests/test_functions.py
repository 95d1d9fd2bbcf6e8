"""Functions by name: what is decomposed is f(A), held against LAPACK on f(A) as NumPy forms it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.devices.base import Device
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import NonFiniteError, RequestError
from bigsvd.events import Event, unheard
from bigsvd.execution.placement import nominal_plan
from bigsvd.functions import Functions
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.second_opinion import Opinion
from bigsvd.slabs.transform import Transform
from bigsvd.solve import make_request, run
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.devices import StrictDevice
from tests.test_given import assert_is_of, typed
from tests.test_resume import StoppedError, stop_at

K = 3
CELLS = ("normalize_total:1e4", "log1p")
GAP = -9


def counts(shape: tuple[int, int], dtype: str = "int32", seed: int = 0) -> np.ndarray:
    """Counts of three kinds of cells, one of them empty."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.5, 2, (shape[0], 3)) @ rng.gamma(0.5, 2, (3, shape[1]))
    found = rng.poisson(rates)
    found[3] = 0
    return found.astype(dtype)


def of_cells(A: np.ndarray, gaps: np.ndarray | None = None) -> np.ndarray:
    """log(1 + 10⁴·share of the row), by NumPy; NaN in gaps."""
    A = np.where(np.zeros(A.shape, bool) if gaps is None else gaps, np.nan, A.astype(float))
    totals = np.nansum(A, axis=1, keepdims=True)
    return np.asarray(np.log1p(A / np.where(totals == 0, 1, totals) * 1e4))


def standardised(B: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Gaps at the mean or at 0, then centred and scaled as the options say."""
    if options.get("missing") == "mean":
        B = np.where(np.isnan(B), np.nanmean(B, axis=0), B)
    B = np.nan_to_num(B)
    deviation = np.where(B.std(axis=0) > 1e-12, B.std(axis=0), 1)
    B = B - B.mean(axis=0) if options.get("center") else B
    return B / deviation if options.get("scale") else B


@pytest.mark.filterwarnings("ignore:.*constant")
@pytest.mark.parametrize("method", ["krylov", "gram", "tall_skinny"])
@pytest.mark.parametrize("shape", [(200, 40), (40, 200)], ids=["tall", "wide"])
@pytest.mark.parametrize(("dtype", "samples"), [("int32", "rows"), ("float32", "columns")])
@pytest.mark.parametrize("gapped", [False, True], ids=["whole", "gaps"])
def test_normalised_counts_are_those_of_numpy(
    method: str, shape: tuple[int, int], dtype: str, samples: str, gapped: bool
) -> None:
    A = counts(shape, dtype)
    gaps = (np.random.default_rng(1).random(shape) < 0.1) & gapped
    stored = np.where(gaps, GAP, A).astype(dtype)
    turned = samples == "columns"
    B = of_cells(A.T, gaps.T).T if turned else of_cells(A, gaps)
    kinds: list[dict[str, Any]] = [{}, {"center": True}, {"center": True, "scale": True}]
    for number, options in enumerate(kinds):
        if gapped:
            options |= {"missing": ("zero", "mean", "mean")[number], "missing_value": GAP}
        factors = bigsvd.svd(stored, K, method=method, samples=samples, functions=CELLS, tol=1e-4, **options)
        wanted = standardised(B.T, options).T if turned else standardised(B, options)
        assert_is_of(factors, wanted)
        assert factors.info()["functions"] == ["normalize_total:10000", "log1p"]
        assert verify(factors, open_source(stored, samples=samples), unheard).findings == ()


EACH: list[tuple[Any, Any]] = [
    ("log1p", np.log1p),
    ("sqrt", np.sqrt),
    ("asinh", np.arcsinh),
    ("anscombe", lambda x: 2 * np.sqrt(x + 3 / 8)),
    ("clip:2", lambda x: np.minimum(x, 2)),
    (["clip:-1:2.5"], lambda x: np.clip(x, -1, 2.5)),
    ("binarize:1", lambda x: (x > 1) + 0.0),
    ("sqrt,clip:1.5,asinh", lambda x: np.arcsinh(np.minimum(np.sqrt(x), 1.5))),
    (
        ["sqrt", "normalize_total:7"],
        lambda x: 7 * np.sqrt(x) / np.maximum(np.sqrt(x).sum(axis=1, keepdims=True), 1e-300),
    ),
]


@pytest.mark.parametrize(("functions", "by_numpy"), EACH, ids=[str(each) for each, _ in EACH])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_each_function_is_what_its_name_says(functions: Any, by_numpy: Any, dtype: str) -> None:
    A = counts((120, 30), dtype)
    factors = bigsvd.svd(A, K, functions=functions, center=True, tol=1e-4)
    B = by_numpy(A.astype(float))
    assert_is_of(factors, B - B.mean(axis=0))
    np.testing.assert_allclose(factors.mean, B.mean(axis=0), rtol=1e-12)


def test_new_cells_are_projected_and_f_of_them_is_reconstructed() -> None:
    A = counts((60, 20))
    factors = bigsvd.svd(A, 20, functions=CELLS, center=True, tol=1e-8)
    np.testing.assert_allclose(factors.project(A), factors.scores, atol=1e-9)
    np.testing.assert_allclose(factors.project(A[5]), factors.scores[5], atol=1e-9)
    np.testing.assert_allclose(np.asarray(factors), of_cells(A), atol=1e-9)
    turned = bigsvd.svd(A.T, 20, samples="columns", functions=CELLS, center=True, tol=1e-8)
    np.testing.assert_allclose(turned.project(A.T), turned.scores, atol=1e-9)


@pytest.mark.parametrize("functions", [["normalize_total:1e4", "log1p"], ["sqrt", "normalize_total:2"]])
@pytest.mark.parametrize("device", [CpuDevice(), StrictDevice()], ids=["cpu", "strict"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("missing", ["none", "zero"])
def test_entries_of_any_device_and_axis_know_their_totals(
    functions: list[str], device: Device, axis: int, missing: Any
) -> None:
    A = counts((17, 12), "float32")
    transform = Transform(missing=missing, sentinels=(2.0,), axis=axis, functions=Functions.of(functions))
    x = np.where((A == 2) & (missing != "none"), 0, A).astype(float)
    x = np.sqrt(x) if functions[0] == "sqrt" else x
    totals = x.sum(axis=1)
    x = x / np.where(totals == 0, 1, totals)[:, np.newaxis]
    wanted = np.log1p(1e4 * x) if functions[-1] == "log1p" else 2 * x
    raw, known = (A, None) if axis == 1 else (np.ascontiguousarray(A.T), totals)
    rows, cols = (slice(0, length) for length in raw.shape)
    entries = Entries(device, transform, device.to_device(raw), A.dtype, rows, cols, known)
    found = np.zeros(raw.shape)
    for piece in entries.pieces():
        found[piece.rows, piece.cols] = device.to_host(piece.values)
    np.testing.assert_allclose(found if axis == 1 else found.T, wanted, rtol=1e-13)
    opinion = Opinion.of(range(12), A, np.zeros(12, int), transform, entries.totals)
    np.testing.assert_allclose(opinion.mean[1:], wanted.mean(axis=0)[1:], rtol=1e-13)


@pytest.mark.parametrize("shape", [(400, 60), (60, 400)], ids=["tall", "wide"])
def test_tiles_and_a_sample_know_the_totals_of_whole_samples(tmp_path: Path, shape: tuple[int, int]) -> None:
    A = counts(shape, "float32")
    zarr.create_array(tmp_path / "a", data=A, chunks=(10, 15))
    source = open_source(tmp_path / "a")
    options: dict[str, Any] = {"functions": CELLS, "center": True, "scale": True}
    request = make_request(source, K, None, method="krylov", tol=1e-4, **options)
    plan = nominal_plan(request, source.facts)
    tiled = replace(plan, tile_cols=30, reads_per_pass=3 if plan.transposed else 2, sample=())
    sampled = replace(plan, panel_rows=10, lanes=((0, 20), (20, 40)), sample=tuple(range(0, 40, 2)))
    assert tiled.sums_apart
    assert sampled.sums_apart == plan.transposed
    assert ("one more read" in str(sampled)) == plan.transposed
    for changed in (tiled, sampled):
        assert_is_of(run(request, source, plan=changed), standardised(of_cells(A), options))


def stop_after_totals(event: Event) -> None:
    """End the run when the first pass after that for totals begins."""
    if event.kind == "pass" and event["name"].endswith("-000"):
        raise StoppedError


@pytest.mark.parametrize("shape", [(300, 80), (80, 300)], ids=["tall", "wide"])
@pytest.mark.parametrize("stop", [stop_after_totals, stop_at("pass", 1)], ids=["totals", "first"])
def test_the_bits_hang_on_no_worker_and_on_no_interruption(
    client: Client, tmp_path: Path, shape: tuple[int, int], stop: Any
) -> None:
    zarr.create_array(tmp_path / "a", data=counts(shape), chunks=(20, 20))
    source = open_source(tmp_path / "a")
    options: dict[str, Any] = {"functions": CELLS, "center": True, "scale": True, "tol": 1e-6}
    request = make_request(source, K, str(tmp_path / "u"), method="krylov", **options)
    plan = replace(nominal_plan(request, source.facts), panel_rows=20, lanes=((0, 8), (8, 15)), sample=())
    whole = run(replace(request, out=str(tmp_path / "v")), source, plan=plan)
    with pytest.raises(StoppedError):
        run(request, source, plan=plan, client=client, progress=stop)
    resumed = run(request, source, plan=plan, client=client)
    for name in ("U", "s", "Vt", "mean", "scale"):
        np.testing.assert_array_equal(getattr(resumed, name)[:], getattr(whole, name)[:])


def test_samples_of_some_features_have_no_totals_whatever_says_what_the_samples_are() -> None:
    A = counts((40, 60), "float32") + 1
    for reading, name in (({"dim": 1}, "rows"), ({"samples": "columns"}, "rows"), ({}, "cols")):
        options: dict[str, Any] = {"functions": "normalize_total:100", **reading}
        refused: dict[str, Any] = options | {name: slice(0, 10)}
        with pytest.raises(RequestError, match=f"with {name}='0:10', by which samples have only some"):
            bigsvd.svd(A, 3, **refused)
        options |= {"tol": 1e-6, {"rows": "cols", "cols": "rows"}[name]: slice(0, 30)}
        some = bigsvd.svd(A, 3, **options)
        part = A[:, :30].T if name == "rows" else A[:30]
        wide = 100 * part.astype(float) / part.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(some.s, np.linalg.svd(wide, compute_uv=False)[:3], rtol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")  # one pass is too few
@pytest.mark.parametrize(("shape", "apart"), [((60, 900), 1), ((900, 60), 0)])
def test_a_plan_expects_the_pass_that_sums_samples(shape: tuple[int, int], apart: int) -> None:
    """Where rows are streamed whole it takes none."""
    A = counts(shape, "float32")
    options: dict[str, Any] = {"method": "krylov"}
    plain = bigsvd.plan(A, 3, functions="log1p", **options)
    plan = bigsvd.plan(A, 3, functions="normalize_total:100,log1p", **options)
    assert plan.sums_apart == bool(apart)
    assert plan.expected_passes == plain.expected_passes + apart
    assert (plan.seconds > plain.seconds) == bool(apart)
    made = bigsvd.svd(A, 3, functions="normalize_total:100,log1p", max_passes=1, **options)
    assert made.provenance["costs"]["passes"] == 1 + apart


def test_a_request_and_a_plan_are_json_and_write_a_function_in_one_way() -> None:
    request = Request("a", 3, functions=" normalize_total:1e4 ,log1p")  # type: ignore[arg-type]
    assert request.functions == ("normalize_total:10000", "log1p")
    assert Request.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    assert request.problem() != replace(request, functions=("log1p",)).problem()
    plan = bigsvd.plan(counts((50, 20)), K, functions=list(CELLS))
    assert Plan.from_json(plan.to_json()) == plan
    assert "functions     normalize_total:10000, log1p; what is reconstructed is f(A)\n" in str(plan)
    assert Request("a", 3, functions=None).functions == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("functions", "keeps"),
    [
        ("normalize_total:1e4,log1p,sqrt,asinh", True),
        ("clip:10", True), ("clip:-1:1", True), ("clip:1:2", False), ("clip:-1", False),
        ("binarize:0", True), ("binarize:-1", False), ("anscombe", False), ("log1p,anscombe", False),
    ],
)  # fmt: skip
def test_what_keeps_zeros_says_so(functions: str, keeps: bool) -> None:
    known = Functions.of(functions.split(","))
    assert known.keeps_zeros == keeps
    found = known.apply(np, np.zeros((2, 2)), np.zeros((2, 1)))
    assert np.all(found == 0) == keeps


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        ("exp", "functions='exp' is not known"),
        ("log1p:2", "write it as log1p"),
        ("clip", "write it as clip:MAX or clip:MIN:MAX"),
        ("clip:2:1", "write it as clip:MAX or clip:MIN:MAX"),
        ("clip:nan", "write it as clip"),
        ("binarize:x", "write it as binarize:THRESHOLD"),
        ("normalize_total", "write it as normalize_total:TARGET"),
        ("normalize_total:0", "write it as normalize_total:TARGET"),
        ("normalize_total:1,normalize_total:1", "normalize_total twice"),
        (7, "are not names"),
        ([np.log1p], "are not names"),
    ],
)
def test_what_is_no_function_is_refused(functions: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Request("a", 3, functions=functions)


@pytest.mark.parametrize("function", ["sqrt", "log1p", "anscombe", "normalize_total:1"])
@pytest.mark.parametrize("shape", [(60, 20), (20, 60)], ids=["tall", "wide"])
def test_a_number_without_a_value_is_refused_where_it_is(function: str, shape: tuple[int, int]) -> None:
    A = counts(shape, "float32")
    A[4, 5] = -3
    with pytest.raises(NonFiniteError, match=rf"1 NaN.*row 4, column 5, after {function} \({function[:4]}"):
        bigsvd.svd(A, 2, functions=function)
    A[4, 5], A[7, 1] = np.nan, np.inf
    with pytest.raises(NonFiniteError, match="row 4, column 5"):
        bigsvd.svd(A, 2, functions=function)
    with pytest.raises(NonFiniteError, match="has 1 NaN"):
        bigsvd.svd(A, 2, functions=["binarize:0"])


@pytest.mark.parametrize(
    "functions", ["clip:2", "clip:-1:2", "binarize:1", "sqrt,clip:2", "log1p,binarize:0"]
)
@pytest.mark.parametrize("shape", [(60, 20), (20, 60)], ids=["tall", "wide"])
@pytest.mark.parametrize("center", [False, True])
def test_no_function_makes_a_number_of_an_infinity(
    functions: str, shape: tuple[int, int], *, center: bool
) -> None:
    A = counts(shape, "float32")
    A[4, 5] = np.inf
    with pytest.raises(
        NonFiniteError, match=r"0 NaN, 1 \+Inf and 0 -Inf, the first at row 4, column 5, after"
    ):
        bigsvd.svd(A, 2, functions=functions, center=center)
    A[4, 5] = -np.inf
    with pytest.raises(NonFiniteError, match="the first at row 4, column 5, after"):
        bigsvd.svd(A, 2, functions=functions, center=center)
    A[4, 5] = -1
    if functions.startswith("log1p"):  # which makes an infinity of it
        with pytest.raises(NonFiniteError, match=r"1 -Inf, .*log1p of numbers of -1 or less give such"):
            bigsvd.svd(A, 2, functions=functions, center=center)


@pytest.mark.parametrize("functions", [list(CELLS), ["anscombe", "normalize_total:50"]])
@pytest.mark.parametrize("samples", ["rows", "columns"])
@pytest.mark.parametrize("options", [{"center": True}, {}, {"missing": "zero"}], ids=str)
def test_new_cells_have_totals_over_the_features_of_the_run(
    functions: list[str], samples: str, options: dict[str, Any]
) -> None:
    """What the data have nothing of, and what is missing, add to no total, whatever new cells have there."""
    A, turned = counts((60, 20), "float64"), samples == "columns"
    A[:, [2, 11]] = np.nan
    if options.get("missing"):
        A[5, 7] = np.nan

    def given(values: np.ndarray) -> np.ndarray:
        return values.T if turned else values

    factors = bigsvd.svd(given(A), 15, functions=functions, samples=samples, tol=1e-8, **options)
    np.testing.assert_allclose(factors.project(given(A)), factors.scores, atol=1e-9)
    if not options.get("missing"):  # else they are zeros, and counted
        new = np.where(np.isin(np.arange(20), [2, 11]), 1e3, A)
        np.testing.assert_allclose(factors.project(given(new)), factors.scores, atol=1e-9)
        np.testing.assert_allclose(factors.project(new[7]), factors.scores[7], atol=1e-9)


def test_from_the_command_line(tmp_path: Path) -> None:
    A = counts((60, 25))
    zarr.create_array(tmp_path / "a", data=A, chunks=(20, 10))
    options = ["-k", 3, "--tol", 1e-5, "--center", "--functions", "normalize_total:1e4,log1p"]
    assert typed("svd", tmp_path / "a", tmp_path / "u", *options, "--quiet")[0] == 0
    assert_is_of(bigsvd.open(tmp_path / "u"), standardised(of_cells(A), {"center": True}))
    assert typed("verify", tmp_path / "u", tmp_path / "a")[0] == 0
    assert (
        "functions     normalize_total:10000, log1p; what is reconstructed is f(A)"
        in typed("info", tmp_path / "u")[1]
    )
    options[-1:] = ["normalize_total:1e4", "--functions", "log1p"]
    assert typed("svd", tmp_path / "a", tmp_path / "twice", *options, "--quiet")[0] == 0
    np.testing.assert_array_equal(bigsvd.open(tmp_path / "twice").s, bigsvd.open(tmp_path / "u").s)
    code, said = typed("svd", tmp_path / "a", tmp_path / "v", "-k", 3, "--functions", "exp")
    assert (code, "use some of normalize_total, log1p" in said) == (2, True)


def test_totals_are_of_all_features_where_some_are_chosen_by_weights() -> None:
    A, chosen = counts((80, 30)), np.arange(30) % 3 == 0
    with pytest.raises(RequestError, match="leave cols out, and use weights of 1 and 0 instead"):
        bigsvd.svd(A, K, functions=CELLS, cols=chosen)
    with pytest.raises(RequestError, match="leave rows out, and use weights of 1 and 0 instead"):
        bigsvd.svd(A.T, K, functions=CELLS, rows=chosen, samples="columns")
    factors = bigsvd.svd(A, K, functions=CELLS, center=True, weights=chosen + 0.0, tol=1e-6)
    B = of_cells(A) * chosen
    assert_is_of(factors, B - B.mean(axis=0))
    some = bigsvd.svd(A, K, functions=CELLS, center=True, rows=slice(10, 60), tol=1e-6)
    B = of_cells(A)[10:60]
    np.testing.assert_allclose(some.s, np.linalg.svd(B - B.mean(axis=0), compute_uv=False)[:K], rtol=1e-6)


@pytest.mark.parametrize("samples", ["rows", "columns"])
def test_totals_that_float64_does_not_hold_are_refused(samples: str) -> None:
    A = (1 + np.random.default_rng(0).random((6, 5))) * 8e307
    with pytest.raises(NonFiniteError, match="totals beyond float64"):
        bigsvd.svd(A, 2, functions="normalize_total:100", samples=samples)
