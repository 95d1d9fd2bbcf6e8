"""`benchmarks faults` with three deaths: each job ends with the bits of an undisturbed run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import faults as suite
from benchmarks.__main__ import main
from tests.benchmark_runs import check_report_is_made_again

KILLED = ("all workers", "scheduler", "driver")


def test_three_deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(suite, "DEATHS", {name: suite.DEATHS[name] for name in KILLED})
    monkeypatch.setitem(suite.SIZES, "tiny", suite.Size((3_000, 600), 6, 10))
    ended = CliRunner().invoke(main, ["faults", "--kills", "3", "--out", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / "faults-tiny.json").read_text(encoding="utf-8"))
    assert [row["death"] for row in results["kills"]] == list(KILLED)
    for row in results["kills"]:
        assert row["same_bits"]
        # Those in flight. On a busy machine a lane of which nothing is heard goes to another worker, too.
        assert row["lanes_again"] <= 4 * suite.WORKERS
        assert row["lanes_again"] < results["undisturbed"]["lanes"] // 2
    assert results["kills"][2]["attempts"] == 2
    assert results["blind"]["right"] == results["blind"]["records"] == 10
    check_report_is_made_again(results, tmp_path / "faults-tiny.json")
