"""Scaling: what is measured is plausible, and the simulation's arithmetic holds its laws."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigsvd
from benchmarks.scaling import SIZES, cut
from benchmarks.simulation import Case, Cluster, Constants, limits, plan_workload, run_simulation, simulate
from bigsvd.execution.passes import PARTS_A_SUM
from tests.benchmark_runs import check_report_is_made_again, results_of

CONSTANTS = Constants(
    panel_seconds=1e-3,
    lane_seconds=1e-2,
    panel_bytes=100.0,
    partial_seconds_per_byte=1e-9,
    combined_lane_seconds=1e-3,
    combined_seconds_per_byte=1e-9,
    task_seconds=1e-3,
    task_bytes=2e3,
    plans_in_a_task=0.0,
    read_bytes_per_second=5e8,
    product_flops_per_second=5e10,
    probe_columns=10,
)
WORK = plan_workload((10**7, 50_000), (256, 50_000), 20, "8GB")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    words = ["scaling", "--size", "tiny", "--repeat", "1"]
    found = results_of(words, out / "scaling-tiny.json", data, 10_000)
    table = (out / "scaling-tiny.md").read_text(encoding="utf-8")
    assert all(words in table for words in ("## Overhead", "## Weak scaling", "## Simulated", "### Assumed"))
    return found


def test_the_report_is_made_again_from_its_file(results: dict[str, Any], tmp_path: Path) -> None:
    check_report_is_made_again(results, tmp_path / "scaling-tiny.json")


def test_overheads_are_seconds_of_a_pass(results: dict[str, Any]) -> None:
    overheads = results["overheads"]
    assert len(overheads["runs"]) == 5
    for run in overheads["runs"]:
        assert 0 < run["streaming_seconds"] < 60
        assert 0 < run["combining_seconds"] < 60
    assert 0 <= overheads["panel_seconds"] < 1
    assert 0 <= overheads["lane_seconds"] < 1


def test_planning_reaches_the_panels_it_was_asked_for(results: dict[str, Any]) -> None:
    planning = results["planning"]
    assert planning["panels"] == SIZES["tiny"].planned_panels
    assert planning["seconds"] < 10
    assert planning["peak_bytes"] < 100e6


def test_weak_scaling_grows_the_data_with_the_workers(results: dict[str, Any]) -> None:
    rows = results["weak_scaling"]
    assert [row["workers"] for row in rows] == list(SIZES["tiny"].workers)
    assert rows[1]["data_bytes"] == 2 * rows[0]["data_bytes"]
    assert rows[0]["first_efficiency"] == rows[0]["last_efficiency"] == 1
    assert all(row["first_seconds"] > 0 and row["last_efficiency"] > 0 for row in rows)


def test_the_simulation_uses_what_was_measured(results: dict[str, Any]) -> None:
    found = results["simulation"]
    for name in ("panel_seconds", "lane_seconds", "panel_bytes", "combined_seconds_per_byte"):
        assert found["constants"][name] == results["overheads"][name]
    assert found["constants"]["read_bytes_per_second"] > 1e6
    assert found["constants"]["product_flops_per_second"] > 1e8
    assert found["constants"]["task_bytes"] > 100
    assert found["workload"]["data_bytes"] == 10**15
    assert all(np.isfinite(limit["share"]) and limit["share"] > 0 for limit in found["limits"])


def test_a_cut_plan_has_the_panels_and_lanes_it_was_cut_into() -> None:
    plan = bigsvd.plan(np.ones((1_000, 8)), 2, method="krylov", max_passes=1)
    found = cut(plan, 100, 7)
    assert (found.panels, len(found.lanes)) == (100, 7)
    assert found.lanes[0][0] == 0
    assert found.lanes[-1][1] == 100


@pytest.mark.parametrize("times", [2, 10])
def test_a_pass_is_linear_in_the_bytes(times: int) -> None:
    more = replace(
        WORK,
        data_bytes=times * WORK.data_bytes,
        rows=times * WORK.rows,
        panels=times * WORK.panels,
        lanes=times * WORK.lanes,
        scratch_bytes=times * WORK.scratch_bytes,
    )
    once, often = (simulate(work, CONSTANTS, Cluster(workers=4)) for work in (WORK, more))
    for name in (
        "transfer_seconds",
        "computing_seconds",
        "scheduling_seconds",
        "scheduler_bytes",
        "scratch_bytes",
    ):
        assert getattr(often, name) == pytest.approx(times * getattr(once, name))
    a_few_parts = 10 * times * once.partial_bytes  # the tree of sums has whole parts on each level
    assert often.network_bytes == pytest.approx(times * once.network_bytes, abs=a_few_parts)
    assert often.partial_bytes == once.partial_bytes
    assert often.lost_seconds == pytest.approx(once.lost_seconds)


def test_sums_are_combined_by_all_workers_but_for_the_last_few() -> None:
    few, many = (simulate(WORK, CONSTANTS, Cluster(workers=count)) for count in (4, 400))
    assert WORK.lanes > PARTS_A_SUM
    last = -(-WORK.lanes // PARTS_A_SUM)  # so few that they are not worth another level
    assert last <= PARTS_A_SUM
    a_byte = max(CONSTANTS.combined_seconds_per_byte, 1 / Cluster.network_bytes_per_second)
    alone = last * (CONSTANTS.combined_lane_seconds + few.partial_bytes * a_byte)
    assert few.combining_seconds > many.combining_seconds > alone
    assert many.combining_seconds < 1.1 * alone + 1 / 10 * few.combining_seconds


def test_twice_the_workers_halve_what_workers_do_and_nothing_else() -> None:
    few, many = (simulate(WORK, CONSTANTS, Cluster(workers=count)) for count in (4, 8))
    assert many.transfer_seconds == pytest.approx(few.transfer_seconds / 2)
    assert many.computing_seconds == pytest.approx(few.computing_seconds / 2)
    assert many.driver_bytes == few.driver_bytes
    assert many.scratch_bytes == few.scratch_bytes


def test_more_threads_than_lanes_do_not_help() -> None:
    enough = Cluster(workers=int(WORK.lanes))
    more = replace(enough, workers=2 * enough.workers)
    assert (
        simulate(WORK, CONSTANTS, more).computing_seconds
        == simulate(WORK, CONSTANTS, enough).computing_seconds
    )


def test_a_limit_breaks_where_its_share_reaches_one() -> None:
    case = Case(shape=(10**7, 50_000), chunks=(256, 50_000), k=20, memory="8GB", doublings=(-2, -1, 0, 1, 2))
    small = Cluster(workers=4, scratch_bytes=1.5 * simulate(WORK, CONSTANTS, Cluster()).scratch_bytes)
    found = run_simulation(case, CONSTANTS, small)
    scratch = next(limit for limit in found["limits"] if limit["name"] == "scratch")
    assert scratch["share"] == pytest.approx(1 / 1.5)
    assert scratch["breaks_at_bytes"] == pytest.approx(2 * WORK.data_bytes)
    assert {limit.name for limit in limits(simulate(WORK, CONSTANTS, small), small)} == {
        limit["name"] for limit in found["limits"]
    }


def test_tasks_that_carry_the_plan_are_as_many_plans() -> None:
    constants = replace(CONSTANTS, task_bytes=0.0, plans_in_a_task=1.0)
    found = simulate(WORK, constants, Cluster())
    assert found.scheduler_bytes == WORK.lanes * WORK.plan_bytes
