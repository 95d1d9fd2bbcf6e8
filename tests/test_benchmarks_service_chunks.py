"""`benchmarks service chunks` with two of the ways to cut a reader off: no chunk of it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import service_chunks as suite
from benchmarks.__main__ import main
from tests.benchmark_runs import check_report_is_made_again


def test_readers_that_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "EVENTS", ("token revoked", "server killed"))
    monkeypatch.setattr(suite, "READERS", {"fsspec": suite.by_fsspec})
    ended = CliRunner().invoke(main, ["service", "chunks", "--out", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / "service-chunks-tiny.json").read_text(encoding="utf-8"))
    assert [row["event"] for row in results["walks"]] == ["token revoked", "server killed"]
    for row in results["walks"]:
        assert (row["equal"], row["refused"], row["nan"]) == (row["before"], 3, 0)
    assert results["wrong"] == 0
    assert [row["connections"] for row in results["times"]["by_http"]] == list(suite.CONNECTIONS)
    assert all(row["ratio"] > 0 for row in results["times"]["by_http"])
    assert [row["array"] for row in results["times"]["kept_or_not"]] == ["reconstruction", "levels/0"]
    assert all(row["ratio"] > 0 for row in results["times"]["kept_or_not"])
    check_report_is_made_again(results, tmp_path / "service-chunks-tiny.json")
