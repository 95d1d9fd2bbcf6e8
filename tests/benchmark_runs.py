"""What tests of several benchmarks do alike: run a command in this process, and make its report again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from benchmarks.__main__ import main


def results_of(words: Sequence[str], path: Path, data: Path, least_plot_bytes: int) -> dict[str, Any]:
    """The results that a command writes to `path`, with a plot beside them; they do not name `data`."""
    ended = CliRunner().invoke(main, [*words, "--data", str(data), "--out", str(path.parent)])
    assert ended.exit_code == 0, ended.output
    assert path.with_suffix(".png").stat().st_size > least_plot_bytes
    text = path.read_text(encoding="utf-8")
    assert str(data) not in text
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def check_report_is_made_again(results: dict[str, Any], path: Path) -> None:
    """`benchmarks report` makes the table, with the command that measured, and the plot of a file."""
    path.write_text(json.dumps(results), encoding="utf-8")
    ended = CliRunner().invoke(main, ["report", str(path)])
    assert ended.exit_code == 0, ended.output
    assert results["command"] in path.with_suffix(".md").read_text(encoding="utf-8")
    assert path.with_suffix(".png").stat().st_size > 5_000
