"""`Background`: threads that compute large answers, and give way to those that give short ones."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter

T = TypeVar("T")

# By which Linux prefers all other threads, as with `nice`. Beside ten readers of chunks a job was taken in
# within 69 ms (p99) with it and within 537 ms without (`python -m benchmarks service load`).
_NICE = 10


class Background:
    """So many threads of low priority.

    Attributes:
        limiter: who computes, and who waits for a turn.

    """

    def __init__(self, threads: int) -> None:
        self.limiter = CapacityLimiter(threads)
        self._threads = ThreadPoolExecutor(threads, "bigsvd-background", initializer=_give_way)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, which one of the threads computes; once begun it is waited for."""
        work = partial(copy_context().run, work)
        async with self.limiter:
            begun = asyncio.get_running_loop().run_in_executor(self._threads, work)
            with CancelScope(shield=True):
                await asyncio.wait([begun])
        return begun.result()

    def close(self) -> None:
        """Let the threads end; what they compute is finished first."""
        self._threads.shutdown()


def _give_way() -> None:
    """Lower the priority of this thread; only Linux has one for each."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
