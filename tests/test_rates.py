"""Rates are measured on source and device, written into the plan, and decide what is worth its time."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd import solve
from bigsvd.devices.cpu import CpuDevice
from bigsvd.execution import placement
from bigsvd.facts import NOMINAL, Machine, Rates, SourceFacts
from bigsvd.machine.rates import measure_making, measure_products, measure_reading
from bigsvd.planning.plan import Plan
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request
from bigsvd.sources.open import open_source
from bigsvd.sources.zarr_dense import ZarrSource

FACTS = SourceFacts("d", (1_000_000, 5_000), "float32", (1_000, 5_000), "f", "direct")
LIMITS = Machine(4 * 10**9, 2)
ROOMY = Machine(10**11, 2)
REQUEST = Request("d", 50, method="krylov")


def planned(rates: Rates, limits: Machine = LIMITS) -> Plan:
    return make_plan(REQUEST, FACTS, limits, rates)


@pytest.mark.parametrize("timed", [True, False])
def test_they_are_of_this_source_and_device(tmp_path: Path, *, timed: bool) -> None:
    """Products too where these are timed; else they are usual ones."""
    A = np.random.default_rng(0).standard_normal((3000, 200), dtype=np.float32)
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(500, 200))
    source, device = open_source(tmp_path / "a.zarr"), CpuDevice()
    rates = measure_reading(source, device, 10**9)
    rates = measure_products(rates, source, device, "float32") if timed else rates
    assert rates.measured
    assert 0 <= rates.read_cpu_seconds <= rates.read_seconds
    assert 1e-12 < rates.read_seconds < 1e-5
    assert 1e-12 < rates.fresh_seconds < 1e-6
    assert all(1e7 < rate < 1e13 for rate in rates.flops["float32"].values())
    assert (rates.flops == NOMINAL.flops) != timed
    assert Rates.from_dict(json.loads(json.dumps(rates.to_dict()))) == rates


def test_a_process_that_was_held_up_still_times_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a second goes by between any two looks."""
    monkeypatch.setattr("bigsvd.machine.rates.time.perf_counter", count(0.0, 1.0).__next__)
    rates = measure_products(NOMINAL, open_source(np.ones((40, 30), np.float32)), CpuDevice(), "float32")
    assert all(rate > 0 for rate in rates.flops["float32"].values())


@pytest.mark.parametrize(("seconds", "reads"), [(0.2, 2), (2.0, 1)])
def test_the_first_read_is_judged_alone_only_where_storage_is_slow(
    seconds: float, reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into new memory it takes longer than any after it: here by a clock that jumps in each read."""
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((80, 20), np.float32), chunks=(10, 20))
    clock, read = FakeClock(), ZarrSource.read
    seen: list[Any] = []

    def jump(self: ZarrSource, *where: Any) -> np.ndarray:
        clock.now += seconds if not seen else 0.1 * seconds
        seen.append(where)
        return read(self, *where)

    monkeypatch.setattr(ZarrSource, "read", jump)
    monkeypatch.setattr("bigsvd.machine.rates.time.perf_counter", clock)
    rates = measure_reading(open_source(tmp_path / "a.zarr"), CpuDevice(), 10**9)
    assert len(seen) == reads
    assert rates.read_seconds == pytest.approx((0.1 if reads > 1 else 1.0) * seconds / 800, rel=0.1)


class FakeClock:
    """`time.perf_counter` that goes on by 1 ms a call, and by what is added to `now`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-3
        return self.now


def test_a_rate_lies_between_its_neighbours() -> None:
    rates = replace(NOMINAL, flops={"float32": {10: 1.0, 20: 3.0}})
    assert [rates.flops_at("float32", columns) for columns in (5, 10, 15, 40)] == [1.0, 1.0, 2.0, 3.0]


def test_a_wide_block_is_used_where_its_columns_are_free() -> None:
    slow = replace(NOMINAL, read_seconds=1e-7)
    assert planned(NOMINAL).narrow < planned(NOMINAL).width
    assert planned(slow).narrow == planned(slow).width


def test_panels_are_kept_where_memory_is_cheaper_than_reading_again() -> None:
    dear = planned(replace(NOMINAL, fresh_seconds=2 * NOMINAL.read_seconds))
    cheap = planned(NOMINAL)
    assert cheap.cache_bytes > dear.cache_bytes == len(dear.sample) * dear.panel_rows * dear.cols * 4
    assert dear.sample == cheap.sample


def test_more_lanes_run_at_a_time_where_readers_wait() -> None:
    waiting = replace(NOMINAL, read_seconds=4 * NOMINAL.read_cpu_seconds)
    assert planned(NOMINAL).threads == 2
    assert planned(waiting).threads == 8


@pytest.mark.parametrize("times", [0.5, 0.9])
def test_new_memory_for_kept_panels_is_in_the_prediction(times: float) -> None:
    free = planned(replace(NOMINAL, fresh_seconds=0.0), ROOMY)
    dear = planned(replace(NOMINAL, fresh_seconds=times * NOMINAL.read_seconds), ROOMY)
    assert free.cache_bytes == dear.cache_bytes == FACTS.nbytes
    more = (1 - dear.sample_share) * FACTS.nbytes * times * NOMINAL.read_seconds / ROOMY.threads
    assert dear.predicted_seconds["passes"] - free.predicted_seconds["passes"] == pytest.approx(more)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_predictions_follow_the_rates(factor: float) -> None:
    faster = Rates(
        NOMINAL.read_seconds * factor,
        NOMINAL.read_cpu_seconds * factor,
        NOMINAL.fresh_seconds * factor,
        {dtype: {c: rate / factor for c, rate in rates.items()} for dtype, rates in NOMINAL.flops.items()},
        measured=True,
    )
    here, there = planned(NOMINAL), planned(faster)
    passes = here.predicted_seconds["passes"]
    assert there.predicted_seconds["passes"] == pytest.approx(factor * passes, rel=0.05)
    assert here.seconds == sum(here.predicted_seconds.values())
    assert "at nominal rates" in str(here)
    assert "at measured rates" in str(there)


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="no O_DIRECT")
def test_files_too_many_for_memory_are_read_past_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the budget leaves of memory that is available; not a bit of the result is another."""
    A = np.random.default_rng(0).standard_normal((3000, 200), dtype=np.float32)
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(100, 200))
    source = open_source(tmp_path / "a.zarr")
    request = Request(source.facts.name, 3, method="krylov", max_passes=2)
    monkeypatch.setattr(placement, "_WORTH_A_LOOK_SECONDS", 0.0)
    monkeypatch.setattr("bigsvd.machine.rates.available_memory", lambda: 10**9 + A.nbytes // 2)
    roomy = solve.run(replace(request, memory=10**9 - A.nbytes), source)
    assert not Plan.from_dict(roomy.provenance["plan"]).past_page_cache
    tight = solve.run(replace(request, memory=10**9), source)
    plan = Plan.from_dict(tight.provenance["plan"])
    assert plan.past_page_cache
    assert "past the page cache" in str(plan)
    opened = flags_of_opened_files(monkeypatch)
    through = replace(plan, rates=replace(plan.rates, past_page_cache=False))
    cached = solve.run(replace(request, memory=10**9), source, plan=through)
    assert opened
    assert not any(flag & os.O_DIRECT for flag in opened)
    solve.run(replace(request, memory=10**9), source, plan=plan)  # nothing is measured now
    assert any(flag & os.O_DIRECT for flag in opened)
    for name in ("U", "s", "Vt"):
        np.testing.assert_array_equal(np.asarray(getattr(tight, name)), np.asarray(getattr(cached, name)))


def flags_of_opened_files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    flags, real = [], os.open

    def spy(path: str, flag: int, *mode: int, **where: Any) -> int:
        flags.append(flag)
        return real(path, flag, *mode, **where)

    monkeypatch.setattr(os, "open", spy)
    return flags


def test_a_long_run_is_measured_and_its_plan_says_so(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    A = np.random.default_rng(0).standard_normal((3000, 200), dtype=np.float32)
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(100, 200))
    options: dict[str, Any] = {"client": client, "method": "krylov", "stop": "error", "max_passes": 2}

    def plan_of(factors: bigsvd.Factors) -> Plan:
        return Plan.from_dict(factors.provenance["plan"])

    short = bigsvd.svd(tmp_path / "a.zarr", 3, **options)
    assert not plan_of(short).rates.measured
    monkeypatch.setattr(placement, "_WORTH_A_LOOK_SECONDS", 0.0)
    long = bigsvd.svd(tmp_path / "a.zarr", 3, **options)
    assert plan_of(long).rates.measured
    costs = long.provenance["costs"]
    assert set(costs["predicted_seconds"]) == set(costs["seconds_by_part"])
    assert costs["predicted_seconds"] == plan_of(long).predicted_seconds
    assert sum(costs["seconds_by_part"].values()) == pytest.approx(costs["seconds"], rel=0.01)


def test_making_slabs_of_entries_is_timed(tmp_path: Path) -> None:
    """Integers that are widened and standardised take longer than float32 as stored, which is not made."""
    integers = np.random.default_rng(0).integers(0, 3, (2000, 500)).astype(np.int8)
    found = {}
    for name, data, scale in (("i", integers, True), ("f", integers.astype(np.float32), False)):
        zarr.create_array(tmp_path / name, data=data, chunks=(1000, 500))
        source = open_source(tmp_path / name)
        plan = make_plan(Request(str(tmp_path / name), 5, method="krylov", scale=scale), source.facts, LIMITS)
        found[name] = measure_making(NOMINAL, source, CpuDevice(), plan)
    assert 1e-11 < found["i"].making_seconds < 1e-6
    assert found["f"].making_seconds < found["i"].making_seconds / 2
    assert all(0 <= rates.looking_seconds < 1e-6 for rates in found.values())


@pytest.mark.parametrize(("making", "looking"), [(1e-9, 0.0), (0.0, 1e-9)])
def test_what_an_entry_costs_is_in_the_prediction(making: float, looking: float) -> None:
    """In every pass, or in the first alone."""
    free = planned(NOMINAL)
    dear = planned(replace(NOMINAL, making_seconds=making, looking_seconds=looking))
    one = 1.4 * FACTS.shape[0] * FACTS.shape[1] * 1e-9 / LIMITS.threads
    passes = free.expected_passes - free.sample_share if making else 1.0
    more = dear.predicted_seconds["passes"] - free.predicted_seconds["passes"]
    assert more == pytest.approx(passes * one, rel=0.05)
