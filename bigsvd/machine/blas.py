"""How many threads BLAS has in this process."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from threadpoolctl import threadpool_limits


class BlasLimit:
    """Holds BLAS to one thread while any lane or driver of this process needs that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._stack.enter_context(threadpool_limits(limits=1))
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._stack.close()


one_blas_thread = BlasLimit()
