"""A run is placed on the first machine on which something fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zarr
from dask import array as da

import bigsvd
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import MemoryBudgetError
from bigsvd.execution import placement
from bigsvd.execution.placement import executor_of, offer_for, plan_for, plan_for_source
from bigsvd.execution.threads import LocalExecutor
from bigsvd.facts import Machine, SourceFacts
from bigsvd.machine.offers import Offer
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request
from bigsvd.sources.open import open_source
from tests.devices import LEDGERS, ApartDevice, Ledger

FACTS = SourceFacts("d", (100_000, 2_000), "float32", (1_000, 2_000), "print")
REQUEST = Request("d", 5)
CPU = Offer(Machine(10**9, 4, "cpu", "asked for"), CpuDevice())


def gpu(free_bytes: int) -> Offer:
    machine = Machine(
        budget_bytes=10**9,
        threads=4,
        device="fake GPU",
        device_reason="it is usable",
        has_own_memory=True,
        device_budget_bytes=free_bytes,
        device_free_bytes=free_bytes,
    )
    return Offer(machine, ApartDevice())


def test_the_best_machine_is_taken_where_something_fits() -> None:
    roomy = gpu(2**30)
    plan, offer = plan_for(REQUEST, FACTS, [roomy, CPU])
    assert offer == roomy
    assert (plan.device, plan.device_reason) == ("fake GPU", "it is usable")


def test_a_gpu_with_too_little_memory_is_left_alone_and_the_plan_says_why() -> None:
    plan, offer = plan_for(REQUEST, FACTS, [gpu(10**6), CPU])
    assert (plan.device, offer.device) == ("cpu", CPU.device)
    assert plan.device_reason == offer.machine.device_reason
    assert plan.device_reason.startswith("too little memory for a GPU: ")
    assert "1.0 MB" in plan.device_reason


def test_what_fits_nowhere_is_refused_for_the_reason_of_the_last() -> None:
    with pytest.raises(MemoryBudgetError) as alone:
        plan_for(replace(REQUEST, method="gram"), FACTS, [replace(CPU, machine=Machine(10**6, 1))])
    with pytest.raises(MemoryBudgetError) as both:
        plan_for(
            replace(REQUEST, method="gram"), FACTS, [gpu(10**6), replace(CPU, machine=Machine(10**6, 1))]
        )
    assert str(both.value) == str(alone.value)
    with pytest.raises(MemoryBudgetError, match="of fake GPU's memory"):
        plan_for(REQUEST, FACTS, [gpu(10**6)])


def test_a_saved_plan_takes_the_machine_that_it_is_for() -> None:
    offers = [gpu(2**30), CPU]
    for offer in offers:
        assert offer_for(plan_for(REQUEST, FACTS, [offer])[0], offers) == offer
    there, _ = plan_for(REQUEST, FACTS, [gpu(2**30)])
    assert offer_for(there, [CPU]) == CPU
    assert offer_for(there, [gpu(10**6), CPU]) == gpu(10**6)


def test_the_budget_is_half_of_what_the_process_may_still_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a job's control group, where that limits it."""
    monkeypatch.setattr("bigsvd.machine.offers.available_memory", lambda: 6 * 10**9)
    for asked, budget_bytes in ((None, 3 * 10**9), (10**9, 10**9)):
        request = Request("d", 5, device="cpu", memory=asked)
        assert LocalExecutor().machines(request)[0].machine.budget_bytes == budget_bytes


def test_only_what_another_library_reads_is_rehearsed_and_planned_again() -> None:
    values = np.random.default_rng(0).standard_normal((400, 30))
    stored = zarr.create_array(zarr.storage.MemoryStore(), data=values, chunks=(100, 30))
    for array, foreign in ((stored, False), (da.from_array(values, chunks=(100, 30)).cumsum(0), True)):
        source = open_source(array)
        assert (source.facts.reader == "foreign") == foreign
        with executor_of(None) as executor:
            plan, _ = plan_for_source(Request("d", 3), source, executor, [CPU])
        assert plan.facts == source.facts
        assert (plan.facts.reader == "measured") == foreign


@pytest.mark.parametrize(("worth", "plans"), [(float("inf"), 1), (0.0, 2)])
def test_a_run_plans_once_or_a_second_time_at_measured_rates(
    monkeypatch: pytest.MonkeyPatch, worth: float, plans: int
) -> None:
    made: list[Any] = []

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return make_plan(*arguments)

    monkeypatch.setattr(placement, "make_plan", counted)
    monkeypatch.setattr(placement, "_WORTH_A_LOOK_SECONDS", worth)
    bigsvd.svd(np.random.default_rng(0).standard_normal((400, 30)), 3)
    assert len(made) == plans


def test_rates_are_measured_by_a_worker_that_has_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    carry_out = LocalExecutor.carry_out

    def noted(self: LocalExecutor, calls: Any, *rest: Any) -> None:
        shares.extend(call.device_share for call in calls)
        carry_out(self, calls, *rest)

    monkeypatch.setattr(LocalExecutor, "carry_out", noted)
    monkeypatch.setattr(placement, "_WORTH_A_LOOK_SECONDS", 0.0)
    monkeypatch.setitem(LEDGERS, "", Ledger())
    source = open_source(np.random.default_rng(0).standard_normal((400, 30)))
    executor = LocalExecutor()
    for found in (CPU, gpu(2**30)):
        plan, offer = plan_for(Request("d", 3), source.facts, [found])
        assert placement.at_measured_rates(plan, source, executor, offer).rates.measured
    assert shares == [0.0, 1.0]
