"""A cluster that somebody else runs: reached, asked and left within limits, whatever state it is in."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import psutil
import pytest
import zarr
from click.testing import CliRunner
from dask import config
from distributed import Client, LocalCluster, Security
from distributed.client import ClosedClientError, FutureCancelledError
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import BigsvdError, NoWorkersError, RequestError, StorageError, VerifyError
from bigsvd.events import BytesRead, Event, PassEnded, PassStarted
from bigsvd.execution import cluster, placement, sent, tasks
from bigsvd.execution.cluster import Tls, Workers, cluster_errors, connected, workers_of
from bigsvd.execution.dask_executor import DaskExecutor, local_client
from bigsvd.execution.executor import Call, announce, results_of
from bigsvd.execution.watch import Patience
from bigsvd.sources.open import open_source
from tests.clusters import Started, own_cluster, started_scheduler, started_worker

A = np.random.default_rng(0).standard_normal((4000, 60)).astype(np.float32) @ np.diag(
    np.linspace(9, 0.1, 60).astype(np.float32)
)


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


@pytest.mark.parametrize(
    "error",
    [
        KilledWorker("lane", SimpleNamespace(address="w"), 3),
        CancelledError("scheduler-connection-lost"),
        CommClosedError("closed"),
        ClosedClientError("closed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_dask_says_of_a_lost_cluster_is_one_error(error: Exception) -> None:
    said = f"lost its workers or its scheduler .{type(error).__name__}"
    with pytest.raises(NoWorkersError, match=said), cluster_errors():
        raise error


def test_why_futures_were_cancelled_is_told_without_their_keys() -> None:
    with pytest.raises(NoWorkersError, match=r"\(FutureCancelledError: connection-lost\);"), cluster_errors():
        raise FutureCancelledError("bigsvd-0123-4567", "connection-lost")


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
    assert told == [f"waits for workers of {empty}"]


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


# TLS

OPENSSL = shutil.which("openssl")


def made_by_openssl(folder: Path, *arguments: str) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificates of two authorities, and for each one certificate that it has signed."""
    if OPENSSL is None:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("own", "other"):
        made_by_openssl(
            folder, "req", "-x509", *curve, "-subj", f"/CN={name} authority", "-days", "2",
            "-keyout", f"{name}-ca.key", "-out", f"{name}-ca.pem",
        )  # fmt: skip
        made_by_openssl(
            folder, "req", *curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        made_by_openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{name}-ca.pem", "-CAkey", f"{name}-ca.key",
            "-CAcreateserial", "-days", "2", "-out", f"{name}.pem",
        )  # fmt: skip
    return folder


def identity(folder: Path, name: str) -> Tls:
    return Tls(folder / f"{name}-ca.pem", folder / f"{name}.pem", folder / f"{name}.key")


@pytest.fixture(scope="module")
def encrypted(authority: Path) -> Iterator[str]:
    """The address of a cluster that speaks to those of its own authority only."""
    own = identity(authority, "own")
    security = Security(
        tls_ca_file=str(own.ca), require_encryption=True,
        **{f"tls_{role}_{kind}": str(path) for role in ("client", "scheduler", "worker")
           for kind, path in (("cert", own.cert), ("key", own.key))},
    )  # fmt: skip
    with own_cluster(n_workers=1, threads_per_worker=1, protocol="tls", security=security) as there:
        yield str(there.scheduler.address)


def test_an_identity_of_its_authority_reaches_a_cluster(
    encrypted: str, authority: Path, tmp_path: Path
) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(200, 60))
    own = identity(authority, "own")
    files = ("--tls-ca", own.ca, "--tls-cert", own.cert, "--tls-key", own.key)
    arguments = ("svd", tmp_path / "a.zarr", tmp_path / "u", "-k", 3, "--scheduler", encrypted, *files)
    ended = CliRunner().invoke(main, [str(argument) for argument in (*arguments, "--quiet")])
    assert ended.exit_code == 0, ended.output
    assert bigsvd.open(tmp_path / "u").k == 3


@pytest.mark.parametrize("who", ["nobody", "other", "unencrypted"])
def test_any_other_is_refused_in_one_line(
    encrypted: str, authority: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1.0)
    address = encrypted.replace("tls://", "tcp://") if who == "unencrypted" else encrypted
    tls = identity(authority, "other") if who == "other" else None
    with pytest.raises((NoWorkersError, RequestError)) as raised, connected(address, tls=tls):
        pytest.fail("it has no certificate of that authority")
    assert len(str(raised.value).splitlines()) == 1
    assert "certificate" in str(raised.value) or "--tls-cert" in str(raised.value)


# Workers that are lost or frozen

SHORT = Patience(least_seconds=1.0)


@pytest.fixture(scope="module")
def two() -> Iterator[Client]:
    """A client of two workers with a thread each, in processes that are started again when they end.

    By default Dask gives up one that takes 15 s to come back, as on a busy machine.
    """
    with (
        config.set({"distributed.deploy.lost-worker-timeout": "300s"}),
        own_cluster(n_workers=2, threads_per_worker=1) as there,
    ):
        yield there


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that outlives its test: a call that was frozen looks in it for leave to go on."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that tests can wait for."""
    monkeypatch.setattr(tasks, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(sent, "ANSWER_SECONDS", 3.0)
    monkeypatch.setattr(cluster, "_WORKER_SECONDS", 2.0)
    monkeypatch.setattr(cluster, "_SILENT_WORKER_SECONDS", 0.5)
    monkeypatch.setattr(placement, "DaskExecutor", lambda client: DaskExecutor(client, SHORT))


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def pids(client: Client) -> dict[str, int]:
    client.wait_for_workers(2, timeout=60)
    found: dict[str, int] = Workers(client).ask(os.getpid)
    return found


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def first_time_stuck(folder: Path, number: int) -> tuple[int, int]:
    """A call that announces something; of number 0 the first task then waits until a file lets it go on."""
    mine = folder / f"{number}-{os.getpid()}"
    mine.touch()
    announce(BytesRead(1))
    if number == 0 and len(list(folder.glob("0-*"))) == 1:
        until((folder / "go").exists)
    return number, os.getpid()


@pytest.mark.usefixtures("quick")
def test_a_call_of_which_nothing_is_heard_goes_to_another_worker_too(two: Client, tmp_path: Path) -> None:
    pids(two)
    read: list[Event] = []
    results: dict[int, Any] = {}
    with DaskExecutor(two, SHORT) as executor, ends_within(20):
        calls = [Call(first_time_stuck, (tmp_path, number)) for number in range(3)]
        executor.carry_out(calls, results.__setitem__, read.append)
    (tmp_path / "go").touch()
    assert {number: result[0] for number, result in results.items()} == {0: 0, 1: 1, 2: 2}
    assert len(list(tmp_path.glob("0-*"))) == 2
    assert sum(event.bytes for event in read if isinstance(event, BytesRead)) == 3


@pytest.mark.usefixtures("quick")
def test_who_is_frozen_keeps_no_other_waiting(two: Client) -> None:
    (address, pid), (other, _) = pids(two).items()
    asked = Workers(two)
    with frozen(pid), ends_within(15):
        assert set(asked.ask(os.getpid)) == {other}
        with ends_within(5):
            assert set(asked.ask(os.getpid)) == {other}
    assert asked.silent == {address}
    until(lambda: len(asked.ask(os.getpid)) == 2)
    assert not asked.silent


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["stored", "sent"])
def test_a_run_goes_on_without_a_worker_that_is_frozen(
    two: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """At the default lifetime of a worker of which Dask hears nothing, 5 minutes; to the same bits."""
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(200, 60))
    options: dict[str, Any] = {"method": "krylov", "memory": "100MB", "tol": 1e-6, "max_passes": 3}
    monkeypatch.setattr("bigsvd.execution.dask_executor._MUCH_TO_SEND_BYTES", 1000)
    chunks = {"stored": tmp_path / "a.zarr", "sent": da.from_array(A, chunks=(200, 60))}
    (_, pid), _ = pids(two).items()
    stopping = threading.Event()

    def freeze(event: Event) -> None:
        if isinstance(event, PassStarted) and not event.sample and not stopping.is_set():
            stopping.set()
            os.kill(pid, signal.SIGSTOP)

    plan = bigsvd.plan(chunks[kind], 4, client=two, **options)
    try:
        with ends_within(90):
            there = bigsvd.svd(chunks[kind], 4, client=two, progress=freeze, **options)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert stopping.is_set()
    assert plan.lanes
    np.testing.assert_array_equal(there.s, bigsvd.svd(chunks[kind], 4, client=two, **options).s)


def slow_or_wrong(folder: Path, number: int) -> None:
    """A call that fails, once another is under way."""
    (folder / f"{number}-{os.getpid()}").touch()
    until(lambda: len(list(folder.glob("?-*"))) == 2)
    if number == 1:
        until((folder / "fail").exists)
        raise RequestError("wrong", "nothing")
    until((folder / "go").exists)


def test_an_error_arrives_though_another_worker_is_frozen(two: Client, tmp_path: Path) -> None:
    """Within 30 s, at the limits as they are."""
    pids(two)
    calls = [Call(slow_or_wrong, (tmp_path, number)) for number in range(2)]
    raised: list[RequestError] = []

    def carry_out() -> None:
        try:
            with DaskExecutor(two) as executor:
                results_of(executor, calls)
        except RequestError as error:
            raised.append(error)

    running = threading.Thread(target=carry_out)
    running.start()
    until(lambda: len(list(tmp_path.glob("?-*"))) == 2)
    [waiting] = tmp_path.glob("0-*")
    with frozen(int(waiting.name.split("-")[1])), ends_within(30):
        (tmp_path / "fail").touch()
        running.join(30)
    (tmp_path / "go").touch()
    assert len(raised) == 1


def read_slowly(source: Any, folder: Path, number: int) -> float:
    """A call that the test lets go on."""
    (folder / f"{number}-{os.getpid()}").touch()
    until((folder / "go").exists)
    return float(source.fresh().read(slice(0, 10), slice(0, 60)).sum())


@contextmanager
def all_killed_once_two_are_begun(workers: dict[str, int], folder: Path) -> Iterator[None]:
    """Meanwhile all workers are killed, as soon as two calls are under way, which then may go on."""

    def kill() -> None:
        until(lambda: len(list(folder.glob("?-*"))) >= 2)
        for pid in workers.values():
            os.kill(pid, signal.SIGKILL)
        (folder / "go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    yield
    killer.join()


@pytest.mark.usefixtures("quick")
def test_what_was_sent_is_sent_again_where_all_workers_die(
    two: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask gives up calls whose parts of the source are lost; those that have none it begins again."""
    monkeypatch.setattr("bigsvd.execution.dask_executor._MUCH_TO_SEND_BYTES", 1000)
    found = pids(two)
    with DaskExecutor(two, SHORT) as executor:
        source = executor.reach(open_source(da.from_array(A, chunks=(200, 60))))
        part = executor.part(source, [(slice(0, 10), slice(0, 60))])
        calls = [Call(read_slowly, (part.source, tmp_path, number)) for number in range(4)]

        with all_killed_once_two_are_begun(found, tmp_path), ends_within(60):
            sums = results_of(executor, calls)
    assert sums == pytest.approx([float(A[:10].sum())] * 4, rel=1e-5)


def wait_for_leave(folder: Path, number: int) -> int:
    """A call that the test lets go on."""
    (folder / f"{number}-{os.getpid()}").touch()
    until((folder / "go").exists)
    return number


@pytest.mark.usefixtures("quick")
def test_calls_go_to_workers_that_come_where_all_of_before_are_gone(two: Client, tmp_path: Path) -> None:
    """Dask lets them wait for ever for workers of the same addresses, though they may go anywhere."""
    found = pids(two)
    calls = [Call(wait_for_leave, (tmp_path, number), home) for number, home in enumerate([*found, *found])]
    with (
        DaskExecutor(two, SHORT) as executor,
        all_killed_once_two_are_begun(found, tmp_path),
        ends_within(60),
    ):
        assert results_of(executor, calls) == [0, 1, 2, 3]


@pytest.mark.usefixtures("quick")
def test_a_result_that_is_lost_before_it_has_come_is_made_again(
    two: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, done = pids(two), tasks.Tasks._done

    def all_killed(self: tasks.Tasks) -> list[str]:
        keys = done(self)
        while keys and found:
            os.kill(found.popitem()[1], signal.SIGKILL)
        return keys

    monkeypatch.setattr(tasks.Tasks, "_done", all_killed)
    calls = [Call(int, (number,), home) for number, home in enumerate(found)]
    with DaskExecutor(two, SHORT) as executor, ends_within(40):
        assert results_of(executor, calls) == [0, 1]


def topics(dask_scheduler: Any) -> tuple[int, int]:
    """How many there are of runs, and of how many a message is kept."""
    names = [str(topic) for topic in dask_scheduler._broker._topics]
    kept = dask_scheduler.get_events()
    return sum(name.startswith("bigsvd-") for name in names), sum(str(t).startswith("bigsvd-") for t in kept)


def test_a_run_has_one_topic_of_which_no_message_is_kept(client: Client) -> None:
    """Dask keeps topics for ever, and the last thousand messages of each."""
    before, _ = client.run_on_scheduler(topics)
    meanwhile: list[tuple[int, int]] = []

    def look(event: Event) -> None:
        if isinstance(event, PassEnded):
            meanwhile.append(client.run_on_scheduler(topics))

    A_there = da.from_array(A, chunks=(200, 60))
    bigsvd.svd(A_there, 4, client=client, method="krylov", tol=1e-6, progress=look)
    assert len(meanwhile) > 2
    assert all(count == before + 1 and kept >= 1 for count, kept in meanwhile)
    assert client.run_on_scheduler(topics)[1] < meanwhile[-1][1]


def listening() -> set[tuple[str, int]]:
    """Where this process can be reached."""
    connections = psutil.Process().net_connections(kind="inet")
    return {(each.laddr.ip, each.laddr.port) for each in connections if each.status == psutil.CONN_LISTEN}


def test_a_cluster_of_our_own_is_reached_from_nowhere_else() -> None:
    before = listening()
    with local_client(1) as own:
        assert own.scheduler.address.startswith("inproc://")
        assert {address for address, _ in listening() - before} <= {"127.0.0.1", "::1"}


def tell_of_bytes() -> None:
    announce(BytesRead(7))


def forget_listener(topic: str, listener: str, dask_scheduler: Any) -> None:
    dask_scheduler.unsubscribe_topic(topic, listener)


def test_a_scheduler_that_has_forgotten_who_listens_is_asked_again(client: Client) -> None:
    """As one does that was started anew, or that a link which was down has cut off."""
    with DaskExecutor(client) as executor:
        for _ in range(2):
            heard: list[Event] = []
            taken: dict[int, Any] = {}
            executor.carry_out([Call(tell_of_bytes, ())], taken.__setitem__, heard.append)
            until(lambda found=heard: found == [BytesRead(7)])  # type: ignore[misc]
            client.run_on_scheduler(forget_listener, executor._topic, client.id)


def harmed(process: Started, number: int, folder: Path) -> threading.Thread:
    """A thread that sends a signal to a process as soon as call 0 is under way."""

    def harm() -> None:
        until(lambda: bool(list(folder.glob("0-*"))))
        process.signal(number)

    for left in folder.glob("0-*"):
        left.unlink()
    thread = threading.Thread(target=harm)
    thread.start()
    return thread


@pytest.mark.usefixtures("quick")
def test_a_cluster_that_is_lost_ends_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an error after which a new attempt may succeed, and within limits, that of leaving it included.

    In turn: the only worker is killed, and another comes; the scheduler is frozen for a while, and killed.
    """
    monkeypatch.setattr(cluster, "_CLOSE_SECONDS", 1.0)
    calls = [Call(first_time_stuck, (tmp_path, number)) for number in range(2)]
    with started_scheduler() as (address, scheduler):
        with (
            started_worker(address) as first,
            connected(address) as client,
            DaskExecutor(client, SHORT) as executor,
        ):
            monkeypatch.setattr(client, "wait_workers_seconds", 1.0)
            harming = harmed(first, signal.SIGKILL, tmp_path)
            with ends_within(30), pytest.raises(NoWorkersError, match="0 workers after 1 s"):
                results_of(executor, calls)
            harming.join()
        with started_worker(address):
            for number in (signal.SIGSTOP, signal.SIGKILL):
                with connected(address) as client, DaskExecutor(client, SHORT) as executor:
                    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 2.0)
                    harming = harmed(scheduler, number, tmp_path)
                    with ends_within(30), pytest.raises(NoWorkersError) as raised:
                        results_of(executor, calls)
                    assert raised.value.infrastructure
                    harming.join()
                    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 20.0)
                (tmp_path / "go").touch()
                scheduler.signal(signal.SIGCONT)
