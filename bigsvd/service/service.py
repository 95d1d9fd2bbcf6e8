"""`Service`: everything that one server holds while it runs."""

from __future__ import annotations

from contextlib import ExitStack

from anyio import CapacityLimiter

from bigsvd.machine.blas import one_blas_thread
from bigsvd.service.arrays.open_results import Arrays
from bigsvd.service.queue.index import Index
from bigsvd.service.queue.runner import Runner
from bigsvd.service.roots import Roots
from bigsvd.service.settings import Settings
from bigsvd.service.store.database import Database
from bigsvd.service.store.state_lock import StateLock
from bigsvd.service.store.tokens import Links, Tokens
from bigsvd.service.verification import Verifiers

_PLANS_AT_ONCE = 8  # of which each may wait for a cluster, or a slow disk


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
        self._state_lock = StateLock(settings.state)
        self.planning = CapacityLimiter(_PLANS_AT_ONCE)
        self.verifiers = Verifiers(settings.limits.verifications)
        self.runner = Runner(self.database, settings, self.roots, self._state_lock)
        self.index.changed = self.runner.wake
        self._held = ExitStack()

    def __enter__(self) -> Service:
        with ExitStack() as stack:
            if not self.database.is_shared:
                stack.enter_context(self._state_lock)
            stack.callback(self.arrays.close)
            stack.enter_context(one_blas_thread)  # chunks and regions are computed several at a time
            stack.enter_context(self.database)
            stack.enter_context(self.runner)
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()
