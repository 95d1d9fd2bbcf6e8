"""Dask clusters that tests start for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster


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
