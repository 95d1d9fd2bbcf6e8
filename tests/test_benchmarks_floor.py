"""Passes against the idealised loop: that the loop makes the products, and what the ratios mean."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from zarr.storage import MemoryStore

import bigsvd
from benchmarks import report_floor
from benchmarks.__main__ import main
from benchmarks.data import open_store
from benchmarks.floor import (
    NAMES,
    SHAPES,
    SIZES,
    Shape,
    ensure_shape,
    of_round,
    run_floor,
    serial_share,
    sides,
    times_beside,
)
from benchmarks.floor_child import known
from benchmarks.floor_loop import FloorLoop, Standardizing
from benchmarks.peers import SEED
from benchmarks.slow_store import SlowStore
from bigsvd.sources.open import open_source
from bigsvd.sources.transposed import streamed
from tests.benchmark_runs import results_of

CHOSEN, STACKED = "int8-variants", "stacked-1"
TINY = SIZES["tiny"]
COLUMNS = 7


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    words = ["floor", "--size", "tiny", "--repeat", "1", "--only", CHOSEN, "--only", STACKED]
    return results_of(words, out / "floor-tiny.json", data, 10_000)


def row_of(results: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = (row for row in results["shapes"] if row["name"] == name)
    assert isinstance(found, dict)
    return found


def test_passes_are_held_against_those_over_the_matrix(results: dict[str, Any]) -> None:
    row = row_of(results, STACKED)
    assert (row["status"], row["shape"]) == ("done", [5, 2_000, 20])
    assert 0.2 < row["times_beside"] < 5.0
    assert f"| float32, 3-D, time second | float32 | {row['times_beside']:.2f} |" in report_floor.markdown(
        results
    )


def test_passes_are_compared_by_round_and_as_many_of_them() -> None:
    def run(*seconds: float) -> dict[str, Any]:
        return {"2": {"passes": [{"seconds": each} for each in seconds]}}

    rounds, beside = [run(2.0, 4.0), run(3.0), run(9.0)], [run(1.0), run(1.0, 7.0), run(1.0)]
    assert times_beside(rounds, beside) == 3.0


def test_ratios_are_of_passes_and_loops_of_the_same_round_and_width(results: dict[str, Any]) -> None:
    row = row_of(results, CHOSEN)
    assert row["status"] == "done"
    [found] = row["rounds"]
    for threads, run in found.items():
        assert run["threads"] == int(threads)
        assert run["transposed"]
        ratios = row["by_threads"][threads]
        seconds = [each["seconds"] for each in run["passes"]]
        floors = [each["floor"]["seconds"] for each in run["passes"]]
        assert ratios["first"] == seconds[0] / floors[0]
        assert ratios["run"] == run["seconds"] / sum(floors)
        assert run["seconds"] > sum(seconds)
        assert 0 < ratios["busy"] < 1.5 * int(threads)
        widths = {each["columns"]: each["floor"] for each in run["passes"]}
        assert all(each["floor"] == widths[each["columns"]] for each in run["passes"])


def test_the_report_is_made_again_from_its_file(results: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "floor-tiny.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    ended = CliRunner().invoke(main, ["report", str(path)])
    assert ended.exit_code == 0, ended.output
    assert results["command"] in path.with_suffix(".md").read_text(encoding="utf-8")


def test_a_shape_that_fails_is_told_beside_the_others(results: dict[str, Any], data: Path) -> None:
    failing = run_floor(replace(TINY, memory="1kB"), data, ["float32"], 1, 300.0, lambda _: None)
    [row] = failing["shapes"]
    assert row["status"].startswith("failed: ")
    assert "but the budget is 1.0 kB" in row["status"]
    assert str(data) not in row["status"]
    both = report_floor.markdown({**results, "shapes": [*results["shapes"], row]})
    assert f"* float32: {row['status']}" in both


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_stores_are_as_described(shape: Shape, data: Path) -> None:
    path = ensure_shape(shape, TINY, data)
    array = open_store(path)
    long, _ = sides(shape, TINY)
    assert array.shape == shape.arranged(long, shape.stacked(TINY))
    assert array.dtype == shape.dtype
    across = [-(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    assert sum(number > 1 for number in across) == (2 if shape.layout == "both-axes" else 1)
    assert bool(np.isnan(np.asarray(array[:], np.float64)).any()) == (shape.content == "gaps")
    assert ensure_shape(shape, TINY, data) == path


def decomposed(values: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if options.get("center"):
        mean = np.nanmean(values, axis=0)
        values = np.where(np.isnan(values), mean, values) - mean
    if options.get("scale"):
        values = values / values.std(axis=0)
    return values


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_the_loop_multiplies_what_is_decomposed(shape: Shape, threads: int, ahead: bool, data: Path) -> None:
    path, reading = ensure_shape(shape, TINY, data), shape.reading
    transposed = shape.layout == "wide"
    stored = np.asarray(open_store(path)[:], np.float64)
    if shape.dim is not None:
        stored = np.moveaxis(stored, shape.dim, 0).reshape(sides(shape, TINY))
    B = decomposed(stored, shape.options)
    B = B.T if transposed else B
    standardizing = Standardizing(
        np.nanmean(stored, axis=0) if shape.options.get("center") else None,
        1 / stored.std(axis=0) if shape.options.get("scale") else None,
        shape.options.get("missing") == "mean",
        axis=0 if transposed else 1,
    )
    loop = FloorLoop(
        streamed(open_source(path, **reading), transposed=transposed), 130, standardizing, threads, ahead
    )
    dtype = "float64" if shape.dtype == "float64" else "float32"
    Q = np.random.default_rng(SEED).standard_normal((B.shape[1], COLUMNS))
    swept = loop.sweep(COLUMNS, dtype)
    Z = B.T @ (B @ Q)
    eps = np.finfo(dtype).eps
    assert np.abs(swept.Z - Z).max() <= 100 * eps * np.abs(Z).max()
    assert np.array_equal(loop.sweep(COLUMNS, dtype).Z, swept.Z)
    assert min(swept.spent.reading, swept.spent.making, swept.spent.multiplying) > 0


@pytest.mark.parametrize(("serial", "gain"), [(0.0, 1.3), (0.5, 2.0), (2.0, 1.2)])
def test_the_serial_share_is_what_does_not_shrink_as_the_loop_does(serial: float, gain: float) -> None:
    one, two = serial + 3.0, serial + 3.0 / gain
    assert serial_share(one, two, gain) == pytest.approx(serial / two, abs=1e-12)


def test_there_is_no_serial_share_where_the_loop_gains_nothing() -> None:
    assert serial_share(3.0, 3.0, 1.05) is None


def test_a_run_of_one_pass_has_no_later_ones() -> None:
    run = {
        "seconds": 3.0,
        "cpu_seconds": 4.5,
        "seconds_in_run": 2.5,
        "predicted_seconds": 5.0,
        "seconds_by_part": {"passes": 2.0},
        "passes": [{"seconds": 2.0, "floor": {"seconds": 1.0}}],
    }
    found = of_round(run)
    assert (found["first"], found["later"], found["run"]) == (2.0, None, 3.0)
    assert (found["busy"], found["predicted"]) == (1.5, 2.0)


@pytest.mark.parametrize("columns", [{}, {"columns": 0}, {"columns": 1_000}])
def test_a_pass_of_unknown_width_is_not_compared(columns: dict[str, int]) -> None:
    plan = bigsvd.plan(np.ones((1_000, 100)), 2, method="krylov")
    with pytest.raises(ValueError, match=f"a pass of a plan of {plan.width} columns had"):
        known({"seconds": 1.0, **columns}, plan)


def test_a_slow_store_takes_its_time_for_all_readers_together() -> None:
    values = np.random.default_rng(0).standard_normal((100, 100))
    memory, rate = MemoryStore(), 400_000.0
    zarr.create_array(memory, data=values, chunks=(25, 100), compressors=None)
    array = zarr.open_array(SlowStore(memory.with_read_only(True), rate), mode="r")
    start = time.perf_counter()
    assert np.array_equal(np.asarray(array[:]), values)
    assert time.perf_counter() - start >= values.nbytes / rate
