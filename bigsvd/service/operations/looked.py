"""`Looked`: what may take long to find out, for people who do not wait long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

_Found = TypeVar("_Found")
_FRESH_SECONDS = 2.0  # for which what was found is still said


class Looked(Generic[_Found]):
    """What somebody looks for in a thread of its own, so that whoever asks waits no longer than they will."""

    def __init__(self, look: Callable[[], _Found]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._looking: Future[_Found] | None = None
        self._since = 0.0

    def found(self, seconds: float) -> _Found:
        """What was found less than a moment ago, or is within so many seconds; `TimeoutError` else."""
        return self._latest().result(seconds)

    def _latest(self) -> Future[_Found]:
        with self._lock:
            old = self._looking is not None and time.monotonic() - self._since > _FRESH_SECONDS
            if self._looking is None or (old and self._looking.done()):
                self._looking, self._since = self._begun(), time.monotonic()
            return self._looking

    def _begun(self) -> Future[_Found]:
        looking: Future[_Found] = Future()
        threading.Thread(target=self._fulfil, args=(looking,), daemon=True).start()
        return looking

    def _fulfil(self, looking: Future[_Found]) -> None:
        try:
            looking.set_result(self._look())
        except Exception as error:  # noqa: BLE001 - whoever asks is to have it
            looking.set_exception(error)
