"""What the tests share: one embedded Dask cluster, and small stored matrices with known singular values."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client
from hypothesis import settings

from bigsvd.execution.dask_executor import local_client
from bigsvd.machine.blas import one_blas_thread

# More than a hundred processes that tests start import the package: it is compiled once for all of them, also
# where Python was told to leave no compiled files.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MEMORY = Path("/dev/shm")  # noqa: S108
NEEDED_BYTES = 4 * 2**30  # what the folders of all tests hold, and half as much again


def in_memory_where_it_suffices() -> None:
    """Folders of tests lie in memory, unless `TMPDIR` says where: thousands of small files keep a disk busy.

    They are files of Linux there too: synced, renamed, exchanged and locked as on a disk. What tests start
    keeps its own temporary folder.
    """
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    if min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available // 2) > NEEDED_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


in_memory_where_it_suffices()

settings.register_profile("any speed", deadline=None)  # a busy machine makes no property false
settings.load_profile("any speed")


# Those of half a minute and more: the last of them would leave the other processes idle. Those that wait most
# of the time for leases and links follow on those that compute.
LONGEST_FIRST = (
    "test_quality",
    "test_deploy_links",
    "test_memory",
    "test_cluster",
    "test_device",
    "test_deploy_slurm",
    "test_trust",
    "test_jobs",
    "test_fence",
    "test_deploy_compose",
    "test_service_page",
    "test_faults_numbers",
    "test_service_runner",
    "test_publish_crashes",
    "test_benchmarks_faults",
    "test_faults_storage",
    "test_readme_cluster",
    "test_service_attacks",
    "test_service_operations",
    "test_benchmarks_service",
    "test_benchmarks_service_load",
    "test_benchmarks_service_chunks",
    "test_service_server",
    "test_service_upgrade",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, the others by name."""
    items.sort(key=lambda item: _turn(item.path.stem))


def _turn(file: str) -> int:
    return LONGEST_FIRST.index(file) if file in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As many processes test as there are processors: a second thread of LAPACK waits more than it computes.

    Runs hold BLAS to one thread themselves; this is for what they are compared with.
    """
    with one_blas_thread:
        yield


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A client of a cluster in this process, with two threads."""
    with local_client(2) as active:
        yield active
