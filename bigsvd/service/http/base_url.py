"""How whoever asks calls this server: what links and commands that it tells them begin with."""

from __future__ import annotations

from fastapi import Request


def called_at(request: Request) -> str:
    """The server's URL, without a slash at its end.

    A proxy that speaks TLS in its place says so. Whoever else says so is told URLs that do not work, and
    nobody but them.
    """
    url = request.base_url
    if request.headers.get("x-forwarded-proto") == "https":
        url = url.replace(scheme="https")
    return str(url).rstrip("/")
