"""Decoded panels that a worker keeps between passes.

On its device first, then in memory, then (`stage`) in files on a local disk.

What has come in stays until the run ends: of a matrix that is swept again and again, a fixed part that always
hits serves as well as any other, and nothing is ever evicted, copied or allocated twice. Which panels are
kept changes what is read, never a bit of the result.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.chunks.buffers import BufferRing, ReusableBuffer
from bigsvd.devices.base import Queue
from bigsvd.devices.cpu import DirectQueue
from bigsvd.machine.monitor import MemoryMonitor, ProcessMemory, return_free_memory
from bigsvd.slabs.block import Block

# Bytes that a disk with spilled panels keeps free.
_LEAST_FREE_BYTES = 2**30
Key = tuple[int, int]


@dataclass(frozen=True)
class CachedBlock:
    """A rectangle, its checksum, and how many of its chunks were absent and read as the fill value.

    `resident`: the block lies on the device.
    """

    block: Block
    checksum: int
    filled: int
    resident: bool = False


@dataclass(frozen=True)
class _Place:
    """Where in the stage file an array of a block lies."""

    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]


class _SpillFile:
    """One file on a local disk; it has no name, so that nothing is left behind however the process ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, prefix="bigsvd-")  # noqa: SIM115 - closed by `close`
        self._end = 0
        self._lock = threading.Lock()
        self.full = False

    def write(self, kept: CachedBlock) -> CachedBlock | None:
        """Append a rectangle on the host: the same with a `_Place` for each array of its block.

        None, now and from then on, where the disk has no room or fails.
        """
        try:
            disk = os.fstatvfs(self._file.fileno())
            self.full = self.full or disk.f_bavail * disk.f_frsize < _LEAST_FREE_BYTES + kept.block.nbytes
            return None if self.full else replace(kept, block=kept.block.moved(self._append))
        except OSError:
            self.full = True
            return None

    def read(self, staged: CachedBlock, buffer: ReusableBuffer) -> CachedBlock | None:
        """What `write` appended, in the memory of `buffer`; None if the disk fails."""
        try:
            return replace(staged, block=staged.block.moved(partial(self._fetch, buffer)))
        except OSError:
            return None

    def _append(self, array: np.ndarray) -> _Place:
        with self._lock:
            offset = self._end
            self._end += array.nbytes
        data, done = np.ascontiguousarray(array).reshape(-1).view(np.uint8), 0
        while done < data.size:
            done += os.pwrite(self._file.fileno(), data[done:].data, offset + done)
        return _Place(offset, (array.shape[0], array.shape[1]), array.dtype)

    def _fetch(self, buffer: ReusableBuffer, place: _Place) -> np.ndarray:
        array = buffer.take(place.shape, place.dtype)
        data, done = array.reshape(-1).view(np.uint8), 0
        while done < data.size:
            got = os.preadv(self._file.fileno(), [data[done:].data], place.offset + done)
            if got == 0:
                raise OSError(errno.EIO, "the stage file has ended")
            done += got
        return array

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()


@dataclass(frozen=True)
class LaneResources:
    """What a lane works with and leaves to a later one: memory to read in, a queue of the device.

    Pages that are new to the process cost more than what is read into them; and CuPy's pool keeps what one
    stream has freed for that stream.
    """

    ring: BufferRing
    queue: Queue


def _plain_seat() -> LaneResources:
    return LaneResources(BufferRing(1), DirectQueue())


class PanelCache:
    """Rectangles of the source by (panel, first column), shared by the lanes of one run in one process.

    Attributes:
        careful: the device was too full for whole slabs.
        closed: the run is over, and what of it still runs is to stop.

    """

    def __init__(
        self,
        budget_bytes: int,
        stage: Path | None = None,
        device_bytes: int = 0,
        new_seat: Callable[[], LaneResources] = _plain_seat,
        at_close: Callable[[], Any] | None = None,
    ) -> None:
        self.careful = False
        self.closed = False
        self._free_bytes = budget_bytes
        self._device_bytes = device_bytes
        self._new_seat = new_seat
        self._at_close = at_close
        self._stage = _SpillFile(stage) if stage is not None else None
        self._held: dict[Key, tuple[Hashable, CachedBlock]] = {}
        self._staged: dict[Key, tuple[Hashable, CachedBlock]] = {}
        self._lock = threading.Lock()
        self._seats: list[LaneResources] = []
        self._monitor = MemoryMonitor()
        self._watching = ExitStack()

    def watch_memory(self) -> None:
        """Watch what this process holds, until the cache is closed."""
        self._watching.enter_context(self._monitor)

    @property
    def memory(self) -> ProcessMemory:
        """What this process was seen to hold since the cache was made, for its first lane of the run."""
        return self._monitor.seen()

    @contextmanager
    def seat(self) -> Iterator[LaneResources]:
        """One that a lane before has left, or else a new one; as many as lanes run at a time."""
        with self._lock:
            seat = self._seats.pop() if self._seats else self._new_seat()
        try:
            yield seat
        finally:
            with self._lock:
                self._seats.append(seat)

    def get(self, key: Key, stamp: Hashable, buffer: ReusableBuffer) -> CachedBlock | None:
        """The rectangle, if it was kept and its stamp has not changed; not to be written into."""
        with self._lock:
            held, staged = self._held.get(key), self._staged.get(key)
        if held is not None and held[0] == stamp:
            return held[1]
        if staged is not None and staged[0] == stamp and self._stage is not None:
            return self._stage.read(staged[1], buffer)
        return None

    def keep(
        self, key: Key, stamp: Hashable, read: CachedBlock, buffer: ReusableBuffer, sent: Block | None = None
    ) -> None:
        """Take in, if there is room, a rectangle that may lie in the memory of `buffer`.

        `sent`: the same on a device that has memory of its own.
        """
        size = read.block.nbytes
        with self._lock:
            if key in self._held or key in self._staged or self.closed:
                return
            if sent is not None and size <= self._device_bytes:
                self._device_bytes -= size
                self._held[key] = stamp, replace(read, block=sent, resident=True)
                return
            if size <= self._free_bytes:
                self._free_bytes -= size
                self._held[key] = stamp, replace(read, block=read.block.moved(buffer.hand_over))
                return
        if self._stage is not None and (staged := self._stage.write(read)) is not None:
            with self._lock:
                self._staged[key] = stamp, staged

    def leave_seats(self) -> None:
        """Let go of the memory that lanes have left for others."""
        with self._lock:
            self._seats.clear()

    def leave_device(self) -> None:
        """Let go of what lies on the device, and keep nothing there any more."""
        with self._lock:
            self._device_bytes = 0
            self._held = {key: held for key, held in self._held.items() if not held[1].resident}

    def renew(self, budget_bytes: int) -> None:
        """Forget what is held in memory, and keep no more than so much from now on."""
        with self._lock:
            self._held = {key: held for key, held in self._held.items() if held[1].resident}
            self._free_bytes = budget_bytes

    def close(self) -> None:
        """Forget everything."""
        self.closed = True
        self._watching.close()
        self._held.clear()
        self._staged.clear()
        self._seats.clear()
        if self._stage is not None:
            self._stage.close()
        if self._at_close is not None:
            self._at_close()


# One cache for each run in this process, by the run's token: its lanes come and go as tasks.
_CACHES: dict[str, PanelCache] = {}
_TURNS: dict[tuple[str, int], threading.BoundedSemaphore] = {}
_ENDED: set[str] = set()
_LOCK = threading.Lock()


def cache_of(token: str, new: Callable[[], PanelCache]) -> PanelCache:
    """The cache of a run in this process, made when it is first asked for; a closed one after its end."""
    with _LOCK:
        if token in _ENDED:
            over = PanelCache(0)
            over.close()
            return over
        if token not in _CACHES:
            _CACHES[token] = new()
            _CACHES[token].watch_memory()
        return _CACHES[token]


def concurrency_limit(token: str, tasks: int) -> threading.BoundedSemaphore:
    """Lets as many of a run's tasks work at a time as it has memory for; a worker may have more threads."""
    with _LOCK:
        turns = threading.BoundedSemaphore(tasks)
        return turns if token in _ENDED else _TURNS.setdefault((token, tasks), turns)


def leave_seats(token: str) -> None:
    """Give back what lanes of a run have worked with in this process, where none of them runs any more."""
    with _LOCK:
        cache = _CACHES.get(token)
    if cache is not None:
        cache.leave_seats()
    return_free_memory()


def renew_cache(token: str, budget_bytes: int) -> None:
    """Empty the cache of a run in this process, if it has one, and change what it may hold.

    For a run that goes on otherwise than planned, while none of its lanes runs.
    """
    with _LOCK:
        cache = _CACHES.get(token)
    if cache is not None:
        cache.renew(budget_bytes)
    return_free_memory()


def close_cache(token: str) -> ProcessMemory | None:
    """Drop the cache of a run in this process; lanes of the run that come late get none.

    Returns: what the process was seen to hold; None where it had no cache, and so no lane, of the run.
    """
    with _LOCK:
        _ENDED.add(token)
        cache = _CACHES.pop(token, None)
        for key in [key for key in _TURNS if key[0] == token]:
            del _TURNS[key]
    if cache is None:
        return None
    memory = cache.memory
    cache.close()
    return memory
