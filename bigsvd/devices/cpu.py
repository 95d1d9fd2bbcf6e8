"""The processor: NumPy, in the host's memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bigsvd.devices.base import Array, Queue

# Entries that are widened at a time while squares are summed: the float64 copy of them stays in the cache.
_CACHED_ENTRIES = 2**16


class DirectQueue:
    """No queue: everything is done at once, and blocks are used where they lie."""

    def computing(self) -> AbstractContextManager[Any]:
        """Nothing to be done."""
        return nullcontext()

    def send(self, host: np.ndarray) -> Array:
        """`host` itself."""
        return host

    def wait(self) -> None:
        """Nothing to wait for."""


@dataclass(frozen=True)
class CpuDevice:
    """NumPy on this machine's cores."""

    name: ClassVar[str] = "cpu"
    has_own_memory: ClassVar[bool] = False

    @property
    def xp(self) -> Any:
        """Numpy."""
        return np

    def to_device(self, host: np.ndarray) -> Array:
        """`host` itself."""
        return host

    def to_host(self, array: Array) -> np.ndarray:
        """`array` itself."""
        return np.asarray(array)

    def sum_of_squares(self, array: Array) -> float:
        """A few lines at a time in float64, so that the wide copy stays in cache: half the time."""
        array = array.T if array.strides[0] < array.strides[1] else array
        step = max(1, _CACHED_ENTRIES // array.shape[1])
        total = 0.0
        for start in range(0, array.shape[0], step):
            wide = array[start : start + step].astype(np.float64, copy=False)
            total += float(np.vdot(wide, wide))
        return total

    def free_bytes(self) -> int:
        """None of its own."""
        return 0

    def identity(self) -> str:
        """Nothing: there is nothing to share."""
        return ""

    def host_memory(self, size: int) -> np.ndarray:
        """Ordinary memory."""
        return np.empty(size, np.uint8)

    def queue(self) -> Queue:
        """See `DirectQueue`."""
        return DirectQueue()

    def limit(self, run: str, size: int) -> None:
        """Nothing: the plan keeps to its budget of host memory."""

    def unlimit(self, run: str) -> None:
        """Nothing."""

    def clean(self) -> None:
        """Nothing."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Never: the host's memory is no memory of its own."""
        del error
        return False
