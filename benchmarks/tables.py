"""What every report shares: Markdown tables, and the line that says what was measured with what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

_PROSE_WIDTH = 110


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; the first column is words, the others are figures."""
    return [_line(headings), _line(["---"] + ["---:"] * (len(headings) - 1)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def prose(text: str) -> list[str]:
    """Lines of a paragraph."""
    return wrap(text, _PROSE_WIDTH, break_long_words=False, break_on_hyphens=False)


def provenance_lines(results: dict[str, Any]) -> list[str]:
    """Machine, versions, commit, date, and the command that measures it again."""
    machine, versions = results["machine"], results["versions"]
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f"; commit {results['git']['commit'][:12] or 'unknown'}; {results['date']}.",
        "",
        f"`{results['command']}`",
    ]


def human_bytes(size: float) -> str:
    """Decimal units, three digits: 3.2 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if abs(size) < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} EB"


def human_seconds(seconds: float) -> str:
    """The unit that suits: 1.4 ms, 12 s, 3.5 h."""
    for unit, length, most in (
        ("µs", 1e-6, 1e-3),
        ("ms", 1e-3, 1.0),
        ("s", 1.0, 600.0),
        ("min", 60.0, 7200.0),
    ):
        if seconds < most:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"
