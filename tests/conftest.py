"""What the tests share: one embedded Dask cluster, and small stored matrices with known singular values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client
from hypothesis import settings

from bigsvd.passes import local_client

settings.register_profile("any speed", deadline=None)  # a busy machine makes no property false
settings.load_profile("any speed")


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A client of a cluster in this process, with two threads."""
    with local_client(2) as active:
        yield active
