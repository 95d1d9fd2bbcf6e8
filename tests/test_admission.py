"""Runs that share a cluster's memory: one after the other, unless they fit beside each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.cli.console import Console
from bigsvd.errors import ClusterBusyError
from bigsvd.events import Event, PlanMade, WaitingForCluster, unheard
from bigsvd.execution import admission
from bigsvd.execution.admission import turn_on
from bigsvd.execution.cluster import connected, worker_share_bytes, workers_of
from bigsvd.request import Request
from bigsvd.solve import run
from bigsvd.sources.open import open_source


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "a.zarr"
    zarr.create_array(path, data=np.random.default_rng(0).standard_normal((300, 20)), chunks=(50, 20))
    return path


@pytest.fixture(autouse=True)
def looked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_LOOK_SECONDS", 0.01)


@pytest.fixture
def holding(client: Client) -> Iterator[ExitStack]:
    """A run named "first" has all of the cluster's memory, until this is closed."""
    with ExitStack() as ending:
        ending.enter_context(turn_on(client, Request("first", 2), unheard, lambda: False))
        yield ending


def test_a_second_run_waits_and_says_for_whom(client: Client, data: Path, holding: ExitStack) -> None:
    told: list[Event] = []

    def hear(event: Event) -> None:
        told.append(event)
        if isinstance(event, WaitingForCluster):
            holding.close()

    bigsvd.svd(data, 2, client=client, progress=hear)
    assert told[0] == WaitingForCluster("first", 1)
    assert isinstance(told[1], PlanMade)


def test_one_that_waits_can_be_stopped(
    client: Client, data: Path, holding: ExitStack, tmp_path: Path
) -> None:
    request = Request.of(str(data), 2, out=str(tmp_path / "u"))
    with pytest.raises(ClusterBusyError, match="stopped while waiting for first, as number 1 in line"):
        run(request, open_source(data), client=client, should_stop=lambda: True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ClusterBusyError, match="as number 1 in line"):  # the one before has left
        run(request, open_source(data), client=client, should_stop=lambda: True)


def test_they_are_admitted_in_the_order_in_which_they_came(client: Client, holding: ExitStack) -> None:
    places: dict[str, list[int]] = {"second": [], "third": []}
    admitted: list[str] = []
    waits = {name: threading.Event() for name in places}

    def take(name: str) -> None:
        def hear(event: Event) -> None:
            assert isinstance(event, WaitingForCluster)
            places[name].append(event.place)
            waits[name].set()

        with turn_on(client, Request(name, 2), hear, lambda: False):
            admitted.append(name)

    with ThreadPoolExecutor(2) as threads:
        found = []
        for name in places:
            found.append(threads.submit(take, name))
            assert waits[name].wait(30)
        holding.close()
        for one in found:
            one.result(30)
    assert admitted == ["second", "third"]
    assert places["second"] == [1]
    assert places["third"][0] == 2


def test_runs_that_fit_beside_each_other_do_not_wait(client: Client) -> None:
    share = worker_share_bytes(workers_of(client))

    def beside(memory: int | None) -> Any:
        return turn_on(client, Request("a", 2, memory=memory), unheard, lambda: True)

    with beside(share // 2), beside(share - share // 2):
        for memory in (1, None):
            with pytest.raises(ClusterBusyError), beside(memory):
                pytest.fail("there is no memory left")
    with beside(10 * share):  # nobody is before it
        pass


def test_whose_connection_is_gone_keeps_nobody_waiting(client: Client) -> None:
    with connected(client.scheduler.address) as another:
        assert another is not None
        assert admission._Place(another, Request("dead", 2), 2**60).ask(1).admitted
    with turn_on(client, Request("second", 2), unheard, lambda: True):
        pass


def test_who_is_frozen_keeps_nobody_waiting_for_long(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LEASE_SECONDS", 0.2)
    dead = admission._Place(client, Request("dead", 2), 2**60)
    assert dead.ask(1).admitted
    told: list[Event] = []
    with turn_on(client, Request("second", 2), told.append, lambda: False):
        assert told == [WaitingForCluster("dead", 1)]


def test_one_that_lives_keeps_its_place(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LEASE_SECONDS", 0.5)
    asked = 0

    def patient() -> bool:
        nonlocal asked
        asked += 1
        return asked > 100  # looks of 10 ms at least

    with (
        turn_on(client, Request("first", 2), unheard, lambda: False),
        pytest.raises(ClusterBusyError),
        turn_on(client, Request("second", 2), unheard, patient),
    ):
        pytest.fail("the first has it")


def test_a_run_that_is_continued_does_not_wait_for_itself(client: Client, tmp_path: Path) -> None:
    request = Request("a", 2, out=str(tmp_path / "u"))
    lost = admission._Place(client, request, 2**60)
    assert lost.ask(1).admitted
    with turn_on(client, request, unheard, lambda: True):
        pass


def test_a_person_reads_for_whom(capsys: pytest.CaptureFixture[str]) -> None:
    import sys  # noqa: PLC0415 - what pytest has put there

    Console(sys.stderr)(WaitingForCluster("u", 2))
    assert capsys.readouterr().err == "waiting for u on this cluster, number 2 in line\n"
