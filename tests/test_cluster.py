"""A cluster that somebody else runs: reached, asked and left within limits, whatever state it is in."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from bigsvd.errors import BigsvdError, NoWorkersError, RequestError, StorageError, VerifyError
from bigsvd.execution import cluster
from bigsvd.execution.cluster import Tls, connected, workers_of


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def test_which_errors_a_new_attempt_may_mend() -> None:
    assert NoWorkersError("", "").infrastructure
    assert StorageError("", "").infrastructure
    for kind in (BigsvdError, VerifyError, RequestError):
        assert not kind("", "").infrastructure


def test_no_address_is_this_process() -> None:
    with connected(None) as client:
        assert client is None


@pytest.fixture(scope="module")
def empty() -> Iterator[str]:
    """The address of a scheduler without workers."""
    pages = {"dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=0, dashboard_address=None, scheduler_kwargs=pages) as there:
        yield str(there.scheduler_address)


def test_workers_are_waited_for_and_then_no_longer(empty: str) -> None:
    told: list[str] = []
    with (
        ends_within(10),
        pytest.raises(NoWorkersError, match=r"0 workers after 0\.2 s where at least 1 .* --wait-workers"),
        connected(empty, wait_workers_seconds=0.2, tell=told.append),
    ):
        pytest.fail("there are no workers")
    assert told == [f"waiting for workers of {empty}"]


def test_who_accepts_and_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with (
            ends_within(10),
            pytest.raises(NoWorkersError, match=r"no scheduler answers at tcp://127\.\S+ within 0\.5 s"),
            connected(address),
        ):
            pytest.fail("nobody is there")


def test_a_client_is_left_within_a_limit(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the scheduler is frozen, Dask's client would wait for its answer."""

    def hangs(self: Client, timeout: float) -> None:
        raise TimeoutError(f"timed out after {timeout} s.")

    with monkeypatch.context() as patch, connected(client.scheduler.address) as another:
        assert another is not None
        assert workers_of(another)
        patch.setattr(type(another), "close", hangs)
    another.close()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tls://127.0.0.1:1"])
def test_a_tls_identity_must_be_one(tmp_path: Path, address: str) -> None:
    files = [tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem")]
    with (
        pytest.raises(RequestError, match=r"is no tls:// address|ca\.pem is no file"),
        connected(address, tls=Tls(*files)),
    ):
        pytest.fail("there is no identity")
    for file in files:
        file.write_text("not in this format")
    with (
        pytest.raises(RequestError, match=r"is no tls:// address|make no TLS identity"),
        connected(address, tls=Tls(*files)),
    ):
        pytest.fail("there is no identity")


def test_an_address_with_tls_needs_an_identity() -> None:
    with (
        pytest.raises(RequestError, match="no identity is given; give --tls-ca"),
        connected("tls://127.0.0.1:1"),
    ):
        pytest.fail("there is no identity")
