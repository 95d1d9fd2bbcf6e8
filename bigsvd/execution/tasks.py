"""The calls of one round as tasks of Dask: each is sent until one of its tasks has ended."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from distributed import Client, get_worker, wait

from bigsvd.devices.base import RESOURCE
from bigsvd.errors import NoWorkersError
from bigsvd.events import Event
from bigsvd.execution.cluster import (
    Workers,
    ask_scheduler,
    at_work,
    cluster_errors,
    here,
    no_workers,
    patience_of,
    prompt_answer,
    workers_of,
)
from bigsvd.execution.executor import Call, in_task
from bigsvd.execution.sent import Sent
from bigsvd.execution.watch import Watch

LOOK_SECONDS = 5.0  # without a call that ends, after which workers are looked after
_TASK_WAIT_SECONDS = 0.05
_QUIET_LOOKS = 2
_RESULT_LOOK_SECONDS = 0.5
_RESULT_SECONDS = 60.0  # until a result that is there has come, of a sample up to some 100 MB
_QUIET_SECONDS = 30.0  # for which tasks that were cancelled are waited for
_ENDED = ("memory", "error", "released", "forgotten")  # states of Dask's tasks that nobody runs
_MOST_LOSSES = 3  # of a call together with what it needs: as often as Dask itself sends a task again
_DROPPED = "scheduler-connection-lost"  # why Dask cancels all futures of a client


@dataclass(frozen=True)
class _Task:
    """A task of a call: its future, and the workers that it was sent to; none where any may have it.

    `strict`: whether no others may have it either.
    """

    number: int
    future: Any
    homes: frozenset[str]
    strict: bool


class Tasks:
    """See the module. `topic` is where tasks announce what they do."""

    def __init__(
        self, client: Client, workers: Workers, topic: str, calls: Sequence[Call], watch: Watch
    ) -> None:
        self._client = client
        self._workers = workers
        self._topic = topic
        self._round = f"{topic}-{uuid.uuid4().hex}"
        self._calls = calls
        self._watch = watch
        self._tasks: dict[str, _Task] = {}
        self._losses: dict[int, int] = {}
        self._looked = time.monotonic()
        self._alone_since: float | None = None

    def send(self) -> None:
        """Send every call, each to its home, or to another worker if that one is busy or frozen."""
        self._workers.ask_again()
        trusted = self._trusted()
        for number, call in enumerate(self._calls):
            known = call.home and call.home not in self._workers.silent
            self._send(number, [call.home] if known else trusted)

    @property
    def waiting(self) -> bool:
        """Whether any call has not ended."""
        return bool(self._tasks)

    def ended(self) -> Iterator[tuple[int, Any]]:
        """Numbers and results of calls that have ended, once one has; none if none has for a while.

        Raises:
            NoWorkersError: the scheduler is lost, or too often the workers. Else what a call raised.

        """
        for key in self._done():
            if key not in self._tasks:  # another task of its call has ended with it
                continue
            future = self._tasks[key].future
            if future.status == "error":
                with cluster_errors():
                    future.result()
            else:
                yield from self._result(key)

    def _result(self, key: str) -> Iterator[tuple[int, Any]]:
        """That of a task that has ended; nothing where it is lost, or with a worker that is frozen.

        Then the call is sent again.
        """
        number = self._tasks[key].number
        try:
            with cluster_errors():
                result = self._client.sync(_gathered, self._client, self._tasks[key].future)
        except TimeoutError:
            self._forget(key)
            self._workers.ask(here)
            self._send_apart(number, self._trusted())
        except NoWorkersError as error:
            self._forget(key)
            self._send_what_was_lost(number, error)
        else:
            self._watch.ended(key)
            del self._tasks[key]
            for twin in [twin for twin, task in self._tasks.items() if task.number == number]:
                self._forget(twin)
            yield number, result

    def look_after(self) -> None:
        """Now and then: send calls again that nobody carries out any more.

        Raises:
            NoWorkersError: there have been no workers for too long.

        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        with_workers = self._with_workers()
        overdue = self._watch.overdue(with_workers)
        there = self._able()
        if overdue:
            answering = self._workers.ask(here)
            there = [address for address in there if address in answering]
        self._check_alone(there, now)
        self._send_stranded(there)
        if overdue and there:
            self._send_what_is_frozen(with_workers, there)
            self._send_again(overdue, there)

    def cancel(self) -> None:
        """Have no further task begin."""
        futures = [task.future for task in self._tasks.values()]
        self._tasks.clear()
        prompt_answer(self._client, self._client.cancel, futures)

    def await_end(self) -> None:
        """Wait until no worker runs a task of this round, or will; cancelling stops only those not yet begun.

        A worker hears of it some time after the scheduler, from which a task may be on the way too: none is
        left where two looks find none. Workers that do not answer are not waited for, nor any for long: what
        their tasks still leave in scratch is refused there.
        """
        quiet, deadline = 0, time.monotonic() + _QUIET_SECONDS
        while quiet < _QUIET_LOOKS and time.monotonic() < deadline:
            time.sleep(_TASK_WAIT_SECONDS)
            quiet += 1
            if any(self._workers.ask(_has, self._round).values()):
                quiet = 0

    def _send(self, number: int, homes: Collection[str], near: Collection[str] = ()) -> None:
        """Send a call to one of its `homes`, and what it needs `near` it, unless a worker has that.

        One that needs a GPU goes nowhere else, nor does any while a worker is frozen: Dask lets those that
        have nothing to do take a task that may go anywhere, whether they offer what it needs or not.
        """
        call, key = self._calls[number], f"{self._round}-{uuid.uuid4().hex}"
        strict = call.device_share > 0 or bool(self._workers.silent)
        where: dict[str, Any] = {}
        if homes:
            where = {"workers": list(homes), "allow_other_workers": not strict}
        if call.device_share:
            where["resources"] = {RESOURCE: call.device_share}
        arguments = [self._sent(given, near) for given in call.arguments]
        self._watch.sent(key, number)
        with cluster_errors():
            future = self._client.submit(
                _made_in_worker, self._topic, key, call.function, *arguments, key=key, pure=False, **where
            )
        self._tasks[key] = _Task(number, future, frozenset(homes), strict)

    def _sent(self, given: Any, near: Collection[str]) -> Any:
        """An argument of a call as it is given to Dask."""
        if not isinstance(given, Sent):
            return given
        return given.in_worker(self._client, self._workers, near or self._trusted())

    def _trusted(self) -> list[str]:
        """Workers that take such calls and have answered the last time; empty for any, where all have."""
        silent = self._workers.silent
        return [address for address in self._able() if address not in silent] if silent else []

    def _send_apart(self, number: int, others: Collection[str]) -> None:
        """Send a call to one of other workers with all that it needs; to any where there are none."""
        for part in self._parts(number):
            part.forget()
        self._send(number, others, others)

    def _send_stranded(self, there: Collection[str]) -> None:
        """Send calls again whose workers are all gone, unless another has them.

        Dask gives a call that may go anywhere to another worker, but not where none is left at that moment:
        then it waits for one of the same address, and takes no notice of those that come
        (`SchedulerState.valid_workers` knows nothing of `allow_other_workers`).
        """
        homeless = {key for key, task in self._tasks.items() if task.homes and task.homes.isdisjoint(there)}
        if any(not self._tasks[key].strict for key in homeless):
            homeless -= {key for keys in ask_scheduler(self._client, "processing").values() for key in keys}
        for key in homeless:
            number = self._tasks[key].number
            self._forget(key)
            self._send(number, self._trusted())

    def _send_what_was_lost(self, number: int, error: NoWorkersError) -> None:
        """Send a call again that Dask has given up, as it does where what was sent of a source is lost.

        Raises:
            NoWorkersError: the `error`, where the scheduler is lost, or the call for the fourth time.

        """
        self._losses[number] = self._losses.get(number, 0) + 1
        if self._losses[number] > _MOST_LOSSES or getattr(error.__cause__, "reason", "") == _DROPPED:
            raise error
        self._send_apart(number, self._trusted())

    def _parts(self, number: int) -> list[Sent]:
        """What a call needs of a source that was sent to workers."""
        return [given for given in self._calls[number].arguments if isinstance(given, Sent)]

    def _forget(self, key: str) -> None:
        """Let go of a task: its future is released, and Dask does not begin it."""
        del self._tasks[key]
        self._watch.forgotten(key)

    def _done(self) -> list[str]:
        """Keys of tasks that have ended, or were cancelled, once there is one; or none after a while."""
        futures = {key: task.future for key, task in self._tasks.items()}
        try:
            wait(list(futures.values()), LOOK_SECONDS, return_when="FIRST_COMPLETED")
        except TimeoutError:
            return []
        except CancelledError:
            pass  # those are among the ended
        return [key for key, future in futures.items() if future.done()]

    def _able(self) -> list[str]:
        """Workers that take such calls."""
        on_device = any(call.device_share for call in self._calls)
        there = at_work(workers_of(self._client))
        return [address for address, worker in there.items() if offers_gpu(worker) or not on_device]

    def _with_workers(self) -> dict[str, list[str]]:
        """Which tasks each worker has; nothing where that is not to be known, since all are heard of."""
        if not self._watch.suspects():
            return {}
        found: dict[str, list[str]] = ask_scheduler(self._client, "processing")
        return found

    def _send_what_is_frozen(self, with_workers: dict[str, list[str]], there: Sequence[str]) -> None:
        """Send calls to others that workers have which do not answer, or that need a part only these have.

        What those workers still do of them does not count.
        """
        silent = self._workers.silent
        frozen = {key for worker in silent for key in with_workers.get(worker, ())}
        for key in (frozen & self._tasks.keys()).union(self._in_want(silent)):
            number = self._tasks[key].number
            self._forget(key)
            self._send_apart(number, there)

    def _in_want(self, silent: frozenset[str]) -> list[str]:
        """Tasks that need a part of the source which only workers have that do not answer."""
        needed = {key: [part.key for part in self._parts(task.number)] for key, task in self._tasks.items()}
        parts = [part for several in needed.values() for part in several]
        if not parts or not silent:
            return []
        holders = ask_scheduler(self._client, "who_has", keys=parts)
        return [
            key
            for key, several in needed.items()
            if any(silent.issuperset(holders[part]) for part in several)
        ]

    def _send_again(self, overdue: dict[str, str], there: Sequence[str]) -> None:
        """Send calls to others too of whose tasks nothing is heard, though their workers answer."""
        for key, worker in overdue.items():
            if key in self._tasks:
                number = self._tasks[key].number
                self._watch.repeated(number)
                others = [address for address in there if address != worker]
                if others:
                    self._send_apart(number, others)

    def _check_alone(self, there: Collection[str], now: float) -> None:
        """`NoWorkersError` where nobody has been there for as long as the client's owner waits."""
        if there:
            self._alone_since = None
            return
        self._alone_since = self._alone_since or now
        if now - self._alone_since > patience_of(self._client):
            raise no_workers(patience_of(self._client))


def offers_gpu(worker: dict[str, Any]) -> bool:
    """Whether a worker, as the scheduler knows it, was started with a GPU to offer."""
    return bool((worker.get("resources") or {}).get(RESOURCE, 0) >= 1)


async def _gathered(client: Client, future: Any) -> Any:
    """The result of a task that has ended; `TimeoutError` where it is lost, or its worker does not send it.

    Where a worker is gone Dask has the task made again, and `Future.result` would wait for that.
    """
    gathering = asyncio.ensure_future(client.gather(future, asynchronous=True))
    deadline = time.monotonic() + _RESULT_SECONDS
    while not gathering.done():
        await asyncio.wait([gathering], timeout=_RESULT_LOOK_SECONDS)
        if not gathering.done() and (future.status != "finished" or time.monotonic() > deadline):
            gathering.cancel()
            raise TimeoutError
    return gathering.result()


def _made_in_worker(topic: str, key: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """A call, in a worker; what it announces goes to the topic, in a dictionary to which Dask adds a name."""
    worker = get_worker()

    def tell(event: Event) -> None:
        worker.log_event(topic, {"task": key, "event": event.to_dict()})

    worker.log_event(topic, {"task": key, "event": None})
    with in_task(worker.address, tell):
        return function(*arguments)


def _has(keys: str, dask_worker: Any) -> bool:
    """In a worker: whether it runs a task whose key begins so, or is to."""
    tasks = dask_worker.state.tasks.items()
    return any(str(key).startswith(keys) and task.state not in _ENDED for key, task in tasks)
