"""Dask clusters that tests start for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster


@contextmanager
def worker_processes(count: int) -> Iterator[Client]:
    """A client of so many workers with a thread each, in processes of their own."""
    with (
        LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client
