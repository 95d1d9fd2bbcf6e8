"""Random requests in short: a case is what its number says, runs are judged, the report is made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import memory_sweep
from benchmarks.__main__ import main
from benchmarks.data import open_store
from benchmarks.memory_sweep import MOST_BYTES, Case, draw_case, run_case, write_case
from bigsvd.catalog.table import METHODS

TINY = Case(0, (600, 60), "int8", (60, 60), None, "flat", 3, ("--method", "krylov"), 0.8, "resumed")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two small requests by the command, the first given less than it needs and begun before."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    cases = [TINY, replace(TINY, number=1, least_share=2.0, begun="anew", dtype="float32")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_sweep, "draw_case", lambda _, number: cases[number])
        words = ["memory-sweep", "--count", "2", "--data", str(data), "--out", str(out)]
        ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 0, ended.output
    assert not list(data.iterdir())
    text = (out / "memory-sweep-2.json").read_text(encoding="utf-8")
    assert str(data) not in text
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_every_run_stays_within_its_plan(results: dict[str, Any]) -> None:
    assert [row["status"] for row in results["runs"]] == ["done", "done"]
    for row in results["runs"]:
        assert row["exceeded_bytes"] == 0 < row["ratio"] <= 1.0
        assert row["planned_bytes"] <= row["budget_bytes"]


def test_what_is_refused_runs_with_the_budget_that_the_refusal_names(results: dict[str, Any]) -> None:
    refused, accepted = results["runs"]
    assert refused["refused_bytes"] == int(0.8 * refused["least_bytes"])
    assert refused["budget_bytes"] >= refused["least_bytes"]
    assert accepted["budget_bytes"] == 2 * accepted["least_bytes"]
    assert "refused_bytes" not in accepted


def test_the_report_is_made_again_from_its_file(results: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "memory-sweep-2.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    ended = CliRunner().invoke(main, ["report", str(path)])
    assert ended.exit_code == 0, ended.output
    text = " ".join(path.with_suffix(".md").read_text(encoding="utf-8").split())
    assert results["command"] in text
    assert "2 of 2 runs stayed within the bound of their plan" in text
    assert "1 requests were given less than the least that fits" in text
    assert path.with_suffix(".png").stat().st_size > 5_000


def test_the_report_counts_what_exceeded_and_names_what_failed(
    results: dict[str, Any], tmp_path: Path
) -> None:
    first, second = results["runs"]
    runs = [first | {"ratio": 1.2}, second, {**second, "number": 7, "status": "failed", "said": "no room"}]
    path = tmp_path / "memory-sweep-3.json"
    path.write_text(json.dumps(results | {"runs": runs}), encoding="utf-8")
    ended = CliRunner().invoke(main, ["report", str(path)])
    assert ended.exit_code == 0, ended.output
    text = " ".join(path.with_suffix(".md").read_text(encoding="utf-8").split())
    assert "1 of 2 runs stayed within the bound of their plan; the worst used 1.20 of it" in text
    assert "* 7: failed: `no room`" in text


def test_a_matrix_that_no_plan_takes_is_a_failed_row(tmp_path: Path) -> None:
    row = run_case(replace(TINY, k=61), 0, tmp_path, 60.0)
    assert row["status"] == "failed"
    assert row["said"].startswith("error[E_K]")
    assert str(tmp_path) not in row["said"]


def test_cases_are_decided_by_seed_and_number_and_are_of_every_kind() -> None:
    cases = [draw_case(5, number) for number in range(300)]
    assert cases == [draw_case(5, number) for number in range(300)]
    assert cases[0] != draw_case(6, 0)
    assert {case.begun for case in cases} == {"anew", "resumed", "warm"}
    assert {case.spectrum for case in cases} == {"flat", "decay", "steep", "mean", "low"}
    assert {case.options[1] for case in cases} == {"auto", *METHODS}
    assert any(case.shards for case in cases)
    assert any(case.k == "auto" for case in cases)
    assert any(case.shape[0] < case.shape[1] for case in cases)
    assert any(case.chunks[1] < case.shape[1] and case.chunks[0] < case.shape[0] for case in cases)
    assert all(case.data_bytes <= MOST_BYTES for case in cases)


@pytest.mark.parametrize("shards", [None, (240, 60)])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool", "float16", "float64"])
def test_a_case_is_stored_as_it_says(
    tmp_path: Path, dtype: str, shards: tuple[int, int] | None, *, wide: bool
) -> None:
    case = replace(TINY, dtype=dtype, shards=shards)
    if wide:
        turned = shards[::-1] if shards else None
        case = replace(case, shape=(60, 600), chunks=(60, 60), shards=turned)
    write_case(case, tmp_path / "a.zarr", 0)
    array = open_store(tmp_path / "a.zarr")
    assert (array.shape, array.chunks, array.shards) == (case.shape, case.chunks, case.shards)
    values = np.asarray(array[:])
    assert values.dtype == dtype
    assert values.nbytes == case.data_bytes
    assert np.std(values.astype(np.float64)[-20:, -20:]) > 0.1
