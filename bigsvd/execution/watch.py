"""Which calls under way are still heard of: the books of a watchdog.

A call is carried out by one task after the other, or by several at a time where one has fallen silent. A task
is heard of by what it announces. One that has announced nothing yet may be waiting for its turn on a worker:
it is silent if that worker is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bigsvd.events import BytesRead, Event, Progress

_LANES_OF_SILENCE = 2.0  # of the longest lane that was expected or seen


@dataclass(frozen=True)
class Patience:
    """How long a task may be silent: `least_seconds`, and longer where a lane takes `lane_seconds`."""

    least_seconds: float = 30.0
    lane_seconds: float = 0.0


PATIENCE = Patience()


@dataclass
class _Task:
    """A task that carries out the call of a `number`: when it was sent, begun, and heard of last."""

    number: int
    sent: float
    begun: float | None = None
    announced: float | None = None
    read_bytes: int = 0


@dataclass
class Watch:
    """The books of one round of calls; `clock` is in seconds.

    Bytes that several tasks of a call read are told once.
    """

    tell: Progress
    patience: Patience
    clock: Callable[[], float] = time.monotonic
    _tasks: dict[str, _Task] = field(default_factory=dict)
    _read_bytes: dict[int, int] = field(default_factory=dict)  # told of each call
    _heard: dict[str, float] = field(default_factory=dict)  # of each worker, when
    _repeats: dict[int, int] = field(default_factory=dict)  # how often a call was sent again, or left alone
    _longest_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, key: str, number: int) -> None:
        """A task of that key carries out a call."""
        with self._lock:
            self._tasks[key] = _Task(number, self.clock())

    def heard(self, key: str, worker: str, event: Event | None) -> None:
        """A task announces an event, or with None that it begins: perhaps again, on another worker."""
        with self._lock:
            now = self._heard[worker] = self.clock()
            task = self._tasks.get(key)
            if task is None:  # its call was carried out by another
                return
            if event is None:
                task.begun, task.announced, task.read_bytes = now, None, 0
                return
            task.announced = now
            if isinstance(event, BytesRead):
                event = self._new_bytes(task, event)
        if event is not None:
            self.tell(event)

    def _new_bytes(self, task: _Task, event: BytesRead) -> BytesRead | None:
        """What no other task of the call has read before."""
        task.read_bytes += event.bytes
        told = self._read_bytes.get(task.number, 0)
        if task.read_bytes < told:
            return None
        self._read_bytes[task.number] = task.read_bytes
        return BytesRead(task.read_bytes - told)

    def ended(self, key: str) -> None:
        """A task has carried out its call."""
        with self._lock:
            task = self._tasks.pop(key)
            if task.begun is not None:
                self._longest_seconds = max(self._longest_seconds, self.clock() - task.begun)

    def forgotten(self, key: str) -> None:
        """Of a task nothing is expected any more."""
        with self._lock:
            del self._tasks[key]

    def repeated(self, number: int) -> None:
        """A call was sent again, or is left alone on purpose: it may be silent for twice as long now."""
        with self._lock:
            self._repeats[number] = self._repeats.get(number, 0) + 1
            for task in self._tasks.values():
                if task.number == number:
                    task.sent = self.clock()

    def suspects(self) -> bool:
        """Whether a task might be overdue, if it is with a worker."""
        with self._lock:
            return any(self._silent_seconds(task) > self._limit(task.number) for task in self._tasks.values())

    def overdue(self, by_worker: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Tasks that have been silent for too long, by key, and the worker each is with."""
        with self._lock:
            return {
                key: worker
                for worker, keys in by_worker.items()
                for key in keys
                if key in self._tasks and self._is_overdue(self._tasks[key], worker)
            }

    def _is_overdue(self, task: _Task, worker: str) -> bool:
        silent = self._silent_seconds(task)
        if task.announced is None and worker in self._heard:
            silent = min(silent, self.clock() - self._heard[worker])
        return silent > self._limit(task.number)

    def _silent_seconds(self, task: _Task) -> float:
        return self.clock() - max(task.sent, task.begun or 0.0, task.announced or 0.0)

    def _limit(self, number: int) -> float:
        """How long a task of that call may be silent."""
        lane = max(self.patience.lane_seconds, self._longest_seconds)
        once = max(self.patience.least_seconds, _LANES_OF_SILENCE * lane)
        return float(once * 2 ** self._repeats.get(number, 0))
