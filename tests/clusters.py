"""Dask clusters that tests start for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster


@contextmanager
def worker_processes(count: int) -> Iterator[Client]:
    """A client of so many workers with a thread each, in processes of their own."""
    with (
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # 8787 may be another cluster's
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
