"""The processor: NumPy, in the host's memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bigsvd.devices.base import Array, Gaps, Queue

# Entries that are worked on at a time: few enough to stay in the processor's cache, and so many that threads
# do not wait for each other to begin on them. 2^16 took 1.5 times as long, 2^15 twice.
_CACHED_ENTRIES = 2**18
# Entries that are widened to float64 at a time, to be squared and summed: half of what a core's cache holds.
_WIDE_ENTRIES = 2**15
_ENTRIES_A_PLACE = 8  # an index is as long as eight truth values


class ReusedSpace:
    """One piece of memory for all slabs of a lane, since pages that are new to a process cost much."""

    takes_parts: ClassVar[bool] = True

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def take(self, like: np.ndarray, dtype: str) -> np.ndarray:
        """See `Space.take`."""
        wanted, shape = np.dtype(dtype), along_memory(like).shape
        size = like.size * wanted.itemsize
        if self._memory.size < size:
            self._memory = np.empty(size, np.uint8)
        found = self._memory[:size].view(wanted).reshape(shape)
        if column_major(like):
            return found.T
        return found


def column_major(array: np.ndarray) -> bool:
    """Whether the entries of a column of a (r, c) array lie next to each other in memory."""
    return bool(array.strides[0] < array.strides[1])


def along_memory(array: np.ndarray) -> np.ndarray:
    """The array or its transpose, whichever has rows whose entries lie next to each other in memory."""
    if column_major(array):
        return array.T
    return array


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
        """A few entries at a time in float64, in memory that stays in cache."""
        lines = along_memory(array)
        step = max(1, _WIDE_ENTRIES // max(1, lines.shape[1]))
        wide = np.empty((min(step, lines.shape[0]), lines.shape[1]))
        total = 0.0
        for start in range(0, lines.shape[0], step):
            some = lines[start : start + step]
            part = wide[: some.shape[0]]
            np.copyto(part, some)
            total += float(np.vdot(part, part))
        return total

    def pieces(self, array: np.ndarray) -> list[tuple[slice, slice]]:
        """Some whole lines along memory at a time."""
        lines, length = along_memory(array).shape
        step, whole = max(1, _CACHED_ENTRIES // max(1, length)), slice(0, length)
        some = [slice(start, min(lines, start + step)) for start in range(0, lines, step)]
        if column_major(array):
            return [(whole, part) for part in some]
        return [(part, whole) for part in some]

    def gaps(self, mask: np.ndarray) -> Gaps | None:
        """Few are looked up once, and then filled ten times as fast as by their mask."""
        count = int(np.count_nonzero(mask))
        if not count:
            return None
        places = np.flatnonzero(along_memory(mask)) if count * _ENTRIES_A_PLACE <= mask.size else None
        return Gaps(mask, count, places)

    def filled(self, array: np.ndarray, gaps: Gaps, fill: np.ndarray | float) -> np.ndarray:
        """In place."""
        lines = along_memory(array)
        alike = lines.flags.c_contiguous and column_major(array) == column_major(gaps.mask)
        if gaps.places is not None and alike and np.ndim(fill) == 0:
            lines.reshape(-1)[gaps.places] = fill
        else:
            np.copyto(array, fill, where=gaps.mask, casting="same_kind")
        return array

    def space(self) -> ReusedSpace:
        """See `ReusedSpace`."""
        return ReusedSpace()

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
