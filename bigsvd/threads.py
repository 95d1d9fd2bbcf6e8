"""Tasks on threads of this process, without a cluster: the specification of an executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any

from bigsvd.dask_executor import local_client
from bigsvd.events import Progress, unheard
from bigsvd.executor import HERE, NOTHING, Call, SourcePart, Take, in_task
from bigsvd.sources.base import Rectangle, Source


class ThreadExecutor:
    """Some threads of this process. A context manager: they end with it."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bigsvd-lane")

    def __enter__(self) -> ThreadExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def carry_out(
        self, calls: Sequence[Call], take: Take, tell: Progress = unheard, stop: Call = NOTHING
    ) -> None:
        """See `Executor.carry_out`."""
        futures: dict[Future[Any], int] = {}
        try:
            for number, call in enumerate(calls):
                futures[self._pool.submit(_made, call, tell)] = number
            waiting = set(futures)
            while waiting:
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ended:
                    take(futures[future], future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            stop.function(*stop.arguments)
            wait(futures)
            raise

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See `Executor.everywhere`."""
        return [function(*arguments)]

    def part(self, source: Source, rectangles: list[Rectangle]) -> SourcePart:
        """The source itself: nothing has to be sent."""
        del rectangles
        return SourcePart(source, {})

    def dask_client(self) -> AbstractContextManager[Any]:
        """A client of a cluster embedded in this process, which two methods need."""
        return local_client(self._threads)


def _made(call: Call, tell: Progress) -> Any:
    with in_task(HERE, tell):
        return call.function(*call.arguments)
