"""A server as an operator starts it, for the benchmarks of the service: `bigsvd serve` in a process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bigsvd.client.client import Client

_END_SECONDS = 20.0


@dataclass(frozen=True)
class Server:
    """One that answers at `url`, whoever asks."""

    url: str
    process: subprocess.Popen[str]

    def client(self) -> Client:
        """A client of it."""
        return Client(self.url)

    @property
    def held(self) -> tuple[int, int, int]:
        """What it holds now: bytes of memory, open descriptors, threads."""
        process = psutil.Process(self.process.pid)
        with process.oneshot():
            return int(process.memory_info().rss), int(process.num_fds()), int(process.num_threads())


@contextmanager
def serving(root: Path, *options: str) -> Iterator[Server]:
    """A server of a root that asks for no token, at a free port; it has ended afterwards."""
    command = [sys.executable, "-m", "bigsvd", "serve", "--root", str(root), "--port", "0", "--no-token"]
    state = root.parent / f"{root.name}-state"
    with (root.parent / f"{root.name}-server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--state", str(state), *options], stdout=subprocess.PIPE, stderr=log, text=True,
            env=os.environ | {"XDG_STATE_HOME": str(root.parent / "home")},
        )  # fmt: skip
    with process:
        try:
            yield Server(_first_line(process, Path(log.name)), process)
        finally:
            process.terminate()
            _end(process)


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    """The URL that it prints when it answers; what it prints after that is read, and forgotten."""
    if process.stdout is None:
        raise RuntimeError("the server has no output")
    line = process.stdout.readline().strip()
    if not line.startswith("http://"):
        raise RuntimeError(f"the server did not start: {log.read_text()}")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    return line.partition("#")[0].rstrip("/")


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
