"""Memory that threads read into, used again and again: taking new memory costs more than decoding into it."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np


def _ordinary(size: int) -> np.ndarray:
    return np.empty(size, np.uint8)


class ReusableBuffer:
    """One piece of memory that is used again and again; grows to the largest use.

    `allocate` gives so many bytes (uint8), ordinary ones by default. What is used of them begins at a page:
    16 bytes behind one, where malloc puts large buffers, Linux fills them from its page cache at a quarter of
    the rate on some processors (measured on AMD's Zen 3, whose `rep movsb` minds such offsets).
    """

    def __init__(self, allocate: Callable[[int], np.ndarray] = _ordinary) -> None:
        self._allocate = allocate
        self._memory = _ordinary(0)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array over this memory, holding whatever was there."""
        size = math.prod(shape) * dtype.itemsize
        if self._memory.size < size:
            memory = self._allocate(size + mmap.PAGESIZE)
            start = -memory.ctypes.data % mmap.PAGESIZE
            self._memory = memory[start : start + size]
        return self._memory[:size].view(dtype).reshape(shape)

    def hand_over(self, values: np.ndarray) -> np.ndarray:
        """`values` for good: if they fill this memory it is theirs from now on, if a part they are copied."""
        if not np.may_share_memory(values, self._memory):
            return values
        if values.nbytes < self._memory.size:
            return values.copy()
        self._memory = _ordinary(0)
        return values


class ReadBuffers:
    """The memory in which one thread reads: a panel, a chunk of which a part is wanted, a file.

    `past_page_cache`: files that are read will not be read again soon enough to be kept in memory till then.
    """

    def __init__(self, panel: ReusableBuffer | None = None, *, past_page_cache: bool = False) -> None:
        self.panel = panel or ReusableBuffer()
        self.chunk, self.file = ReusableBuffer(), ReusableBuffer()
        self.past_page_cache = past_page_cache

    @cached_property
    def on_the_way(self) -> ReadBuffers:
        """The same once more, for what is read to make of it what was asked for."""
        return ReadBuffers(past_page_cache=self.past_page_cache)


class BufferRing:
    """The memory in which the threads of one lane read: a workspace for each, and a panel more than these."""

    def __init__(
        self,
        readers: int,
        allocate: Callable[[int], np.ndarray] = _ordinary,
        *,
        past_page_cache: bool = False,
    ) -> None:
        self.readers = readers
        self._panels = [ReusableBuffer(allocate) for _ in range(readers + 1)]
        self._spaces = [ReadBuffers(past_page_cache=past_page_cache) for _ in range(readers)]

    def slot(self, number: int) -> ReadBuffers:
        """The buffers for read `number`. Read `number - readers` must have ended.

        What was read before that one is gone.
        """
        space = self._spaces[number % self.readers]
        space.panel = self._panels[number % (self.readers + 1)]
        return space
