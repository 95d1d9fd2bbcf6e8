"""An executor that lives only here: threads that take calls from a queue, begun anew for each `carry_out`.

It shows what a new executor takes: this file, and a test class that subclasses the laws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from bigsvd.events import Progress, unheard
from bigsvd.execution.dask_executor import local_client
from bigsvd.execution.executor import NOTHING, Call, Executor, SourcePart, Take, in_task
from bigsvd.machine.offers import Offer, best_first, device_here, offer_of
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.sources.base import Rectangle, Source

Outcome = tuple[int, Any, BaseException | None]


class QueueExecutor:
    """See the module."""

    def __init__(self, threads: int = 2) -> None:
        self._threads = threads

    def machines(self, request: Request) -> list[Offer]:
        """The machine that this process is on, of whose memory a run may take 300 MB unless it is told."""
        found = best_first(request, device_here(request.device))
        return [offer_of(request, request.memory or 3 * 10**8, self._threads, device) for device in found]

    def reach(self, source: Source) -> Source:
        """The source itself."""
        return source

    @contextmanager
    def for_run(self, plan: Plan) -> Iterator[Executor]:
        """A thread for each lane at a time."""
        yield QueueExecutor(plan.threads)

    def carry_out(
        self, calls: Sequence[Call], take: Take, tell: Progress = unheard, stop: Call = NOTHING
    ) -> None:
        """Each thread takes the next call until there is none, or until one has failed."""
        waiting, ended, failed = iter(range(len(calls))), SimpleQueue[Outcome](), Event()

        def work() -> None:
            for number in waiting:  # `next` of one iterator is atomic
                if failed.is_set():
                    return
                try:
                    with in_task("queue", tell):
                        ended.put((number, calls[number].function(*calls[number].arguments), None))
                except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                    ended.put((number, None, error))

        threads = [Thread(target=work) for _ in range(min(self._threads, len(calls)))]
        for thread in threads:
            thread.start()
        try:
            for _ in calls:
                number, result, error = ended.get()
                if error is not None:
                    raise error
                take(number, result)
        except BaseException:
            failed.set()
            stop.function(*stop.arguments)
            raise
        finally:
            for thread in threads:
                thread.join()

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """In this process."""
        return [function(*arguments)]

    def part(self, source: Source, rectangles: list[Rectangle]) -> SourcePart:
        """The source itself."""
        del rectangles
        return SourcePart(source, {})

    def dask_client(self) -> AbstractContextManager[Any]:
        """A client of a cluster embedded in this process."""
        return local_client(self._threads)
