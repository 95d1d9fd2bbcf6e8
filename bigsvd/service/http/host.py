"""By which names a server may be called: a page may point a name of its own here (DNS rebinding)."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from bigsvd.errors import HostError
from bigsvd.service.settings import Settings

_ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - such a server has whatever addresses its machine has


class Names:
    """By which a server may be called: where it listens, what its operator says, addresses it may have."""

    def __init__(self, settings: Settings) -> None:
        self._anywhere = settings.host in _ANYWHERE
        self._here = self._anywhere or is_loopback(settings.host)
        self._known = {name.lower() for name in (settings.host, *settings.hosts)}

    def check(self, host: str) -> None:
        """`HostError` where a server is called by another name."""
        name = _without_port(host)
        if not (name in self._known or self._is_address(name)):
            raise HostError(
                f"this server is not called {host!r}", "the operator adds a name by the setting hosts"
            )

    def _is_address(self, name: str) -> bool:
        if is_loopback(name):
            return self._here
        return self._anywhere and _is_number(name)


def _without_port(host: str) -> str:
    """The name in a Host header, lowercase; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Whether a name is that of the same machine, seen from itself."""
    return name == "localhost" or (_is_number(name) and ip_address(name).is_loopback)


def _is_number(name: str) -> bool:
    """Whether a name is an address: nobody can point that elsewhere."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
