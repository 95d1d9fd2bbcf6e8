"""Dask clusters that tests start for themselves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster

from bigsvd.catalog.table import runs_on_dask


@contextmanager
def own_cluster(**options: Any) -> Iterator[Client]:
    """A client of a new local cluster; its pages take any free port, since 8787 may be another cluster's."""
    pages = {"dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(dashboard_address=None, scheduler_kwargs=pages, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def worker_processes(count: int, threads: int = 1, **options: Any) -> Iterator[Client]:
    """A client of so many workers with so many threads each, in processes of their own."""
    with own_cluster(n_workers=count, threads_per_worker=threads, **options) as client:
        yield client


def if_on_dask(client: Client, method: str) -> dict[str, Any]:
    """The option `client` for methods of Dask's own; lanes take half as long on threads, to the same bits."""
    return {"client": client} if runs_on_dask(method) else {}


class Started:
    """A process of a cluster, started by its command, that signals are sent to; it imports what tests do."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def started_scheduler() -> Iterator[tuple[str, Started]]:
    """The address and the process of a scheduler, which is on its way."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    place = ("--host", "127.0.0.1", "--port", port)
    scheduler = Started("distributed.cli.dask_scheduler", *place, "--no-dashboard")
    try:
        yield f"tcp://127.0.0.1:{port}", scheduler
    finally:
        scheduler.end()


@contextmanager
def started_worker(address: str) -> Iterator[Started]:
    """The process of a worker with one thread, which nobody starts again; it is on its way."""
    own = ("--no-nanny", "--no-dashboard", "--nthreads", "1", "--host", "127.0.0.1")
    worker = Started("distributed.cli.dask_worker", address, *own)
    try:
        yield worker
    finally:
        worker.end()
