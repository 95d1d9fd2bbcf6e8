"""How quantities are written for people."""

from __future__ import annotations


def human_bytes(count: float) -> str:
    """``1.5 GB``: decimal units, as disks and budgets are sold."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} PB"


def round_up(count: int) -> int:
    """The next number with two significant digits, so that what is printed is never too little."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step
