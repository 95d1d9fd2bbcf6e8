"""What tests of several benchmarks do alike: run a command in this process, and make its report again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main

_ENTRIES = {
    "benchmarks.measure": "run_child",
    "benchmarks.cpu_gpu_child": "main",
    "benchmarks.recommend_child": "main",
}


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


def only_the_first_of_a_kind_is_a_process(patched: pytest.MonkeyPatch) -> None:
    """Of commands `python -m MODULE KIND FOLDER`; for the next of its kind the same function is called here.

    What it is asked and what it answers lies in files of the folder either way.
    """
    real, started = subprocess.run, set[tuple[str, ...]]()

    def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        kind = tuple(command[1:4])
        if kind in started:
            _, module, what, folder = command[1:]
            getattr(import_module(module), _ENTRIES[module])(what, Path(folder))
            return subprocess.CompletedProcess(command, 0, "", "")
        if kind[0] == "-m":
            started.add(kind)
        return real(command, **options)

    patched.setattr(subprocess, "run", run)
