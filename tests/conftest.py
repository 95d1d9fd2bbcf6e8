"""What the tests share: one embedded Dask cluster, and small stored matrices with known singular values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client
from hypothesis import settings

from bigsvd.execution.dask_executor import local_client

settings.register_profile("any speed", deadline=None)  # a busy machine makes no property false
settings.load_profile("any speed")


LONGEST_FIRST = ("test_trust", "test_device", "test_publish_crashes", "test_memory", "test_faults_storage")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first: the last of them would leave the other process idle."""
    items.sort(key=lambda item: _turn(item.path.stem))


def _turn(file: str) -> int:
    return LONGEST_FIRST.index(file) if file in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A client of a cluster in this process, with two threads."""
    with local_client(2) as active:
        yield active
