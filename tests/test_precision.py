"""Rough products find directions, products in full prove them: nothing certified rests on bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.devices import bfloat16
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import PlanError, RequestError
from bigsvd.events import Event, unheard
from bigsvd.execution.dask_executor import local_client
from bigsvd.facts import NOMINAL, Machine, SourceFacts
from bigsvd.machine import rates as measuring
from bigsvd.methods.stopping import PassBudget
from bigsvd.planning.plan import Plan
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.rounded import RoundedSlab
from bigsvd.slabs.slab import DenseSlab
from bigsvd.slabs.transform import Transform
from bigsvd.solve import run
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests import rough
from tests.spectra import FAMILIES, with_values

FACTS = SourceFacts("d", (1_000_000, 5_000), "float32", (1_000, 5_000), "f", "direct")
HERE = Machine(4 * 10**9, 2, rough_dtypes=("bfloat16",))
REQUEST = Request("d", 50, precision="bfloat16")
FLOPS = {"float32": {64: 6e10}}
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture
def by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rough products by NumPy, whether torch is installed or not."""
    monkeypatch.setattr(bfloat16, "rounded", rough.rounded)
    monkeypatch.setattr(bfloat16, "product", rough.product)
    monkeypatch.setattr(bfloat16, "is_installed", lambda: True)


@pytest.fixture(params=["numpy", pytest.param("torch", marks=needs_torch)])
def by_any(request: pytest.FixtureRequest) -> None:
    """By NumPy, and by torch where it is installed."""
    if request.param == "numpy":
        request.getfixturevalue("by_numpy")


def slow(seed: int = 0) -> np.ndarray:
    """Rows (3000, 200) of which a sample shows the slowly falling values well."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.standard_normal((200, 200)))[0]
    rows = (random.standard_normal((3000, 200)) * np.arange(1, 201) ** -0.5) @ axes
    return np.asarray(rows, np.float32)


def precisions(factors: bigsvd.Factors) -> list[str]:
    found: list[str] = factors.provenance["costs"]["pass_precisions"]
    return found


def check(factors: bigsvd.Factors, A: np.ndarray, given: Any) -> None:
    """What the certificate promises, against LAPACK and by `verify`; and that its last pass was in full."""
    exact, bounds = np.linalg.svd(A, compute_uv=False), np.array(factors.certificate.sigma_bounds)
    sigma = np.asarray(factors.s)
    rounding = 64 * np.finfo(factors.dtype).eps * exact[0]
    assert np.all(np.abs(sigma - exact[: factors.k]) <= bounds * sigma + rounding)
    assert verify(factors, open_source(given), unheard).findings == ()
    assert precisions(factors)[0] == "bfloat16"
    assert precisions(factors)[-1] in ("float32", "float64")


@needs_torch
@pytest.mark.parametrize("order", ["rows", "columns", "backwards", "part", "unwritable", "float64"])
def test_torch_rounds_to_nearest(order: str) -> None:
    A = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32) * np.float32(1e-20)
    given = {
        "rows": A,
        "columns": np.asfortranarray(A),
        "backwards": A[::-1],
        "part": A[:, 3:20],
        "unwritable": np.frombuffer(A.tobytes(), np.float32).reshape(A.shape),
        "float64": A.astype(np.float64),
    }[order]
    found = bfloat16.rounded(given).float().numpy()
    assert np.array_equal(found, rough.rounded(given))
    assert 0 < np.max(np.abs(found / given - 1)) <= 2.0**-8


@needs_torch
def test_torch_multiplies_as_numpy_does_and_keeps_its_threads() -> None:
    torch: Any = pytest.importorskip("torch")
    random, before = np.random.default_rng(1), torch.get_num_threads()
    left, right = (random.standard_normal(shape).astype(np.float32) for shape in ((30, 200), (200, 7)))
    found = bfloat16.product(bfloat16.rounded(left), bfloat16.rounded(right))
    expected = rough.product(rough.rounded(left), rough.rounded(right))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2.0**-7, atol=1e-5)
    assert torch.get_num_threads() == before


def test_a_rounded_slab_multiplies_rounded_entries_and_knows_the_exact_ones(by_any: None) -> None:
    random = np.random.default_rng(2)
    B, Q, Y = (random.standard_normal(shape).astype(np.float32) for shape in ((60, 40), (40, 5), (60, 5)))
    entries = Entries(CpuDevice(), Transform(), B, B.dtype, slice(0, 60), slice(0, 40))
    slab = RoundedSlab(DenseSlab(entries, B), bfloat16.rounded(B))
    R, q, y = rough.rounded(B).astype(float), rough.rounded(Q), rough.rounded(Y)
    near: dict[str, Any] = {"rtol": 2.0**-7, "atol": 1e-4}
    np.testing.assert_allclose(slab.times(Q), R @ q, **near)
    np.testing.assert_allclose(slab.adjoint_times(Y), R.T @ y, **near)
    np.testing.assert_allclose(slab.transposed_adjoint_times(Y), y.T @ R, **near)
    assert np.array_equal(slab.to_array(), B)
    assert np.array_equal(slab.gram(), B.T @ B)
    assert slab.squares() == pytest.approx(float(np.sum(B.astype(float) ** 2)), rel=1e-12)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("by_numpy")
@pytest.mark.parametrize(
    ("family", "scale"),
    [*((name, 1.0) for name in FAMILIES), ("clustered", 1e-30), ("deficient", 1e30), ("huge_row", 1e30)],
)
def test_certificates_hold_on_hard_spectra(family: str, scale: float) -> None:
    A = (FAMILIES[family](np.random.default_rng(3), 300, 150) * scale).astype(np.float32)
    factors = bigsvd.svd(A, 8, precision="bfloat16", seed=1)
    check(factors, A.astype(np.float64), A)
    assert factors.certificate.converged


@pytest.mark.usefixtures("by_numpy")
@pytest.mark.parametrize(
    "options",
    [
        {"center": True},
        {"center": True, "scale": True},
        {"stop": "error", "tol": 1e-3},
        {"stop": "signal"},
        {"tol": 2e-5},
        {"max_passes": 2},
        {"seed": 5},
    ],
    ids=str,
)
def test_certificates_hold_after_a_sample(tmp_path: Path, options: dict[str, Any]) -> None:
    A = slow()
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(50, 200))
    factors = bigsvd.svd(tmp_path / "a.zarr", 5, precision="bfloat16", method="krylov", **options)
    B = A.astype(np.float64) - options.get("center", False) * A.mean(axis=0, dtype=np.float64)
    if options.get("scale"):
        B /= B.std(axis=0)
    assert factors.provenance["plan"]["sample"]
    assert factors.certificate.converged
    check(factors, B, tmp_path / "a.zarr")


@pytest.mark.usefixtures("by_numpy")
def test_one_pass_in_full_does_where_the_sample_resembles_the_data(tmp_path: Path) -> None:
    """As many passes as with products in full alone."""
    zarr.create_array(tmp_path / "a.zarr", data=slow(), chunks=(50, 200))
    found = [
        precisions(bigsvd.svd(tmp_path / "a.zarr", 5, precision=precision, method="krylov"))
        for precision in ("float32", "bfloat16")
    ]
    assert found == [["float32", "float32"], ["bfloat16", "float32"]]


@pytest.mark.usefixtures("by_numpy")
@pytest.mark.parametrize("stopped", ["user", "deadline", "max_passes"])
def test_a_run_that_is_stopped_makes_one_pass_in_full(stopped: str) -> None:
    A = np.random.default_rng(4).standard_normal((600, 300)).astype(np.float32)
    limits: dict[str, Any] = {"deadline": {"deadline": 1e-9}, "max_passes": {"max_passes": 3}}
    source = open_source(A)
    request = Request(source.facts.name, 5, precision="bfloat16", **limits.get(stopped, {}))
    factors = run(request, source, should_stop=lambda: stopped == "user")
    count = 2 if stopped == "max_passes" else 1
    assert precisions(factors) == ["bfloat16"] * count + ["float32"]
    assert not factors.certificate.converged
    check(factors, A.astype(np.float64), A)


def test_a_deadline_leaves_time_for_the_pass_in_full_that_has_to_follow() -> None:
    plan, scratch = SimpleNamespace(max_passes=9), SimpleNamespace(recorded={}.get)
    context = SimpleNamespace(plan=plan, scratch=scratch)
    matrix: Any = SimpleNamespace(passes=1, costs=[SimpleNamespace(seconds=100.0)], context=context)
    budget = PassBudget(matrix, 150.0, lambda: False)
    assert budget.lack("next", 1) is None
    assert budget.lack("next", 2) is not None


class StoppedError(Exception):
    """Ends a run in the middle."""


@pytest.fixture(scope="module")
def alone() -> Iterator[Client]:
    with local_client(1) as active:
        yield active


@pytest.mark.usefixtures("by_numpy")
@pytest.mark.parametrize("last", ["krylov-bfloat16-000", "krylov-float32-001"])
def test_bits_depend_neither_on_workers_nor_on_interruptions(
    tmp_path: Path, client: Client, alone: Client, last: str
) -> None:
    """`last`: the pass during which a run is stopped, to be continued with another number of workers."""
    zarr.create_array(tmp_path / "a.zarr", data=slow(), chunks=(50, 200))
    source = open_source(tmp_path / "a.zarr")
    plan = bigsvd.plan(tmp_path / "a.zarr", 5, precision="bfloat16", method="krylov", memory="500MB")

    def stop(event: Event) -> None:
        if event.kind == "pass" and event["name"] == last:
            raise StoppedError

    def made(name: str, **options: Any) -> bigsvd.Factors:
        return run(replace(plan.request, out=str(tmp_path / name)), source, plan=plan, **options)

    here = made("here")
    with pytest.raises(StoppedError):
        made("there", client=client, progress=stop)
    there = made("there", client=alone)
    assert precisions(here) == precisions(there) == ["bfloat16", "float32"]
    assert np.array_equal(here.s, there.s)
    assert np.array_equal(here.U[:], there.U[:])
    assert np.array_equal(here.Vt[:], there.Vt[:])


@pytest.mark.parametrize(
    ("request_", "facts", "machine", "why"),
    [
        ({}, {"dtype": "float64"}, {}, "float64 entries"),
        ({"tol": 1e-6}, {}, {}, "tol=1e-06"),
        ({}, {}, {"rough_dtypes": ()}, "torch is not installed"),
        (
            {},
            {},
            {"has_own_memory": True, "device": "H200", "device_budget_bytes": 2**36},
            "H200 is to multiply",
        ),
        ({}, {"shape": (10**6, 120), "chunks": (1000, 120)}, {}, r"all columns \(120\)"),
    ],
)
def test_what_cannot_be_had_is_refused_at_the_plan(
    request_: dict[str, Any], facts: dict[str, Any], machine: dict[str, Any], why: str
) -> None:
    """In words that say what to do instead, which then works."""
    request, data, here = replace(REQUEST, **request_), replace(FACTS, **facts), replace(HERE, **machine)
    with pytest.raises(RequestError, match=why) as refused:
        make_plan(request, data, here)
    assert "precision='float32'" in refused.value.remedy
    for precision in ("float32", "auto"):
        assert not make_plan(replace(request, precision=precision), data, here).rough


def test_a_plan_says_where_products_are_rough_and_what_torch_takes() -> None:
    plan = make_plan(REQUEST, FACTS, HERE)
    assert "products in bfloat16, in float32 in the last pass" in str(plan)
    assert plan.memory["torch, once it is imported"] > 2 * 10**8
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(PlanError, match="float16 is no precision"):
        Plan.from_dict(plan.to_dict() | {"rough_dtype": "float16"})


@pytest.mark.parametrize(
    ("flops", "changes", "rough_products"),
    [
        ({"bfloat16": {64: 2e11}}, {}, True),
        ({"bfloat16": {64: 2e11}}, {"stop": "signal"}, True),
        ({"bfloat16": {64: 2e9}}, {}, False),
        ({}, {}, False),
        ({"bfloat16": {64: 2e11}}, {"precision": "float32"}, False),
        ({"bfloat16": {64: 2e11}}, {"stop": "error"}, False),
        ({"bfloat16": {64: 2e11}}, {"stop": "estimate"}, False),
        ({"bfloat16": {64: 2e11}}, {"max_passes": 1}, False),
        ({"bfloat16": {64: 2e11}}, {"tol": 1e-6}, False),
        ({"bfloat16": {64: 2e11}}, {"method": "gram"}, False),
        ({"bfloat16": {64: 2e11}}, {"k": "auto"}, False),
        ({"bfloat16": {64: 2e11}}, {"warm_start": "u"}, False),
    ],
    ids=str,
)
def test_by_default_they_are_rough_only_where_that_was_measured_to_be_faster(
    flops: dict[str, Any], changes: dict[str, Any], *, rough_products: bool
) -> None:
    request = replace(REQUEST, **({"precision": "auto", "method": "krylov"} | changes))
    rates = replace(NOMINAL, read_seconds=1e-10, read_cpu_seconds=1e-10, measured=True, flops=FLOPS | flops)
    rates = replace(rates, flops=rates.flops | {"float64": {64: 3e10}})
    plan = make_plan(request, FACTS, HERE, rates)
    assert plan.rough == rough_products
    assert make_plan(request, FACTS, replace(HERE, rough_dtypes=()), rates).rough is False
    assert make_plan(request, FACTS, HERE, replace(rates, measured=False)).rough is False
    if rough_products:
        assert plan.seconds < make_plan(replace(request, precision="float32"), FACTS, HERE, rates).seconds


@pytest.mark.usefixtures("by_numpy")
@pytest.mark.parametrize("slow_products", [True, False])
def test_few_rows_tell_that_rough_products_take_long(
    monkeypatch: pytest.MonkeyPatch, *, slow_products: bool
) -> None:
    seen: list[int] = []

    def rate(rows: int, cols: int, columns: int) -> float:
        seen.append(rows)
        return 1e9 if slow_products else 1e12

    monkeypatch.setattr(measuring, "_rough_product_rate", rate)
    found = measuring.measure_rough_products(NOMINAL, make_plan(REQUEST, FACTS, HERE))
    assert set(found.flops["bfloat16"].values()) == {1e9 if slow_products else 1e12}
    assert (max(seen) > min(seen)) != slow_products


def test_their_rate_is_measured(by_any: None) -> None:
    plan = make_plan(REQUEST, replace(FACTS, shape=(10**6, 300), chunks=(1000, 300)), HERE)
    found = measuring.measure_rough_products(NOMINAL, plan).flops["bfloat16"]
    assert all(1e6 < rate < 1e14 for rate in found.values())


@pytest.mark.usefixtures("by_numpy")
def test_a_saved_plan_is_refused_where_torch_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    A = with_values(np.random.default_rng(5), np.arange(60.0, 0, -1), 400, 60).astype(np.float32)
    source = open_source(A)
    request = Request(source.facts.name, 2, precision="bfloat16")
    plan = bigsvd.plan(A, 2, precision="bfloat16")
    assert run(request, source, plan=plan).certificate.converged
    monkeypatch.setattr(bfloat16, "is_installed", lambda: False)
    with pytest.raises(PlanError, match="torch is not installed"):
        run(request, source, plan=plan)


@pytest.mark.usefixtures("by_numpy")
def test_a_run_that_turns_to_the_gram_matrix_leaves_rough_products(tmp_path: Path) -> None:
    """Which its plan had, as one by default may have."""
    random = np.random.default_rng(6)
    A = random.standard_normal((3000, 800)) + with_values(random, np.array([900.0, 600.0, 300.0]), 3000, 800)
    source = open_source(zarr.create_array(tmp_path / "a.zarr", data=A.astype(np.float32), chunks=(100, 800)))
    plan = replace(bigsvd.plan(source, 10), rough_dtype="bfloat16")
    factors = run(plan.request, source, plan=plan)
    assert factors.provenance["plan"]["method"] == "gram"
    assert factors.provenance["plan"]["rough_dtype"] == "float32"
    assert precisions(factors) == ["float32", "float32"]
    assert factors.certificate.converged


@needs_torch
def test_torch_gives_what_numpy_gives_up_to_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same passes, and certified values that differ by no more than the certificates say."""
    zarr.create_array(tmp_path / "a.zarr", data=slow(), chunks=(50, 200))
    by_torch = bigsvd.svd(tmp_path / "a.zarr", 5, precision="bfloat16", method="krylov")
    check(by_torch, slow().astype(np.float64), tmp_path / "a.zarr")
    monkeypatch.setattr(bfloat16, "rounded", rough.rounded)
    monkeypatch.setattr(bfloat16, "product", rough.product)
    other = bigsvd.svd(tmp_path / "a.zarr", 5, precision="bfloat16", method="krylov")
    assert precisions(by_torch) == precisions(other)
    np.testing.assert_allclose(by_torch.s, other.s, rtol=1e-4)
