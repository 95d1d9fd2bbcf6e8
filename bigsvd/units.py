"""How quantities and URLs are written for people."""

from __future__ import annotations

import re
from collections.abc import Iterable

_USER_AND_PASSWORD = re.compile(r"(\w://)[^/\s@]*:[^/\s]*@")
_USER_OF_HTTP = re.compile(r"(https?://)[^/\s]*@")
_QUERY_OF_HTTP = re.compile(r"(https?://[^\s?#'\")>]*)[?#][^\s'\")>]*")


def human_bytes(count: float) -> str:
    """``1.5 GB``: in decimal units, as disks and budgets are sold."""
    if abs(count) < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if abs(count) < 1000:
            return f"{count:.1f} {unit}"
    count /= 1000
    return f"{count:.1f} PB"


def round_up(count: int) -> int:
    """The next larger number with two significant digits, so that the printed number is never too small."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step


def without_credentials(text: str, secrets: Iterable[str] = ()) -> str:
    """A text that may be printed and stored: its URLs have no user, password and query, `secrets` are hidden.

    In an abfs URL the name before the @ is that of a container, and stays.
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _USER_AND_PASSWORD.sub(r"\1", text)
    text = _USER_OF_HTTP.sub(r"\1", text)
    return _QUERY_OF_HTTP.sub(r"\1", text)


def source_name(path_or_url: str) -> str:
    """What a request calls a source: its path, or its URL without credentials."""
    return without_credentials(path_or_url.removeprefix("file://"))


def counted_as(count: int, noun: str) -> str:
    """How many of what: "1 panel", "2,000 panels"."""
    return f"{count:,} {noun}" + "s" * (count != 1)
