"""Reports are made from the results files alone, and can be made again."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.report import REPORTS, regenerate
from benchmarks.service import service

RESULTS = sorted((Path(__file__).parent.parent / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_published_tables_are_those_of_their_results(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    table, plot = regenerate(copy)
    assert table.read_text(encoding="utf-8") == path.with_suffix(".md").read_text(encoding="utf-8")
    assert plot.stat().st_size > 10_000


def test_every_suite_has_a_report_and_a_command() -> None:
    within = {f"service-{name}" for name in service.commands}
    assert set(REPORTS) <= set(main.commands) | within


def test_results_hold_no_paths() -> None:
    for path in RESULTS:
        results = json.loads(path.read_text(encoding="utf-8"))
        assert results["command"].endswith("--out OUT")
