"""`Service`: everything that one server holds while it runs."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from bigsvd.errors import OutputBusyError, StateBusyError
from bigsvd.machine.blas import one_blas_thread
from bigsvd.results.lock import RunLock, holder_of
from bigsvd.service.arrays import Arrays
from bigsvd.service.database import Database
from bigsvd.service.index import Index
from bigsvd.service.roots import Roots
from bigsvd.service.runner import Runner
from bigsvd.service.settings import Settings
from bigsvd.service.tokens import Links, Tokens

_LOCK = "server.lock"
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 20.0  # for the lease of a server that was killed on another machine, or in a container


class Service:
    """What a server holds; a context manager.

    Raises:
        DatabaseError: its database cannot be used. StateBusyError: another server has its state folder.

    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings)
        self.index = Index(self.database, settings.limits)
        self.tokens = Tokens(self.database)
        self.links = Links(self.database, settings.limits)
        self.roots = Roots(settings)
        self.arrays = Arrays(settings.limits.cache_bytes)
        self.runner = Runner(self.database, settings, self.roots)
        self.index.changed = self.runner.wake
        self._held = ExitStack()

    def __enter__(self) -> Service:
        with ExitStack() as stack:
            if not self.database.is_shared:
                stack.callback(_alone_in(self.settings.state).release)
            stack.enter_context(one_blas_thread)  # chunks and regions are computed several at a time
            stack.enter_context(self.database)
            stack.enter_context(self.runner)
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


def _alone_in(state: Path) -> RunLock:
    """The lock of a state folder, held."""
    lock = RunLock(state / _LOCK, str(state))
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            lock.acquire()
        except OutputBusyError as error:
            holder = holder_of(lock.path)
            here = holder is not None and holder.process.is_of_this_machine
            if here or time.monotonic() > until:
                raise StateBusyError(
                    f"another server has the state folder {state} ({holder})",
                    "stop it, or give this one a state folder of its own, or both a PostgreSQL database",
                ) from error
            time.sleep(_LOOK_SECONDS)
        else:
            return lock
