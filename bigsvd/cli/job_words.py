"""Jobs in words: one, many in a table, and one as it changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from bigsvd.cli.console import cut, fitted, rows_of
from bigsvd.jobs.status import JobStatus

COLUMNS = ("id", "state", "submitted", "name", "out", "progress")
_NEXT = {
    "done": "bigsvd info {out}",
    "interrupted": "bigsvd resume {out}",
    "failed": "bigsvd logs {out}; bigsvd resume {out} tries again",
    "cancelled": "bigsvd resume {out} goes on, bigsvd cancel {out} --drop deletes what is finished",
}
_UP, _CLEAR_BELOW = "\x1b[{}F", "\x1b[J"


def described(status: JobStatus) -> str:
    """A job for people, in a few lines; the last says what may be done next."""
    asked = status.asked
    labels = ", ".join(f"{key}={value}" for key, value in asked.labels.items())
    facts = {
        "name": asked.name,
        "labels": labels,
        "data": f"{asked.request.source}, k={asked.request.k}",
        "out": status.out,
        "time": duration(status.seconds),
        "driver": _driver(status),
        "found": _found(status),
        "error": "" if status.error is None else str(status.error),
        "next": _NEXT.get(status.state, "").format(out=status.out),
    }
    lines = [f"  {name:<8}{fact}" for name, fact in facts.items() if fact]
    return "\n".join([f"{asked.id}  {state_of(status)}", *lines])


def state_of(status: JobStatus) -> str:
    """The state with its phase while a job runs, and with its reason while it does not."""
    told = progress_of(status)
    return f"{status.state}: {told}" if told else status.state


def progress_of(status: JobStatus) -> str:
    """Where a job is, or why it is not further; empty where its state says it all."""
    if status.state != "running":
        return status.reason
    return f"{status.phase}, then published" if status.stopping else str(status.phase)


def _driver(status: JobStatus) -> str:
    """Which attempt it is, and by whom as far as that is told; empty before the first."""
    if not status.attempt:
        return ""
    return f"{status.where}, attempt {status.attempt}".removeprefix(", ")


def _found(status: JobStatus) -> str:
    """What would be published now, or was."""
    quality = status.phase.quality
    if quality is None:
        return ""
    passes = "1 pass" if quality.passes == 1 else f"{quality.passes} passes"
    reached = "reached" if quality.converged else "not reached"
    return (
        f"error {quality.relative_error:.6f}, worst residual {quality.max_residual:.2e} after {passes}, "
        f"tolerance {reached}"
    )


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def table(rows: Sequence[dict[str, Any]], stream: TextIO) -> str:
    """Jobs, oldest first, in columns under their names; a terminal gets no line longer than it is wide."""
    cells = [COLUMNS, *(_cells(row) for row in sorted(rows, key=itemgetter("submitted")))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return "\n".join(cut(line, stream) for line in lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    values = row | {"submitted": _moment(row["submitted"]), "out": _from_here(Path(row["out"]))}
    return tuple(str(values[column]) for column in COLUMNS)


def _moment(seconds: float) -> str:
    """The time of today, or the day."""
    when = time.localtime(seconds)
    today = time.localtime()[:3] == when[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d", when)


def _from_here(out: Path) -> str:
    """A path as short as it may be typed."""
    here = Path.cwd()
    return str(out.relative_to(here) if out.is_relative_to(here) else out)


class Board:
    """A job as it changes: a terminal shows it in one place, anything else gets a line for each change."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rows = 0
        self._last = ""

    def show(self, status: JobStatus) -> None:
        """Show how it stands now."""
        if self._stream.isatty():
            self._show_in_place(fitted(described(status), self._stream))
            return
        line = state_of(replace(status, phase=replace(status.phase, bytes_total=0)))
        found = _found(status)
        if found:
            line += f" ({found})"
        if line != self._last:
            self._last = line
            self._stream.write(f"{time.strftime('%H:%M:%S')}  {line}\n")
            self._stream.flush()

    def _show_in_place(self, text: str) -> None:
        up = _UP.format(self._rows) if self._rows else ""
        self._stream.write(f"{up}{_CLEAR_BELOW}{text}\n")
        self._stream.flush()
        self._rows = rows_of(text)
