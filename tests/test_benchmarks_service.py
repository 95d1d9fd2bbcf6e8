"""`benchmarks service kills` with two kills: each job that was acknowledged is made and done once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import service_kills as suite
from benchmarks.__main__ import main
from tests.benchmark_runs import check_report_is_made_again


def test_two_kills(tmp_path: Path) -> None:
    ended = CliRunner().invoke(
        main, ["service", "kills", "--jobs", "4", "--kills", "2", "--out", str(tmp_path)]
    )
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / "service-kills-4.json").read_text(encoding="utf-8"))
    assert (results["right"], len(results["jobs"]), len(results["killed"])) == (4, 4, 2)
    check_report_is_made_again(results, tmp_path / "service-kills-4.json")


@pytest.mark.parametrize(
    ("wrong", "value"),
    [("made", 2), ("done", 2), ("done", 0), ("own_record", False), ("state", "failed"), ("overlaps", 1)],
)
def test_what_is_not_right_is_counted_as_such(wrong: str, value: object) -> None:
    row = {"made": 1, "done": 1, "own_record": True, "state": "done", "overlaps": 0}
    assert suite.is_right(row)
    assert not suite.is_right(row | {wrong: value})
