"""Tasks in this process, without a cluster: the specification of an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dask.system import cpu_count

from bigsvd.events import Progress, unheard
from bigsvd.execution.dask_executor import DaskExecutor, local_client
from bigsvd.execution.executor import HERE, NOTHING, Call, Executor, SourcePart, Take, in_task
from bigsvd.machine.offers import (
    Offer,
    best_first,
    budget_here,
    device_here,
    offer_of,
    rough_dtypes_here,
)
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.sources.base import Rectangle, Source


class LocalExecutor:
    """The calling thread, which makes one call after the other and can be interrupted in each.

    That is for what comes before a run; the run itself has threads.
    """

    _threads = 1

    def machines(self, request: Request) -> list[Offer]:
        """The machine that this process is on."""
        budget_bytes = request.memory or budget_here()
        found = best_first(request, device_here(request.device))
        rough = rough_dtypes_here()
        return [offer_of(request, budget_bytes, cpu_count(), device, rough) for device in found]

    def reach(self, source: Source) -> Source:
        """The source itself."""
        return source

    @contextmanager
    def for_run(self, plan: Plan) -> Iterator[Executor]:
        """A thread for each lane at a time; for Dask's own methods, a cluster embedded in this process.

        That cluster begins here, before the memory of the run is watched: like the interpreter, it is none of
        the plan's.
        """
        if plan.by_dask:
            gpus = int(plan.has_own_memory)
            with local_client(plan.threads, gpus=gpus) as client, DaskExecutor(client) as executor:
                yield executor
        else:
            with ThreadExecutor(plan.threads) as threads:
                yield threads

    def carry_out(
        self, calls: Sequence[Call], take: Take, tell: Progress = unheard, stop: Call = NOTHING
    ) -> None:
        """See `Executor.carry_out`; after an error nothing is under way that would have to be stopped."""
        del stop
        for number, call in enumerate(calls):
            take(number, _made(call, tell))

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


class ThreadExecutor(LocalExecutor):
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


def _made(call: Call, tell: Progress) -> Any:
    with in_task(HERE, tell):
        return call.function(*call.arguments)
