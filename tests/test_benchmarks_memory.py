"""Peak memory against the plan: what the suite runs, and what it says of a run that cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import memory
from benchmarks.data import open_store
from benchmarks.memory import NAMES, SIZES, Size, Store, demands, ensure_store, stores
from tests.benchmark_runs import check_report_is_made_again, results_of

CHOSEN = ("tall", "both-axes")
DEMANDING = ("flat",)
BUDGETS = tuple(budget for budget in memory.BUDGETS if budget.label != "a tenth")  # refused as a quarter is


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    only = [word for name in (*CHOSEN, *DEMANDING) for word in ("--only", name)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(memory, "BUDGETS", BUDGETS)
        found = results_of(["memory", "--size", "tiny", *only], out / "memory-tiny.json", data, 5_000)
    assert "÷ bound" in (out / "memory-tiny.md").read_text(encoding="utf-8")
    return found


def test_the_report_is_made_again_from_its_file(results: dict[str, Any], tmp_path: Path) -> None:
    check_report_is_made_again(results, tmp_path / "memory-tiny.json")


def test_every_store_meets_every_budget(results: dict[str, Any]) -> None:
    assert [(row["name"], row["budget"]) for row in results["runs"]] == [
        *((name, budget.label) for name in CHOSEN for budget in BUDGETS),
        *((name, "of its own") for name in DEMANDING),
    ]


def test_ratios_are_those_of_peak_and_bound(results: dict[str, Any]) -> None:
    done = [row for row in results["runs"] if row["status"] == "done"]
    assert {row["budget"] for row in done} >= {"data fit"}
    for row in done:
        assert row["planned_bytes"] <= row["budget_bytes"]
        assert row["ratio"] == row["peak_memory_bytes"] / row["planned_bytes"] > 0
        assert row["half_used"] == (row["ratio"] >= 0.5)
        assert row["passes"] >= 1
        assert 0 < row["own_peak_bytes"] <= 1.1 * row["peak_memory_bytes"]


def test_a_budget_that_nothing_fits_is_refused_with_its_words(results: dict[str, Any]) -> None:
    refused = [row for row in results["runs"] if row["status"] == "refused"]
    assert [row["budget"] for row in refused] == ["a quarter"] * len(CHOSEN)
    assert all(row["said"].startswith("error[E_MEMORY]") for row in refused)


def test_demanding_runs_stay_within_their_plan(results: dict[str, Any]) -> None:
    rows = [row for row in results["runs"] if row["name"] in DEMANDING]
    given = {demand.store.name: demand.budget_bytes for demand in demands(SIZES["tiny"])}
    for row in rows:
        assert row["budget_bytes"] == given[row["name"]]
        assert row["status"] == "done"
        assert row["ratio"] <= 1.0
        assert row["exceeded_bytes"] == 0


def stores_of(size: Size) -> tuple[Store, ...]:
    return (*stores(size), *(demand.store for demand in demands(size)))


@pytest.mark.parametrize("name", NAMES)
def test_stores_are_as_described(name: str, tmp_path: Path) -> None:
    store = next(store for store in stores_of(Size(600, 40, 20, 2)) if store.name == name)
    array = open_store(ensure_store(store, tmp_path))
    assert (array.shape, array.chunks, array.shards) == (store.shape, store.chunks, store.shards)
    values = np.asarray(array[:], dtype=np.float64)
    assert values.nbytes // 8 * array.dtype.itemsize == store.data_bytes
    assert np.std(values[-20:, -20:]) > (0.05 if store.spectrum == "steep" else 0.5)


@pytest.mark.parametrize("size", SIZES)
def test_stores_of_one_size_have_the_same_bytes(size: str) -> None:
    assert len({store.data_bytes for store in stores(SIZES[size])}) == 1
