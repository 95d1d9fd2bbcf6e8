"""The runner: claims jobs from the line, begins them, and looks after them until they have ended.

Drivers are processes of their own, or a cluster's: they go on when the server ends, and whichever server has
the job then reads in its record how it stands.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from bigsvd.errors import BigsvdError, MemoryBudgetError, SupersededError
from bigsvd.jobs.attempt import Told
from bigsvd.jobs.record import Launch
from bigsvd.machine.offers import available_memory
from bigsvd.request import Request
from bigsvd.service.logs import tell_of_job
from bigsvd.service.queue.leases import Leases
from bigsvd.service.queue.reconciler import Reconciler
from bigsvd.service.queue.starter import Starter
from bigsvd.service.queue.transitions import Changes, Row, failed
from bigsvd.service.roots import Roots
from bigsvd.service.settings import Settings
from bigsvd.service.store.database import Database
from bigsvd.service.store.state_lock import StateLock
from bigsvd.units import human_bytes

_LOOK_SECONDS = 0.5  # between two looks at jobs at work
_IDLE_SECONDS = 2.0
_GATHER_SECONDS = 0.1  # between two turns, however many jobs come: a hundred at a time are one more turn
_END_SECONDS = 5.0  # for what is being begun
_THREADS = 8

_log = logging.getLogger(__name__)


class Runner:
    """Runs the jobs of a database; a context manager, after which jobs go on, and none is begun any more.

    Once another server has the state folder, of which it has the lock, none is either.
    """

    def __init__(self, database: Database, settings: Settings, roots: Roots, state_lock: StateLock) -> None:
        self._state_lock = state_lock
        self._places = settings.jobs_at_once
        self._leases = Leases(database)
        launch = Launch(settings.scheduler, settings.tls, roots.bounds)
        self._starter = Starter(launch, _memory_of_each(settings), settings.limits.runtime_seconds)
        self._reconciler = Reconciler()
        self._woken, self._ending = threading.Event(), threading.Event()
        self._hands = _Hands(self._attend, _THREADS)
        self._thread = threading.Thread(target=self._run, name="bigsvd-runner", daemon=True)

    def __enter__(self) -> Runner:
        self._hands.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()
        self._thread.join(_END_SECONDS)
        self._hands.join(_END_SECONDS)
        try:
            self._leases.let_go()
        except BigsvdError:
            _log.exception("no other server is told that it may have the jobs of this one: it waits")

    @property
    def memory_bytes(self) -> int | None:
        """That a job may hold whose request names none; None where its workers decide."""
        return self._starter.memory_bytes

    def check_memory(self, request: Request) -> None:
        """`MemoryBudgetError` where a job asks for more than its share of what all may hold together."""
        most = self.memory_bytes
        if most is not None and request.memory is not None and request.memory > most:
            asked = human_bytes(request.memory)
            raise MemoryBudgetError(
                f"memory={asked} is over the {human_bytes(most)} that a job of this service may hold",
                "leave it out, or give no more",
            )

    def pause(self) -> None:
        """Begin no job any more; what is at work goes on. May be called by a signal handler."""
        self._ending.set()
        self._woken.set()

    def wake(self) -> None:
        """Look now: something has been taken in, or is wished."""
        self._woken.set()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._woken.clear()
            pause_seconds = self._turn()
            self._ending.wait(_GATHER_SECONDS)
            self._woken.wait(pause_seconds)

    def _turn(self) -> float:
        """Have all jobs of this server attended to; how long there is nothing to do then."""
        try:
            self._state_lock.check()
            rows = self._leases.renew(self._places)
        except SupersededError:
            _log.exception("another server has the state folder: this one begins no job any more")
            self.pause()
            return 0.0
        except Exception:  # noqa: BLE001 - whatever it is, there is another turn
            _log.exception("the jobs of this server could not be looked at")
            return _IDLE_SECONDS
        for row in rows:
            self._hands.give(row)
        return _LOOK_SECONDS if rows else _IDLE_SECONDS

    def _attend(self, row: Row) -> None:
        """Take one job a step further, and write down what has changed."""
        changes = self._step(row)
        news = {name: value for name, value in changes.items() if row.get(name, _NEVER) != value}
        if news:
            self._save(row["id"], news)

    def _save(self, job: str, news: Changes) -> None:
        """Write down what is new of a job; where that fails, it is found again at the next look."""
        try:
            self._leases.save(job, news)
            tell_of_job(job, news)
        except BigsvdError:
            _log.exception("job %s could not be written down", job, extra={"job": job})
        if "stage" in news:
            self.wake()

    def _step(self, row: Row) -> Changes:
        """What is to be written of it: also by what it fails that nobody has foreseen."""
        try:
            if row["stage"] != "claimed":
                return self._reconciler.look(row)
            if self._ending.is_set():
                return {}
            return self._starter.begin(row, lambda: self._leases.holds(row["id"]))
        except Exception as error:  # noqa: BLE001 - one job that cannot be attended to holds up no other
            _log.exception("job %s could not be attended to", row["id"], extra={"job": row["id"]})
            return _unforeseen(row, error)


def _unforeseen(row: Row, error: Exception) -> Changes:
    """What is written where a step of a job has failed: one that had not begun has failed by that."""
    if row["stage"] == "claimed":
        return failed(error)
    return {"reason": f"cannot be looked at: {Told.of(error).message}"}


_NEVER = object()


class _Hands:
    """A few threads that attend to jobs, to each only one at a time: a disk that hangs holds up no other."""

    def __init__(self, attend: Callable[[Row], None], number: int) -> None:
        self._attend = attend
        self._waiting: SimpleQueue[Row | None] = SimpleQueue()
        self._busy: set[str] = set()
        self._changed = threading.Condition()
        self._number = number

    def start(self) -> None:
        """Make the threads."""
        for _ in range(self._number):
            threading.Thread(target=self._run, name="bigsvd-hand", daemon=True).start()

    def give(self, row: Row) -> None:
        """Have a job attended to, unless it is so already."""
        with self._changed:
            busy = row["id"] in self._busy
            self._busy.add(row["id"])
        if not busy:
            self._waiting.put(row)

    def join(self, seconds: float) -> None:
        """Let the threads end, and wait until nothing is being done, at most for so long."""
        for _ in range(self._number):
            self._waiting.put(None)
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, seconds)

    def _run(self) -> None:
        while (row := self._waiting.get()) is not None:
            try:
                self._attend(row)
            finally:
                self._done(row["id"])

    def _done(self, job: str) -> None:
        with self._changed:
            self._busy.discard(job)
            self._changed.notify_all()


def _memory_of_each(settings: Settings) -> int | None:
    """That a job may hold which says nothing of it; on a cluster its workers decide."""
    if settings.scheduler:
        return None
    together = settings.memory_bytes or available_memory() // 2
    return max(1, together // settings.jobs_at_once)
