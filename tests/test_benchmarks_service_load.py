"""The short lanes of `benchmarks service`: load, soak and fuzz, on real servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.service_soak import growth
from tests.benchmark_runs import check_report_is_made_again


def ran(out: Path, name: str, size: str, *options: str) -> dict[str, Any]:
    """The results of a command that ends well, and whose report is made again of them."""
    ended = CliRunner().invoke(main, ["service", name, *options, "--out", str(out)])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    path = out / f"service-{name}-{size}.json"
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    check_report_is_made_again(results, path)
    return results


def test_one_key_from_all_is_one_job_and_readers_hold_up_nobody_for_long(tmp_path: Path) -> None:
    results = ran(tmp_path, "load", "tiny", "--size", "tiny")
    assert results["jobs_of_one_key"] == 1
    assert [(row["how"], row["readers"]) for row in results["rows"]] == [
        ("burst", 0), ("pace", 0), ("burst", 1), ("pace", 1),
    ]  # fmt: skip
    for row in results["rows"]:
        assert row["jobs"] == len(row["seconds"]) == 10
        assert row["seconds"][-1] < 5
        assert (row["chunks_a_second"] > 0) == (row["readers"] > 0)


def test_a_few_jobs_leave_nothing_open(tmp_path: Path) -> None:
    results = ran(tmp_path, "soak", "4", "--jobs", "4")
    assert results["states"] == {"done": 4}
    assert results["server"][-1]["jobs"] == 4
    assert results["server"][-1]["descriptors"] < 100


def test_no_request_breaks_the_service(tmp_path: Path) -> None:
    """No answer is 5xx, and every one is as the OpenAPI document says."""
    results = ran(tmp_path, "fuzz", "200", "--cases", "200")
    assert results["failures"] == []
    assert results["cases"] > 100
    assert results["server_errors"] == 0
    assert {"200", "404", "422"} <= results["statuses"].keys()


@pytest.mark.parametrize("slope", [0.0, 1.5])
def test_growth_is_that_of_most_samples(slope: float) -> None:
    samples = [{"jobs": jobs, "held": 50 + slope * jobs} for jobs in range(10, 210, 10)]
    samples[0]["held"], samples[9]["held"] = 10.0, 1000.0  # before all is imported, and a peak
    settled, more = growth(samples, "held")
    assert more == pytest.approx(100 * slope)
    assert settled == pytest.approx(50 + slope * 40)
