"""What was decoded or computed and may be wanted again, up to a limit of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from functools import partial
from typing import TypeAlias

import numpy as np

from bigsvd.results.blocks import Keep, Make

_Name: TypeAlias = tuple[Hashable, Hashable]


class BlockCache:
    """Arrays by whose they are and their key, for all threads of a process.

    Two who want the same array at once make it once. What was not used for longest goes first; an array
    larger than the limit is made and not kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[_Name, np.ndarray] = OrderedDict()
        self._made_now: dict[_Name, Future[np.ndarray]] = {}
        self._lock = threading.Lock()

    def of(self, owner: Hashable) -> Keep:
        """A `Keep` for what belongs to `owner`."""
        return partial(self._get, owner)

    def forget(self, owner: Hashable) -> None:
        """Drop all that belongs to `owner`."""
        with self._lock:
            for name in [name for name in self._kept if name[0] == owner]:
                self.held_bytes -= self._kept.pop(name).nbytes

    def _get(self, owner: Hashable, key: Hashable, make: Make) -> np.ndarray:
        name = (owner, key)
        with self._lock:
            found = self._kept.get(name)
            if found is not None:
                self._kept.move_to_end(name)
                self.hits += 1
                return found
            awaited = self._made_now.get(name)
            if awaited is None:
                self.misses += 1
                promise = self._made_now[name] = Future()
        if awaited is not None:
            return awaited.result()
        return self._make(name, make, promise)

    def _make(self, name: _Name, make: Make, promise: Future[np.ndarray]) -> np.ndarray:
        """Make it, and give it to all who wait for it; or what came instead."""
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                del self._made_now[name]
            promise.set_exception(error)
            raise
        made.flags.writeable = False
        with self._lock:
            del self._made_now[name]
            self._keep(name, made)
        promise.set_result(made)
        return made

    def _keep(self, name: _Name, made: np.ndarray) -> None:
        if made.nbytes > self.limit_bytes:
            return
        self._kept[name] = made
        self.held_bytes += made.nbytes
        while self.held_bytes > self.limit_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.held_bytes -= oldest.nbytes
