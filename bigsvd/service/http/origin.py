"""From which pages requests may come that would change something: only from the service's own."""

from __future__ import annotations

from starlette.datastructures import Headers

from bigsvd.errors import OriginError

SAFE = ("GET", "HEAD", "OPTIONS")


def check_origin(method: str, headers: Headers) -> None:
    """`OriginError` where another page may have sent what would change something.

    Cookies know no ports, and take a page on another port of this machine for the same site: so all of the
    origin counts. Whoever sends a bearer token is no browser that does so by itself; whoever sends neither
    cookie nor origin is none at all.
    """
    if method in SAFE or headers.get("authorization", "").lower().startswith("bearer "):
        return
    if not _is_own(headers):
        raise OriginError(
            f"a page of {headers.get('origin', 'nowhere')} would change something at {headers.get('host')}",
            "use the service's own page, or send a bearer token",
        )


def _is_own(headers: Headers) -> bool:
    """Whether a request comes from a page of the same server, or from no page."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if origin is None:
        return site in ("none", "same-origin") and ("cookie" not in headers or "sec-fetch-site" in headers)
    return origin.partition("://")[2].lower() == headers.get("host", "").lower()
