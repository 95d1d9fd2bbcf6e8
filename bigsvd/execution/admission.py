"""Whose turn it is on a cluster that several runs share.

Each run plans with the memory of a whole worker, or with what it is told: two of them would take more than
there is. The scheduler keeps the line: runs come to it in order, and each is admitted as soon as it and all
that are before it fit. Its place is a lease: who has not renewed it, or whose connection is gone, is dead.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigsvd.errors import ClusterBusyError, NoWorkersError
from bigsvd.events import Progress, WaitingForCluster
from bigsvd.execution.cluster import (
    DaskClient,
    await_workers,
    prompt_answer,
    worker_share_bytes,
    workers_of,
)
from bigsvd.request import Request

LEASE_SECONDS = 30.0
_BEATS = 5  # in a lease
_LOOK_SECONDS = 1.0
_END_SECONDS = 2.0  # for which a last renewal is waited for


@contextmanager
def turn_on(
    client: DaskClient | None, request: Request, progress: Progress, should_stop: Callable[[], bool]
) -> Iterator[None]:
    """Wait until a run of this request fits a cluster beside those before it; its memory is then its own.

    Without a client there is nothing to wait for.

    Raises:
        ClusterBusyError: `should_stop` has said so while others had the cluster. NoWorkersError: it has none.

    """
    if client is None:
        yield
        return
    await_workers(client)
    share_bytes = worker_share_bytes(workers_of(client))
    place = _Place(client, request, request.memory or share_bytes)
    try:
        _wait(place, share_bytes, progress, should_stop)
        with _kept(place, share_bytes):
            yield
    finally:
        with suppress(NoWorkersError):  # a place that nobody renews ends by itself
            place.leave()


@dataclass(frozen=True)
class _Answer:
    """Whether it is the turn of who asks; else who is first before it, and how many before it wait too."""

    admitted: bool
    holder: str
    waiting: int


class _Place:
    """The place of a run in a cluster's line; one that is continued on the same machine has it again."""

    def __init__(self, client: DaskClient, request: Request, memory_bytes: int) -> None:
        self._client = client
        self._name = request.out or request.source
        self._token = uuid.uuid4().hex
        if request.out is not None:
            self._token = f"{socket.gethostname()}:{Path(request.out).absolute()}"
        self._bytes = memory_bytes

    def ask(self, share_bytes: int) -> _Answer:
        """Renew the lease, or join the line."""
        asking = (self._token, self._client.id, self._name, self._bytes, share_bytes, LEASE_SECONDS)
        return _Answer(*prompt_answer(self._client, self._client.run_on_scheduler, _asker(), *asking))

    def leave(self) -> None:
        """Give it up."""
        prompt_answer(self._client, self._client.run_on_scheduler, _leaver(), self._token)


def _wait(place: _Place, share_bytes: int, progress: Progress, should_stop: Callable[[], bool]) -> None:
    """Until it is the turn of a place; tell whenever that changes for what it waits."""
    told = None
    while not (found := place.ask(share_bytes)).admitted:
        event = WaitingForCluster(found.holder, found.waiting + 1)
        if event != told:
            progress(event)
            told = event
        if should_stop():
            raise ClusterBusyError(
                f"stopped while waiting for {found.holder}, as number {event.place} in line",
                "run it again later, or with less memory, so that both fit",
            )
        time.sleep(_LOOK_SECONDS)


@contextmanager
def _kept(place: _Place, share_bytes: int) -> Iterator[None]:
    """Renew a place while this lasts."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / _BEATS):
            with suppress(NoWorkersError):  # which the run itself will see
                place.ask(share_bytes)

    thread = threading.Thread(target=renew, name="bigsvd-turn", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_END_SECONDS)


def _asker() -> Callable[..., tuple[bool, str, int]]:
    """What the scheduler, which need not have bigsvd, does for a run that asks: a closure is sent whole."""

    def ask(
        token: str,
        client: str,
        name: str,
        size: int,
        limit: int,
        lease_seconds: float,
        dask_scheduler: Any,
    ) -> tuple[bool, str, int]:
        line: dict[str, dict[str, Any]] = dask_scheduler.task_metadata.setdefault("bigsvd-line", {})
        now = time.monotonic()
        for other, run in list(line.items()):
            if now > run["until"] or run["client"] not in dask_scheduler.clients:
                del line[other]
        mine = line.setdefault(token, {"name": name, "size": size, "admitted": False})
        mine |= {"client": client, "until": now + lease_seconds}
        before = []
        for run in line.values():  # in the order in which they came
            if run is mine:
                break
            before.append(run)
        if not before or sum(run["size"] for run in before) + size <= limit:
            mine["admitted"] = True
        holder = before[0]["name"] if before else ""
        return mine["admitted"], holder, sum(not run["admitted"] for run in before)

    return ask


def _leaver() -> Callable[..., None]:
    """What the scheduler does for a run that has ended."""

    def leave(token: str, dask_scheduler: Any) -> None:
        dask_scheduler.task_metadata.get("bigsvd-line", {}).pop(token, None)

    return leave
