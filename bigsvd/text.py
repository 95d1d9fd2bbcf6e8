"""How quantities are written for people."""

from __future__ import annotations

import re
from collections.abc import Iterable

_USER_AND_PASSWORD = re.compile(r"(\w://)[^/\s@]*:[^/\s]*@")
_USER_OF_HTTP = re.compile(r"(https?://)[^/\s]*@")
_QUERY_OF_HTTP = re.compile(r"(https?://[^\s?#'\")>]*)[?#][^\s'\")>]*")


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


def without_credentials(text: str, secrets: Iterable[str] = ()) -> str:
    """A text that may be printed and stored: its URLs without user, password and query, `secrets` hidden.

    Before the @ of an abfs URL stands a container, which stays.
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _USER_AND_PASSWORD.sub(r"\1", text)
    text = _USER_OF_HTTP.sub(r"\1", text)
    return _QUERY_OF_HTTP.sub(r"\1", text)
