"""A device with a memory of its own, end to end without a GPU: a fake one of strict arrays, and tiny memory.

What needs a real one is marked `gpu`.
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.devices.base import Device
from bigsvd.devices.choose import choose_device
from bigsvd.devices.cpu import CpuDevice
from bigsvd.devices.cuda import CupyDevice
from bigsvd.errors import DeviceError, MemoryBudgetError, PlanError
from bigsvd.events import Certified, Event, LaneRepeated, PassEnded, PassStarted
from bigsvd.execution import placement
from bigsvd.execution.cluster import workers_of
from bigsvd.execution.lane import LaneRun
from bigsvd.facts import Machine
from bigsvd.machine import offers as machine
from bigsvd.machine import rates
from bigsvd.planning.plan import Plan
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request
from bigsvd.results import factors as factors_module
from bigsvd.solve import run
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.clusters import own_cluster, worker_processes
from tests.devices import LEDGERS, ApartDevice, Ledger

M, N, K = 1500, 120, 6
_RNG = np.random.default_rng(0)
A = _RNG.standard_normal((M, N)) @ np.diag(0.97 ** np.arange(N)) + 0.3


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """What the fake device of this test holds."""
    name = uuid.uuid4().hex
    LEDGERS[name] = Ledger()
    yield LEDGERS[name]
    del LEDGERS[name]


@pytest.fixture
def fake(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> ApartDevice:
    """A fake GPU that every process of the test finds."""
    device = ApartDevice(ledger=next(name for name, value in LEDGERS.items() if value is ledger))
    offer(monkeypatch, device)
    monkeypatch.setattr(placement, "_WORTH_A_LOOK_SECONDS", float("inf"))
    return device


def offer(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    def chosen(asked: str) -> tuple[Device, str]:
        return (CpuDevice(), "asked for") if asked == "cpu" else (device, "the fake one is usable")

    monkeypatch.setattr(machine, "choose_device", chosen)
    monkeypatch.setattr(factors_module, "choose_device", chosen)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, values in {
        "tall": A,
        "wide": A.T,
        "int8": np.round(20 * A).clip(-100, 100).astype(np.int8),
        "single": A.astype(np.float32),
    }.items():
        chunks = (100, N) if name != "wide" else (N, 100)
        zarr.create_array(folder / name, data=np.ascontiguousarray(values), chunks=chunks)
    return folder


def plan_of(factors: bigsvd.Factors) -> Plan:
    return Plan.from_dict(factors.provenance["plan"])


CASES: dict[str, dict[str, Any]] = {
    "krylov": {},
    "gram": {"method": "gram"},
    "centred": {"center": True, "scale": True},
    "filled": {"center": True, "missing": "mean", "missing_value": 0.0},
}


@pytest.mark.filterwarnings("ignore:no entry equals missing_value")  # only the int8 data have zeros
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", ["tall", "wide", "int8", "single"])
def test_the_same_values_as_on_the_cpu(
    data: Path, fake: ApartDevice, ledger: Ledger, name: str, options: dict[str, Any]
) -> None:
    defaults: dict[str, Any] = {"method": "krylov", "tol": 1e-6 if name != "single" else 1e-4}
    options = defaults | options
    there = bigsvd.svd(data / name, K, device="gpu", memory="300MB", **options)
    here = bigsvd.svd(data / name, K, device="cpu", memory="300MB", **options)
    assert plan_of(there).device == "fake GPU"
    assert plan_of(here).device == "cpu"
    assert ledger.sent
    assert ledger.seen_limits == {plan_of(there).device_bytes}
    assert not ledger.limits  # the run is over
    tolerance = 1e-12 if plan_of(there).compute_dtype == "float64" else 1e-5
    np.testing.assert_allclose(there.s, here.s, rtol=tolerance)
    assert there.certificate.converged
    assert there.certificate.relative_error == pytest.approx(here.certificate.relative_error, rel=1e-4)
    exact = A if name == "tall" else A.T
    if not options.get("center") and name in ("tall", "wide"):
        np.testing.assert_allclose(there.s, np.linalg.svd(exact, compute_uv=False)[:K], rtol=1e-10)
    assert verify(there, open_source(data / name), lambda _: None).findings == ()


def test_panels_that_fit_the_device_cross_the_bus_once(data: Path, fake: ApartDevice, ledger: Ledger) -> None:
    factors = bigsvd.svd(data / "tall", K, device="gpu", memory="300MB", method="krylov", tol=1e-10)
    costs = factors.provenance["costs"]
    assert costs["passes"] > 2
    assert sum(ledger.sent) == costs["bytes_read"] == A.nbytes
    assert plan_of(factors).device_cache_bytes == A.nbytes
    counted = ("data kept there between passes", "panels sent to the device", "widened slabs")
    assert ledger.most <= sum(plan_of(factors).device_memory[term] for term in counted)
    assert costs["device_cached_bytes"] == costs["cached_bytes"] > A.nbytes
    assert ledger.held == 0


@pytest.mark.parametrize("kind", ["plain", "steep"])
def test_of_panels_that_stay_the_long_factor_is_multiplied_at_the_end(
    fake: ApartDevice, ledger: Ledger, tmp_path: Path, kind: str
) -> None:
    """No pass stores its Y; also where the values span more than BᵀB resolves and all of Y is wanted."""
    exact = 0.9 ** np.arange(N) if kind == "plain" else 10.0 ** -np.arange(N)
    U, V = (np.linalg.qr(_RNG.standard_normal((rows, N)))[0] for rows in (M, N))
    zarr.create_array(tmp_path / "a", data=(U * exact) @ V.T, chunks=(100, N))
    out, stored = tmp_path / "u", set[str]()

    def look(event: Event) -> None:
        if isinstance(event, Certified):
            stored.update(path.parent.parent.name for path in tmp_path.glob("u.scratch/*/y/zarr.json"))

    options: dict[str, Any] = {"memory": "300MB", "method": "krylov", "tol": 1e-6, "progress": look}
    factors = bigsvd.svd(tmp_path / "a", K, out, device="gpu", **options)
    assert plan_of(factors).stays_on_device
    less = str(plan_of(factors).device_bytes - 1)
    some = bigsvd.plan(tmp_path / "a", K, device="gpu", device_memory=less, **options)
    assert not some.stays_on_device
    every = bigsvd.plan(tmp_path / "a", K, device="gpu", **options)
    assert every.expected_passes == pytest.approx(some.expected_passes + 1, abs=0.5)
    one = bigsvd.plan(tmp_path / "a", K, device="gpu", max_passes=1, **options)
    assert one.expected_passes == pytest.approx(2 + one.sample_share)
    assert not stored
    assert sum(ledger.sent) == 8 * M * N
    np.testing.assert_allclose(factors.s, exact[:K], rtol=1e-10)
    long, short = np.asarray(factors.U[:]), np.asarray(factors.Vt[:])
    np.testing.assert_allclose(long.T @ long, np.eye(K), atol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(long * U[:, :K], axis=0)), 1, rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(short.T * V[:, :K], axis=0)), 1, rtol=1e-6)
    replaced = replace(plan_of(factors), device_cache_bytes=0)
    request = replace(replaced.request, out=str(tmp_path / "v"))
    other = run(request, open_source(tmp_path / "a"), plan=replaced)
    np.testing.assert_allclose(other.s, factors.s, rtol=1e-12)


def test_a_run_stopped_while_it_multiplies_the_long_factor_resumes_to_the_same_bits(
    data: Path, fake: ApartDevice, tmp_path: Path
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, PassStarted) and event.name.startswith("long-"):
            raise KeyboardInterrupt

    options: dict[str, Any] = {"device": "gpu", "memory": "300MB", "method": "krylov", "center": True}
    undisturbed = bigsvd.svd(data / "tall", K, tmp_path / "a", **options)
    with pytest.raises(KeyboardInterrupt):
        bigsvd.svd(data / "tall", K, tmp_path / "b", progress=stop, **options)
    resumed = bigsvd.svd(data / "tall", K, tmp_path / "b", **options)
    for name in ("U", "s", "Vt"):
        np.testing.assert_array_equal(getattr(resumed, name)[:], getattr(undisturbed, name)[:])


@pytest.mark.parametrize("kept", ["some stay", "none stays", "none stays, some on the host"])
def test_more_data_than_the_device_holds(
    data: Path, fake: ApartDevice, ledger: Ledger, tmp_path: Path, kept: str
) -> None:
    request = Request(
        str(data / "tall"),
        K,
        out=str(tmp_path / "u"),
        device="gpu",
        memory=3 * 10**8,
        method="krylov",
        tol=1e-10,
    )
    source = open_source(data / "tall")
    plan = bigsvd.plan(source, K, device="gpu", memory="300MB", method="krylov", tol=1e-10)
    plan = replace(
        plan,
        device_cache_bytes=A.nbytes // 3 if kept == "some stay" else 0,
        cache_bytes=A.nbytes // 2 if kept == "none stays, some on the host" else 0,
    )
    factors = run(request, source, plan=plan)
    costs = factors.provenance["costs"]
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:K], rtol=1e-12)
    streamed = costs["bytes_read"] + costs["cached_bytes"]
    sent = sum(ledger.sent)
    if kept == "some stay":
        assert A.nbytes < sent < 0.8 * streamed
    else:
        assert sent == streamed
    assert (costs["cached_bytes"] > 0) == (kept != "none stays")


def test_an_array_in_memory_may_stay_on_the_device(fake: ApartDevice, ledger: Ledger) -> None:
    factors = bigsvd.svd(np.asfortranarray(A), K, device="gpu", memory="300MB", method="krylov", tol=1e-10)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:K], rtol=1e-12)
    assert sum(ledger.sent) == A.nbytes


def events_of(data: Path, **options: Any) -> tuple[bigsvd.Factors, list[Event]]:
    seen: list[Event] = []
    return bigsvd.svd(data / "tall", K, device="gpu", memory="300MB", progress=seen.append, **options), seen


def test_a_full_device_is_tried_again_by_half_slabs(data: Path, fake: ApartDevice, ledger: Ledger) -> None:
    """A memory that holds no whole panel and its products, but half of one."""
    options: dict[str, Any] = {"method": "krylov", "tol": 1e-10}
    events_of(data, **options)
    needed = ledger.most
    ledger.capacity = 0.45 * needed
    factors, seen = events_of(data, **options)
    assert ledger.refusals
    full = [event for event in seen if isinstance(event, LaneRepeated)]
    assert full
    assert "asked for" in full[0].said
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:K], rtol=1e-12)
    assert factors.certificate.converged
    assert verify(factors, open_source(data / "tall"), lambda _: None).findings == ()


def test_a_device_that_is_full_twice_ends_the_run(
    data: Path, fake: ApartDevice, ledger: Ledger, tmp_path: Path
) -> None:
    ledger.capacity = 20_000
    out = tmp_path / "u"
    with pytest.raises(MemoryBudgetError, match=r"fake GPU ran out of memory .* by half slabs too"):
        bigsvd.svd(data / "tall", K, out, device="gpu", memory="300MB")
    assert not out.exists()
    assert ledger.held == 0
    ledger.capacity = float("inf")
    factors = bigsvd.svd(data / "tall", K, out, device="gpu", memory="300MB")  # goes on
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:K], rtol=1e-4)


def test_another_error_on_a_device_is_no_lack_of_memory(
    data: Path, fake: ApartDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []

    def failing(self: LaneRun) -> dict[str, Any]:
        calls.append(self.careful)
        raise ValueError("no such kernel")

    monkeypatch.setattr(LaneRun, "run", failing)
    with pytest.raises(ValueError, match="no such kernel"):
        bigsvd.svd(data / "tall", K, device="gpu", memory="300MB")
    assert not any(calls)


def test_the_plan_says_why_it_is_where_it_is(
    data: Path, fake: ApartDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def device_line(**options: Any) -> str:
        plan = bigsvd.plan(data / "tall", K, memory="300MB", **options)
        return next(line for line in str(plan).splitlines() if line.startswith("device  "))

    assert device_line() == "device        fake GPU (the fake one is usable)"
    assert device_line(device="cpu") == "device        cpu (asked for)"
    tiny = device_line(device_memory="1MB")
    assert tiny.startswith("device        cpu (too little memory for a GPU: ")
    assert "1.0 MB" in tiny
    refusal = r"of fake GPU's memory .* the budget there is 1.0 MB; raise device_memory to"
    with pytest.raises(MemoryBudgetError, match=refusal):
        device_line(device="gpu", device_memory="1MB")
    offer(monkeypatch, replace(fake, free=10**6))
    assert device_line().startswith("device        cpu (too little memory for a GPU: ")


@pytest.mark.parametrize("capacity", [float("inf"), 10**6])
def test_rates_are_those_of_the_device_or_where_it_is_full_nominal(
    data: Path, fake: ApartDevice, ledger: Ledger, capacity: float
) -> None:
    ledger.capacity = capacity
    source = open_source(data / "tall")
    plan = bigsvd.plan(data / "tall", K)
    found = rates.rates_here(source, fake, plan, quick_seconds=0.0)
    assert found.measured == (capacity > 10**6)
    assert found.copy_seconds > 0


@pytest.mark.parametrize("method", ["tall_skinny", "compressed"])
def test_the_cluster_of_dasks_methods_offers_what_lanes_ask_for(
    data: Path, fake: ApartDevice, method: Literal["tall_skinny", "compressed"]
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, PassEnded):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bigsvd.svd(data / "tall", K, method=method, device="gpu", memory="300MB", progress=stop)


def test_without_a_gpu_the_plan_says_what_is_missing(data: Path) -> None:
    device, why = choose_device("auto")
    if device.has_own_memory:
        pytest.skip("there is a GPU")
    assert f"device        cpu ({why})" in str(bigsvd.plan(data / "tall", K, memory="300MB"))


def test_device_memory_is_in_the_plan_and_within_its_budget(data: Path, fake: ApartDevice) -> None:
    plan = bigsvd.plan(data / "tall", K, memory="300MB", device_memory="400MB")
    assert plan.device_budget_bytes == 400 * 10**6
    assert 0 < plan.device_bytes <= plan.device_budget_bytes
    assert "device memory" in str(plan)
    assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_for_a_gpu_does_not_run_without_one(
    data: Path, fake: ApartDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = bigsvd.plan(data / "tall", K, memory="300MB")
    request, source = plan.request, open_source(data / "tall")
    offer(monkeypatch, CpuDevice())
    with pytest.raises(PlanError, match=r"the plan is for fake GPU with .*; here is cpu"):
        run(request, source, plan=plan)
    offer(monkeypatch, replace(fake, free=plan.device_bytes - 1))
    with pytest.raises(PlanError, match=r"the plan is for fake GPU with .* here is fake GPU"):
        run(request, source, plan=plan)


@pytest.fixture(scope="module")
def stored(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bigsvd.Factors:
    out = tmp_path_factory.mktemp("stored") / "u"
    return bigsvd.svd(data / "tall", K, out, center=True, scale=True, device="cpu", memory="300MB")


@pytest.mark.parametrize("capacity", [float("inf"), 10_000], ids=["roomy", "full"])
@pytest.mark.parametrize("transposed", [False, True])
def test_large_regions_and_projections_are_computed_on_the_device(
    stored: bigsvd.Factors,
    fake: ApartDevice,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    capacity: float,
    *,
    transposed: bool,
) -> None:
    """Or here where it is too full; what is small always is."""
    rows = slice(0, 100 if transposed else M)
    there = stored.on("gpu")
    expected = stored[rows, :]
    np.testing.assert_array_equal(there[rows, :], expected)
    assert ledger.most == 0
    monkeypatch.setattr("bigsvd.devices.arithmetic._WORTH_SENDING_FLOPS", 0.0)
    monkeypatch.setattr("bigsvd.devices.arithmetic._SENT_BYTES", 2**16)
    ledger.capacity = capacity
    np.testing.assert_allclose(there[rows, :], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        there.truncate(2)[rows, :], stored.truncate(2)[rows, :], rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(there.project(A[rows]), stored.project(A[rows]), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(there.project(A[0]), stored.project(A[0]), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.asarray(there.reconstruct()), stored[:, :], rtol=1e-12, atol=1e-12)
    assert (ledger.refusals > 0) == (capacity < float("inf"))
    assert ledger.most > 0
    assert ledger.held == 0


def test_factors_on_a_device_that_is_not_there_are_refused(stored: bigsvd.Factors) -> None:
    assert stored.on("cpu")[0, 0] == stored[0, 0]
    if not choose_device("auto")[0].has_own_memory:
        with pytest.raises(DeviceError, match="device='gpu' but"):
            stored.on("gpu")


@pytest.fixture
def mixed() -> Iterator[Client]:
    """A cluster in this process: a worker that offers a GPU beside one that does not."""
    with own_cluster(n_workers=0, processes=False) as client:
        cluster = client.cluster
        cluster.worker_spec = {
            name: {
                "cls": cluster.new_spec["cls"],
                "options": {**cluster.new_spec["options"], "nthreads": 2, "resources": resources},
            }
            for name, resources in (("plain", {}), ("with-gpu", {"GPU": 1}))
        }
        cluster.sync(cluster._correct_state)
        client.wait_for_workers(2)
        yield client


def test_lanes_go_only_to_workers_that_offer_the_gpu(
    data: Path, fake: ApartDevice, mixed: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    offering = {name for name, worker in workers_of(mixed).items() if worker["resources"]}
    assert len(offering) == 1
    ran: set[str] = set()
    lanes = LaneRun.run

    def noted(self: LaneRun) -> dict[str, Any]:
        report = lanes(self)
        ran.add(report["worker"])
        return report

    monkeypatch.setattr(LaneRun, "run", noted)
    options: dict[str, Any] = {"client": mixed, "memory": "300MB", "method": "krylov", "tol": 1e-10}
    factors = bigsvd.svd(data / "tall", K, device="gpu", **options)
    assert ran == offering
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:K], rtol=1e-12)
    ran.clear()
    bigsvd.svd(data / "tall", K, device="cpu", **options)
    assert len(ran) == 2


def test_a_cluster_without_the_resource_is_refused_or_used_without(
    data: Path, fake: ApartDevice, client: Client
) -> None:
    with pytest.raises(DeviceError, match=r"no worker offers the resource GPU=1; start those"):
        bigsvd.svd(data / "tall", K, device="gpu", client=client)
    plan = bigsvd.plan(data / "tall", K, client=client)
    assert (plan.device, plan.device_reason) == ("cpu", "no worker offers the resource GPU=1")


def test_every_worker_must_offer_the_gpu_where_dask_places_the_work(
    data: Path, fake: ApartDevice, mixed: Client
) -> None:
    with pytest.raises(DeviceError, match="for compressed not every worker offers"):
        bigsvd.plan(data / "tall", K, client=mixed, method="compressed", device="gpu")


@pytest.fixture
def offering() -> Iterator[Client]:
    """Two workers in this process that offer a GPU each."""
    with own_cluster(n_workers=2, threads_per_worker=2, processes=False, resources={"GPU": 1}) as client:
        yield client


def test_workers_that_share_a_gpu_share_its_memory(
    data: Path, fake: ApartDevice, offering: Client, mixed: Client
) -> None:
    alone = bigsvd.plan(data / "tall", K, client=mixed, memory="300MB")
    shared = bigsvd.plan(data / "tall", K, client=offering, memory="300MB")
    assert alone.device_budget_bytes == int(0.8 * fake.free)
    assert shared.device_budget_bytes == int(0.8 * (fake.free // 2))


def test_lanes_stay_with_the_worker_that_has_their_panels(
    data: Path, fake: ApartDevice, ledger: Ledger, offering: Client
) -> None:
    options: dict[str, Any] = {"client": offering, "memory": "300MB", "method": "krylov", "tol": 1e-10}
    factors = bigsvd.svd(data / "tall", K, device="gpu", **options)
    assert plan_of(factors).threads == 2
    # the sample's lanes and the passes' may be on different workers, so its panels may be read twice
    assert A.nbytes <= sum(ledger.sent) <= (1 + plan_of(factors).sample_share) * A.nbytes + 1


def test_a_lane_whose_worker_is_gone_goes_to_another(
    data: Path, fake: ApartDevice, offering: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigsvd.execution.tasks.LOOK_SECONDS", 0.2)
    retired: list[str] = []

    def retire(event: Event) -> None:
        if isinstance(event, Certified) and not retired:
            workers = list(workers_of(offering))
            retired.append(workers[0])
            offering.retire_workers(workers[:1])

    options: dict[str, Any] = {"client": offering, "memory": "300MB", "method": "krylov", "tol": 1e-10}
    factors = bigsvd.svd(data / "tall", K, device="gpu", progress=retire, **options)
    assert retired
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:K], rtol=1e-12)


def test_a_run_begun_on_a_gpu_is_not_thrown_away_without_it(
    data: Path, fake: ApartDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"memory": "300MB", "method": "krylov", "tol": 1e-10}
    with pytest.warns(UserWarning, match="not reached"):
        bigsvd.svd(data / "tall", K, tmp_path / "u", max_passes=1, **options)
    offer(monkeypatch, CpuDevice())
    with pytest.raises(PlanError, match=r"u.scratch was begun for fake GPU .* here is cpu"):
        bigsvd.svd(data / "tall", K, tmp_path / "u", overwrite=True, **options)
    offer(monkeypatch, fake)
    factors = bigsvd.svd(data / "tall", K, tmp_path / "u", overwrite=True, **options)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:K], rtol=1e-12)


def test_as_many_readers_are_used_as_memory_allows(data: Path, fake: ApartDevice) -> None:
    facts = open_source(data / "tall").facts
    limits = Machine(10**9, 4, "fake GPU", "", True, 2**30, 2**30, readers=16)
    request = Request(str(data / "tall"), K, method="krylov")
    assert make_plan(request, facts, limits).readers == 16
    tight = make_plan(request, facts, replace(limits, budget_bytes=30 * 10**6))
    assert 1 <= tight.readers < 16


def has_gpu() -> bool:
    return choose_device("auto")[0].has_own_memory


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no CUDA GPU")
class TestOnARealGpu:
    """The same on CuPy."""

    @pytest.mark.filterwarnings("ignore:no entry equals missing_value")  # only the int8 data have zeros
    @pytest.mark.parametrize("options", CASES.values(), ids=CASES)
    @pytest.mark.parametrize("name", ["tall", "wide", "int8", "single"])
    def test_the_same_values_as_on_the_cpu(self, data: Path, name: str, options: dict[str, Any]) -> None:
        defaults: dict[str, Any] = {"method": "krylov", "tol": 1e-6 if name != "single" else 1e-4}
        there = bigsvd.svd(data / name, K, device="gpu", memory="2GB", **(defaults | options))
        here = bigsvd.svd(data / name, K, device="cpu", memory="2GB", **(defaults | options))
        assert plan_of(there).has_own_memory
        tolerance = 1e-12 if plan_of(there).compute_dtype == "float64" else 1e-5
        np.testing.assert_allclose(there.s, here.s, rtol=tolerance)
        assert there.certificate.converged
        assert verify(there, open_source(data / name), lambda _: None).findings == ()

    @pytest.mark.parametrize("method", ["tall_skinny", "compressed"])
    def test_dask_methods_run_on_cupy_chunks(self, data: Path, method: Any) -> None:
        options: dict[str, Any] = {"power_iterations": 8} if method == "compressed" else {}
        factors = bigsvd.svd(data / "tall", K, device="gpu", method=method, memory="2GB", **options)
        exact = np.linalg.svd(A, compute_uv=False)[:K]
        np.testing.assert_allclose(factors.s, exact, rtol=1e-10 if method == "tall_skinny" else 1e-2)
        assert verify(factors, open_source(data / "tall"), lambda _: None).findings == ()

    def test_float16_is_widened_on_the_device(self, tmp_path: Path) -> None:
        half = A.astype(np.float16)
        zarr.create_array(tmp_path / "half", data=half, chunks=(100, N))
        factors = bigsvd.svd(tmp_path / "half", K, device="gpu", memory="2GB", tol=1e-4)
        exact = np.linalg.svd(half.astype(np.float64), compute_uv=False)[:K]
        np.testing.assert_allclose(factors.s, exact, rtol=1e-5)

    def test_a_dask_array_of_cupy_chunks_is_taken(self, data: Path) -> None:
        da, device = importlib.import_module("dask.array"), choose_device("gpu")[0]
        chunks = da.from_zarr(str(data / "tall")).map_blocks(device.to_device, meta=device.xp.empty((0, 0)))
        factors = bigsvd.svd(chunks, K, device="gpu", memory="2GB", tol=1e-6)
        np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:K], rtol=1e-10)

    def test_little_memory_is_kept_to(self, tmp_path: Path) -> None:
        """A matrix larger than what the run may take of the device's memory."""
        random = np.random.default_rng(0)
        big = random.standard_normal((200_000, 1_000), dtype=np.float32)
        zarr.create_array(tmp_path / "big", data=big, chunks=(2_000, 1_000))
        events: list[Event] = []
        factors = bigsvd.svd(
            tmp_path / "big", K, device="gpu", device_memory="600MB", memory="2GB", stop="error", tol=1e-2,
            progress=events.append,
        )  # fmt: skip
        plan = plan_of(factors)
        assert plan.device_bytes <= 600 * 10**6 < big.nbytes
        assert not [event for event in events if isinstance(event, LaneRepeated)]
        pool = choose_device("gpu")[0].xp.get_default_memory_pool()
        assert pool.total_bytes() <= plan.device_bytes

    def test_a_full_device_is_an_error_of_memory(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        limit = CupyDevice.limit
        monkeypatch.setattr(CupyDevice, "limit", lambda self, run, _: limit(self, run, 2**16))
        with pytest.raises(MemoryBudgetError, match="ran out of memory"):
            bigsvd.svd(data / "tall", K, device="gpu", memory="2GB")

    def test_two_worker_processes_share_the_gpu(self, data: Path) -> None:
        options: dict[str, Any] = {"device": "gpu", "method": "krylov", "memory": "2GB", "tol": 1e-6}
        with worker_processes(2, threads=2, resources={"GPU": 1}) as client:
            shared = bigsvd.svd(data / "tall", K, client=client, **options)
        alone = bigsvd.svd(data / "tall", K, **options)
        np.testing.assert_allclose(shared.s, alone.s, rtol=1e-12)
        assert plan_of(shared).device_budget_bytes < 0.6 * plan_of(alone).device_budget_bytes

    def test_regions_and_projections(self, stored: bigsvd.Factors, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bigsvd.devices.arithmetic._WORTH_SENDING_FLOPS", 0.0)
        there = stored.on("gpu")
        np.testing.assert_allclose(there[:, :], stored[:, :], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(there.project(A), stored.project(A), rtol=1e-9, atol=1e-9)
