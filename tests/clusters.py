"""Dask clusters that tests start for themselves."""

from __future__ import annotations

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
