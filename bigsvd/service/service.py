"""`Service`: everything that one server holds while it runs."""

from __future__ import annotations

from contextlib import ExitStack

from anyio import CapacityLimiter

from bigsvd.machine.blas import one_blas_thread
from bigsvd.service.alone import Alone
from bigsvd.service.arrays import Arrays
from bigsvd.service.database import Database
from bigsvd.service.index import Index
from bigsvd.service.roots import Roots
from bigsvd.service.runner import Runner
from bigsvd.service.settings import Settings
from bigsvd.service.tokens import Links, Tokens
from bigsvd.service.verifying import Verifiers

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
        self._alone = Alone(settings.state)
        self.planning = CapacityLimiter(_PLANS_AT_ONCE)
        self.verifiers = Verifiers(settings.limits.verifications)
        self.runner = Runner(self.database, settings, self.roots, self._alone)
        self.index.changed = self.runner.wake
        self._held = ExitStack()

    def __enter__(self) -> Service:
        with ExitStack() as stack:
            if not self.database.is_shared:
                stack.enter_context(self._alone)
            stack.enter_context(one_blas_thread)  # chunks and regions are computed several at a time
            stack.enter_context(self.database)
            stack.enter_context(self.runner)
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()
