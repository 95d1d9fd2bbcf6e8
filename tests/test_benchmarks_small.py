"""`benchmarks small` at a tiny size: its results, its table and the plot, which are made again from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import small as suite
from benchmarks.__main__ import main
from tests.benchmark_runs import check_report_is_made_again

CASES = (
    suite.Case((120, 30)),
    suite.Case((120, 30), options=suite.STANDARDISED),
    suite.Case((400, 30), stored=True),
)


def test_the_command_writes_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "CASES", CASES)
    ended = CliRunner().invoke(main, ["small", "--out", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / "small-tiny.json").read_text(encoding="utf-8"))
    assert [row["case"] for row in results["cases"]] == [
        "120 × 30",
        "120 × 30, center=True, scale=True",
        "400 × 30, stored",
    ]
    for row in results["cases"]:
        assert row["sigma_error"] < 1e-10
        assert 0 < row["least_seconds"] <= row["seconds"]
    assert results["left"]["folders"] == 0
    assert results["command"] == "python -m benchmarks small --size tiny --out OUT"
    check_report_is_made_again(results, tmp_path / "small-tiny.json")
