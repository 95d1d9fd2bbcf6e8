"""Two hosts with a link between them, which can be cut: network namespaces of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@cache
def missing() -> str:
    """Why there can be no such hosts here; empty if there can."""
    if not shutil.which("ip"):
        return "ip is not there (Debian: apt-get install iproute2)"
    name = f"bigsvd-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except OSError as error:
        return f"network namespaces need root ({error})"
    return ""


@dataclass(frozen=True)
class Host:
    """One namespace, its address and its end of the link."""

    name: str
    address: str
    device: str

    def command(self, *words: str) -> list[str]:
        """The same command, on this host."""
        return ["ip", "netns", "exec", self.name, *words]

    def cut(self) -> None:
        """Pull the plug: nobody is told, packets are lost."""
        _ip("-n", self.name, "link", "set", self.device, "down")

    def mend(self) -> None:
        """Put it back."""
        _ip("-n", self.name, "link", "set", self.device, "up")


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts on one link, of this process alone."""
    hosts = [
        Host(f"bigsvd-{os.getpid()}-{number}", f"198.51.100.{number}", f"bs{os.getpid()}-{number}")
        for number in (1, 2)
    ]
    one, other = hosts
    with ExitStack() as ending:
        for host in hosts:
            _ip("netns", "add", host.name)
            ending.callback(_ip, "netns", "delete", host.name)
        ends = ["type", "veth", "peer", "name", other.device, "netns", other.name]
        _ip("-n", one.name, "link", "add", one.device, *ends)
        for host in hosts:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.device)
            _ip("-n", host.name, "link", "set", "lo", "up")
            host.mend()
        yield one, other
