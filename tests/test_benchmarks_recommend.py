"""`benchmarks recommend` at a tiny size: its results, its table and plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from tests.benchmark_runs import check_report_is_made_again, only_the_first_of_a_kind_is_a_process


def test_the_command_writes_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_the_first_of_a_kind_is_a_process(monkeypatch)
    words = ["recommend", "--out", str(tmp_path), "--data", str(tmp_path / "data"), "--seeds", "1"]
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / "recommend-tiny.json").read_text(encoding="utf-8"))
    assert [row["status"] for row in results["stages"]] == ["done", "done"]
    assert results["stages"][-1]["wrong"] == 0
    rows = results["evaluation"]["rows"]
    assert rows["PureSVD k=5"]["ndcg"] > rows["TopPopular"]["ndcg"] > 0
    check_report_is_made_again(results, tmp_path / "recommend-tiny.json")
