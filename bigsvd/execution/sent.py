"""Parts of a source that travel to workers once, not with each call that needs them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from distributed import Client

from bigsvd.errors import NoWorkersError
from bigsvd.execution.cluster import ANSWER_SECONDS, Workers, answer, await_workers, here
from bigsvd.sources.base import Source

_SLOWEST_BYTES_A_SECOND = 10**7  # of a network through which parts are sent
_TRIES = 3


class Sent:
    """A part of a source in the memory of workers: sent when a call needs it, and again where it is lost."""

    def __init__(self, part: Source) -> None:
        self._part = part
        self._future: Any = None

    @property
    def key(self) -> str:
        """Its name in the cluster; empty where it has none."""
        return "" if self._future is None else str(self._future.key)

    def forget(self) -> None:
        """Do not count on the worker that had it."""
        self._future = None

    def in_worker(self, client: Client, workers: Workers, near: Collection[str]) -> Any:
        """The part as Dask's future; where it is not with any worker, it is sent to one of those `near`."""
        if self._future is None or self._future.status != "finished":
            self._future = self._sent_again(client, workers, near)
        return self._future

    def _sent_again(self, client: Client, workers: Workers, near: Collection[str]) -> Any:
        """The part, sent to a worker; to another where that one is frozen, or has died just then."""
        for _ in range(_TRIES):
            await_workers(client)  # Dask would wait for one without saying so
            try:
                return self._scattered(client, near)
            except (NoWorkersError, KeyError):  # that is what a scheduler raises that has forgotten a worker
                near = workers.ask(here)
        return self._scattered(client, near)

    def _scattered(self, client: Client, near: Collection[str]) -> Any:
        """The part, sent to one of some workers, or of all."""
        seconds = ANSWER_SECONDS + self._part.carried_bytes / _SLOWEST_BYTES_A_SECOND
        return answer(client, seconds, client.scatter, self._part, hash=False, workers=list(near) or None)
