"""Where the tasks of a run are carried out: the protocol, and what a task may say meanwhile.

A task is a call whose result is small: what is large lies in scratch, which every process of a run can reach.
`threads.ThreadExecutor` is the specification, and what a run without a cluster uses; `dask_executor` has
the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from bigsvd.events import Event, Progress, unheard

if TYPE_CHECKING:
    from bigsvd.machine.offers import Offer
    from bigsvd.planning.plan import Plan
    from bigsvd.request import Request
    from bigsvd.sources.base import Rectangle, Source

HERE = "this process"


@dataclass(frozen=True)
class Call:
    """One task: a function with its arguments.

    Attributes:
        home: the worker that should have it, because it has had a call like this before; "" for any.
        device_share: of a worker's GPU that the call takes; only workers that offer one get it then.

    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    home: str = ""
    device_share: float = 0.0


@dataclass(frozen=True)
class SourcePart:
    """What some rectangles need of a source, as the first arguments of `with_source`.

    Attributes:
        source: the part, or what an executor makes one of.
        values: what the part needs besides, by name.

    """

    source: Any
    values: dict[Any, Any]


Take: TypeAlias = Callable[[int, Any], None]
NOTHING = Call(lambda: None, ())


class Executor(Protocol):
    """Carries out calls, in one process or in many.

    Laws: each of the calls is made at least once and its result is taken once, whatever order they end in;
    after the first error those not begun are cancelled, and when the error is raised none is under way;
    events that a call announces are told, and what their listener raises is such an error; `everywhere` calls
    once in each process. The last of its machines multiplies on cores unless a GPU was asked for.
    """

    def machines(self, request: Request) -> list[Offer]:
        """What each of its processes allows a run, best first: a GPU that may be taken, then the cores.

        Raises:
            DeviceError: a GPU was asked for and none can be had. NoWorkersError: there are no processes.

        """

    def reach(self, source: Source) -> Source:
        """The source as its processes can read it; `SourceError` where they cannot."""

    def for_run(self, plan: Plan) -> AbstractContextManager[Executor]:
        """What carries out a run of this plan: at least as many calls at a time as it has lanes."""

    def carry_out(
        self, calls: Sequence[Call], take: Take, tell: Progress = unheard, stop: Call = NOTHING
    ) -> None:
        """Make all calls; `take` gets the number and the result of each as it ends, in the caller's thread.

        `stop` is called everywhere after an error, so that calls under way end soon.

        Raises:
            NoWorkersError: the processes are gone. Else what a call raises, or `take`.

        """

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The results of one call in each process; one that does not answer in time is left out."""

    def part(self, source: Source, rectangles: list[Rectangle]) -> SourcePart:
        """What these rectangles need of a source, sent to where calls are made."""

    def dask_client(self) -> AbstractContextManager[Any]:
        """A client for what Dask computes by itself, on a cluster of its own where there is no other."""


def results_of(executor: Executor, calls: Sequence[Call]) -> list[Any]:
    """The results of calls, in their order."""
    found: dict[int, Any] = {}
    executor.carry_out(calls, found.__setitem__)
    return [found[number] for number in range(len(calls))]


@dataclass
class _Task(threading.local):
    """The call that this thread makes: where, and who listens."""

    worker: str = HERE
    tell: Progress = field(default=unheard)


_TASK = _Task()


@contextmanager
def in_task(worker: str, tell: Progress) -> Iterator[None]:
    """While this lasts, the calling thread carries out a call of an executor."""
    before = _TASK.worker, _TASK.tell
    _TASK.worker, _TASK.tell = worker, tell
    try:
        yield
    finally:
        _TASK.worker, _TASK.tell = before


def announce(event: Event) -> None:
    """Tell whoever has started the call that this thread makes."""
    _TASK.tell(event)


def worker_name() -> str:
    """Where the call that this thread makes is carried out."""
    return _TASK.worker


def with_source(function: Callable[..., Any], source: Source, values: dict[Any, Any], *rest: Any) -> Any:
    """A call of a function on a source of which a part was sent."""
    return function(source.given(values) if values else source, *rest)
