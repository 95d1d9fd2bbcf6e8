"""One server has a state folder: it holds a lock there, and knows when it has lost it."""

from __future__ import annotations

import time
from pathlib import Path

from bigsvd.errors import OutputBusyError, StateBusyError
from bigsvd.results.lock import RunLock, holder_of

_LOCK = "server.lock"
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 20.0  # for the lease of a server that was killed on another machine, or in a container


class StateLock:
    """The lock of a state folder; a context manager.

    Raises:
        StateBusyError: another server has the folder.

    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._lock = RunLock(state / _LOCK, str(state))

    def __enter__(self) -> StateLock:
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self._lock.acquire()
            except OutputBusyError as error:
                if self._is_hopeless() or time.monotonic() > until:
                    raise self._busy() from error
                time.sleep(_LOOK_SECONDS)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def check(self) -> None:
        """`SupersededError` where another server has taken over, since this one was frozen for too long."""
        self._lock.renew()

    def _is_hopeless(self) -> bool:
        """Whether the holder is known to live."""
        holder = holder_of(self._lock.path)
        return holder is not None and holder.process.is_of_this_machine

    def _busy(self) -> StateBusyError:
        return StateBusyError(
            f"another server has the state folder {self._state} ({holder_of(self._lock.path)})",
            "stop it, or give this one a state folder of its own, or both a PostgreSQL database",
        )
