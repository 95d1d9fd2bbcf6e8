"""A store that keeps books: of the bytes that are read, and of the chunks that are not there."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, WrapperStore

from bigsvd.chunks.buffers import ReusableBuffer
from bigsvd.errors import BigsvdError, ChunkCorruptError

METADATA_NAMES = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
# Bytes of a file that are read by one call; macOS refuses 2 GB.
_MOST_AT_ONCE = 2**30


class WatchedStore(WrapperStore[Store]):
    """A store of which every value is read through `get`, for those that keep books or try again there.

    `WrapperStore` sends the other ways of reading straight to the store inside; Zarr >= 3.3 reads parts of
    shards by `get_ranges`. `Store` itself makes them of `get`.
    """

    _get_many = Store._get_many  # noqa: SLF001 - the one that Zarr's own stores inherit

    @property
    def _supports_sync_io(self) -> bool:
        """No: Zarr >= 3.3 would read by `get_sync`, which is that of the store inside."""
        return False

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """The values of parts of keys, in their order."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def get_ranges(
        self, key: str, byte_ranges: Sequence[ByteRequest | None], **options: Any
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Parts of the value of `key`, as `Store.get_ranges` of Zarr >= 3.3, which calls this.

        What one of its requests raised is raised as it is. Only the group of a key that does not exist stays
        one: Zarr looks for it.
        """
        by_get: Any = Store
        given = {name: value for name, value in options.items() if value is not None}
        try:
            async for parts in by_get.get_ranges(self, key, byte_ranges, **given):
                yield parts
        except BaseExceptionGroup as several:
            _, failures = several.split((FileNotFoundError, asyncio.CancelledError))
            if failures is None:
                raise
            failure = _first(failures)
        else:
            return
        raise failure


def _first(group: BaseException) -> BaseException:
    """The first exception in a group, or in its first group."""
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


class GuardStore(WatchedStore):
    """A read-only store that counts what is read and remembers which chunk keys did not exist.

    With `absent_is` an exception is raised for such a key instead.
    """

    def __init__(self, store: Store, absent_is: type[BigsvdError] | None = None) -> None:
        super().__init__(store)
        self._absent_is = absent_is
        self.encoded_bytes = 0
        self.absent: set[str] = set()
        self._lock = threading.Lock()

    @property
    def read_only(self) -> bool:
        """Yes: else Zarr would read through a copy of this store with books of its own."""
        return True

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of `key`, noted."""
        value = await self._store.get(key, prototype, byte_range)
        self._note(key, None if value is None else len(value))
        return value

    def get_bytes(
        self, key: str, buffer: ReusableBuffer, *, past_page_cache: bool = False
    ) -> np.ndarray | None:
        """The value of `key` (uint8), noted; it may lie in the memory of `buffer`."""
        if not isinstance(self._store, LocalStore):
            value = sync(self.get(key, default_buffer_prototype()))
            if value is None:
                return None
            return np.frombuffer(value.to_bytes(), np.uint8)
        try:
            found = _file_bytes(Path(self._store.root) / key, buffer, past_page_cache=past_page_cache)
        except (FileNotFoundError, NotADirectoryError):
            self._note(key, None)
            return None
        self._note(key, len(found))
        return found

    def _note(self, key: str, size: int | None) -> None:
        is_chunk = key.rsplit("/", 1)[-1] not in METADATA_NAMES
        absent = size is None and is_chunk
        if absent and self._absent_is is not None:
            raise self._absent_is(
                f"{key} of {self._store} does not exist", "restore it or compute the result again"
            )
        if is_chunk and size == 0:  # which zarr 3.1 reads as a shard of nothing
            refuse = self._absent_is or ChunkCorruptError
            text = f"chunk {key} of {self._store} cannot be decoded (it is empty)"
            raise refuse(text, "restore that chunk")
        with self._lock:
            if size is not None:
                self.encoded_bytes += size
            elif absent:
                self.absent.add(key)

    def __reduce__(self) -> tuple[type[GuardStore], tuple[Store, type[BigsvdError] | None]]:
        return GuardStore, (self._store, self._absent_is)

    def take_absent(self) -> set[str]:
        """The absent keys since the last call."""
        with self._lock:
            absent, self.absent = self.absent, set()
        return absent


def _file_bytes(path: Path, buffer: ReusableBuffer, *, past_page_cache: bool) -> np.ndarray:
    """The bytes of a file in the memory of `buffer`; `past_page_cache` (O_DIRECT) where the system can.

    That takes whole pages of memory and file. Some file systems refuse it when a file is opened, some when it
    is read.
    """
    flag = getattr(os, "O_DIRECT", 0) if past_page_cache else 0
    try:
        handle = os.open(path, os.O_RDONLY | flag)
        try:
            size, got = os.fstat(handle).st_size, 0
            whole_pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
            view: np.ndarray = buffer.take((1, whole_pages), np.dtype(np.uint8))[0]
            while got < size and (more := os.readv(handle, [view[got : got + _MOST_AT_ONCE].data])):
                got += more
        finally:
            os.close(handle)
    except OSError as error:
        if not flag or error.errno != errno.EINVAL:
            raise
        return _file_bytes(path, buffer, past_page_cache=False)
    return view[: min(got, size)]
