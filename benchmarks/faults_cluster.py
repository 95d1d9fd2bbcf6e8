"""A scheduler and workers under the rule ``restart: unless-stopped``, which are there to be killed.

A worker whose scheduler has died ends too and does not come back by itself, whatever its exit code: that is
what supervisors are for, here as in `deploy/`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client

_PAUSE_SECONDS = 0.5  # before a process that has ended is started again
_READY_SECONDS = 60.0


@dataclass
class Supervised:
    """One command that is started again whenever it has ended; its output goes to `log`."""

    command: list[str]
    log: Path
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _closed: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Supervised:
        self._start()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self.send(signal.SIGKILL)
        if self._thread is not None:
            self._thread.join()

    @property
    def pid(self) -> int:
        """Of the process that there is now."""
        return 0 if self._process is None else self._process.pid

    def send(self, number: int) -> None:
        """Send a signal to the process and to those that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.starts += 1

    def _keep(self) -> None:
        while not self._closed.is_set():
            if self._process is not None and self._process.poll() is not None:
                if self._closed.wait(_PAUSE_SECONDS):
                    return
                self._start()
            time.sleep(0.05)
        if self._process is not None:
            self._process.wait()


@dataclass(frozen=True)
class Cluster:
    """A scheduler and its workers."""

    address: str
    scheduler: Supervised
    workers: list[Supervised]

    def await_ready(self) -> None:
        """Return when all workers are there."""
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), Client(self.address, timeout=_READY_SECONDS) as client:
                client.wait_for_workers(len(self.workers), timeout=_READY_SECONDS)
                return
        message = f"the cluster at {self.address} was not ready within {_READY_SECONDS:g} s"
        raise TimeoutError(message)


@contextmanager
def running_cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """So many workers with one thread each, on this machine, and a scheduler that only it can reach."""
    port = _free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [
        *dask,
        "worker",
        address,
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
        "--host",
        "127.0.0.1",
    ]
    with ExitStack() as ending:
        first = ending.enter_context(Supervised(scheduler, folder / "scheduler.log"))
        others = [
            ending.enter_context(
                Supervised(
                    [*worker, "--local-directory", str(folder / f"worker-{number}")], folder / "workers.log"
                )
            )
            for number in range(workers)
        ]
        cluster = Cluster(address, first, others)
        cluster.await_ready()
        yield cluster


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
