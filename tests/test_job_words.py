"""What people read of jobs: one, several, and one that changes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from bigsvd.cli import main
from bigsvd.cli.commands import SECTIONS
from bigsvd.cli.job_words import Board, described, duration, state_of, table
from bigsvd.jobs.attempt import Told
from bigsvd.jobs.phase import Phase, Quality
from bigsvd.jobs.record import Asked
from bigsvd.jobs.status import JobStatus
from bigsvd.request import Request

WIDTH = 40
ASKED = Asked("0123456789", Request.of("a.zarr", 5, out="/x/u"), "/x", "me", "first", {"lab": "blue"})
QUALITY = Quality(1, 0.25, 0.03, converged=False)
IN_PASS = Phase("pass", number=2, of=4, bytes_done=50, bytes_total=100, passes_done=1, quality=QUALITY)
RUNNING = JobStatus(ASKED, "/x/u", "running", "", IN_PASS, 1, "process 7 on vm", 1e9, 130.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def test_a_running_job_says_where_it_is_and_what_stopping_would_give() -> None:
    assert described(RUNNING).splitlines() == [
        "0123456789  running: pass 2 of about 4, 50%",
        "  name    first",
        "  labels  lab=blue",
        "  data    a.zarr, k=5",
        "  out     /x/u",
        "  time    2 min",
        "  driver  process 7 on vm, attempt 1",
        "  found   error 0.250000, worst residual 3.00e-02 after 1 pass, tolerance not reached",
    ]
    assert state_of(replace(RUNNING, stopping=True)).endswith("50%, then published")


def test_a_job_that_waits_for_somebody_says_for_what() -> None:
    lost = replace(RUNNING, state="interrupted", reason="its driver has ended")
    assert described(lost).startswith("0123456789  interrupted: its driver has ended\n")
    assert described(lost).endswith("\n  next    bigsvd resume /x/u")
    failed = replace(RUNNING, state="failed", error=Told("E_X", "no", "do", 3))
    assert "\n  error   error[E_X]: no; do\n  next    bigsvd logs /x/u;" in described(failed)


def test_jobs_stand_in_the_order_of_their_submission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    row: dict[str, Any] = {"id": "a" * 10, "state": "done", "name": "", "out": "/x/u", "progress": "w " * 40}
    rows = [row | {"submitted": 2e9}, row | {"submitted": 1e9, "out": str(tmp_path / "u")}]
    heading, first, second = table(rows, io.StringIO()).splitlines()
    assert heading.index("submitted") == first.index("2001-09-") == second.index("2033-05-1")
    assert first.split()[3:5] == ["u", "w"]
    assert max(map(len, table(rows, Terminal()).splitlines())) == WIDTH


def test_a_terminal_shows_a_job_in_one_place() -> None:
    terminal = Terminal()
    board = Board(terminal)
    board.show(RUNNING)
    shown = terminal.getvalue().removeprefix("\x1b[J")
    rows = sum(-(-len(line) // WIDTH) for line in shown.splitlines())
    assert rows > described(RUNNING).count("\n") + 1  # long lines are broken
    board.show(RUNNING)
    assert terminal.getvalue() == f"\x1b[J{shown}\x1b[{rows}F\x1b[J{shown}"


def test_a_file_gets_a_line_for_each_change() -> None:
    file = io.StringIO()
    board = Board(file)
    for phase in (IN_PASS, replace(IN_PASS, bytes_done=90), replace(IN_PASS, number=3, bytes_done=0)):
        board.show(replace(RUNNING, phase=phase, seconds=RUNNING.seconds + phase.bytes_done))
    first, second = (line.partition("  ")[2] for line in file.getvalue().splitlines())
    assert first.startswith("running: pass 2 of about 4 (error 0.25")
    assert second.startswith("running: pass 3 of about 4 (error 0.25")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 s"), (119.0, "119 s"), (3_600.0, "60 min"), (9e3, "2.5 h")]
)
def test_times_are_told_in_units_of_their_size(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_help_lists_every_command_in_full() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(name for name, found in main.commands.items() if not found.hidden)
    shown = main.get_help(click.Context(main, terminal_width=80))
    assert "..." not in shown.partition("Options:")[2]
