"""Zarr chunks decoded straight into place: one file or object, one decode, no copy in between.

Zarr's own pipeline decodes a chunk into fresh memory and copies it into the target; on panels of tens of
megabytes the page faults of that memory cost more than the decoding. Where a chunk's codecs are those that
`numcodecs` decodes into given memory, `ChunkReader` does so, in the calling thread.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.blosc import Blosc
from numcodecs.gzip import GZip
from numcodecs.zstd import Zstd
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    ZstdCodec,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.metadata import ArrayV2Metadata
from zarr.core.sync import sync
from zarr.storage import LocalStore, WrapperStore

from bigsvd.errors import BigsvdError, ChunkCorruptError, first_line

METADATA_NAMES = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_CRC_BYTES = 4
_ABSENT = 2**64 - 1
_UNWRITTEN = (0x9E, 0x61)
_MOST_AT_ONCE = 2**30  # bytes of a file; macOS refuses 2 GB


def _ordinary(size: int) -> np.ndarray:
    return np.empty(size, np.uint8)


class Scrap:
    """One piece of memory that is used again and again; grows to the largest use.

    `allocate` gives so many bytes (uint8), ordinary ones by default. What is used of them begins at a page:
    16 bytes behind one, where malloc puts large buffers, Linux fills them from its page cache at a quarter of
    the rate on some processors (measured on AMD's Zen 3, whose `rep movsb` minds such offsets).
    """

    def __init__(self, allocate: Callable[[int], np.ndarray] = _ordinary) -> None:
        self._allocate = allocate
        self._memory = _ordinary(0)

    def take(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> np.ndarray:
        """An array over this memory, holding whatever was there."""
        size = shape[0] * shape[1] * dtype.itemsize
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
        self.missing: set[str] = set()
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

    def get_bytes(self, key: str, scrap: Scrap, *, past_page_cache: bool = False) -> np.ndarray | None:
        """The value of `key` (uint8), noted; it may lie in the memory of `scrap`."""
        if not isinstance(self._store, LocalStore):
            value = sync(self.get(key, default_buffer_prototype()))
            if value is None:
                return None
            return np.frombuffer(value.to_bytes(), np.uint8)
        try:
            found = _file_bytes(Path(self._store.root) / key, scrap, past_page_cache=past_page_cache)
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
                self.missing.add(key)

    def __reduce__(self) -> tuple[type[GuardStore], tuple[Store, type[BigsvdError] | None]]:
        return GuardStore, (self._store, self._absent_is)

    def take_missing(self) -> set[str]:
        """The absent keys since the last call."""
        with self._lock:
            missing, self.missing = self.missing, set()
        return missing


def _file_bytes(path: Path, scrap: Scrap, *, past_page_cache: bool) -> np.ndarray:
    """The bytes of a file in the memory of `scrap`; `past_page_cache` (O_DIRECT) where the system can.

    That takes whole pages of memory and file. Some file systems refuse it when a file is opened, some when it
    is read.
    """
    flag = getattr(os, "O_DIRECT", 0) if past_page_cache else 0
    try:
        handle = os.open(path, os.O_RDONLY | flag)
        try:
            size, got = os.fstat(handle).st_size, 0
            whole_pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
            view: np.ndarray = scrap.take((1, whole_pages), np.dtype(np.uint8))[0]
            while got < size and (more := os.readv(handle, [view[got : got + _MOST_AT_ONCE].data])):
                got += more
        finally:
            os.close(handle)
    except OSError as error:
        if not flag or error.errno != errno.EINVAL:
            raise
        return _file_bytes(path, scrap, past_page_cache=False)
    return view[: min(got, size)]


class Workspace:
    """The memory in which one thread reads: a panel, a chunk of which a part is wanted, a file.

    `past_page_cache`: files that are read will not be read again soon enough to be kept in memory till then.
    """

    def __init__(self, panel: Scrap | None = None, *, past_page_cache: bool = False) -> None:
        self.panel = panel or Scrap()
        self.chunk, self.file = Scrap(), Scrap()
        self.past_page_cache = past_page_cache


class Ring:
    """The memory in which the threads of one lane read: a workspace for each, and a panel more than these."""

    def __init__(
        self,
        readers: int,
        allocate: Callable[[int], np.ndarray] = _ordinary,
        *,
        past_page_cache: bool = False,
    ) -> None:
        self.readers = readers
        self._panels = [Scrap(allocate) for _ in range(readers + 1)]
        self._spaces = [Workspace(past_page_cache=past_page_cache) for _ in range(readers)]

    def turn(self, number: int) -> Workspace:
        """For the read of this number; the one as many before as there are readers must have ended.

        What was read before that one is gone.
        """
        space = self._spaces[number % self.readers]
        space.panel = self._panels[number % (self.readers + 1)]
        return space


@dataclass(frozen=True)
class _Box:
    """Rows top … top+height and columns left … left+width of an array."""

    top: int
    left: int
    height: int
    width: int

    def grid(self, height: int, width: int) -> Iterator[_Box]:
        """The boxes of a regular grid from the array's corner that this one touches, row by row."""
        for i in range(self.top // height, -(-(self.top + self.height) // height)):
            for j in range(self.left // width, -(-(self.left + self.width) // width)):
                yield _Box(i * height, j * width, height, width)

    def common(self, other: _Box) -> _Box:
        """The part in both, which touch."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.height, other.top + other.height)
        return _Box(top, left, bottom - top, min(self.left + self.width, other.left + other.width) - left)

    def view(self, inside: _Box, values: np.ndarray) -> np.ndarray:
        """The part of `values`, those of the box `inside`, that lies in this one."""
        i, j = self.top - inside.top, self.left - inside.left
        return values[i : i + self.height, j : j + self.width]


class ChunkReader:
    """Reads rectangles of an array on a regular grid of chunks or shards, each decoded where it belongs.

    A chunk that spans whole rows of the rectangle is decoded into the target itself, any other into one
    scrap chunk of which the part wanted is copied. A shard is read whole, in one file or object.
    """

    def __init__(
        self, name: str, array: zarr.Array[Any], guard: GuardStore, codecs: tuple[Any, ...], index: str | None
    ) -> None:
        self._name = name
        self._array = array
        self._guard = guard
        self._codecs = codecs
        self._index = index
        self._chunk = (int(array.chunks[0]), int(array.chunks[1]))
        self._stored = self._chunk if array.shards is None else (int(array.shards[0]), int(array.shards[1]))
        self._prefix = f"{array.path}/" if array.path else ""

    @property
    def copies(self) -> bool:
        """Whether its codecs decode into memory of their own before they fill what they are given."""
        *firsts, last = self._codecs
        return not isinstance(last, (Zstd, Blosc, _Plain)) or not all(isinstance(c, _Plain) for c in firsts)

    @classmethod
    def of(cls, name: str, array: zarr.Array[Any], guard: GuardStore) -> ChunkReader | None:
        """A reader for this array, or None where only Zarr's own pipeline can decode its chunks."""
        metadata, index = array.metadata, None
        if not array.dtype.isnative:
            return None
        if isinstance(metadata, ArrayV2Metadata):
            codecs = _decoders_of_format_2(metadata, array.chunks)
        elif isinstance(metadata.codecs[0], ShardingCodec):
            sharding = metadata.codecs[0]
            usual = [type(codec) for codec in sharding.index_codecs] == [BytesCodec, Crc32cCodec]
            index = _word(sharding.index_location) if usual and len(metadata.codecs) == 1 else None
            codecs = _decoders(sharding.codecs, array.dtype) if index is not None else None
        else:
            codecs = _decoders(metadata.codecs, array.dtype)
        return None if codecs is None else cls(name, array, guard, codecs, index)

    def read(self, rows: slice, cols: slice, target: np.ndarray, space: Workspace) -> None:
        """Fill `target` (rows, cols). `ChunkCorruptError` names the chunk; absent ones are the fill value."""
        wanted = _Box(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        for box in wanted.grid(*self._stored):
            place = (box.top // box.height, box.left // box.width)
            key = self._prefix + self._array.metadata.encode_chunk_key(place)
            encoded = self._guard.get_bytes(key, space.file, past_page_cache=space.past_page_cache)
            try:
                if encoded is None or self._index is None:
                    self._put(encoded, box, wanted, target, space)
                else:
                    self._put_shard(encoded, box, wanted, target, space)
            except MemoryError:
                raise
            except Exception as error:  # codecs raise RuntimeError, ValueError, TypeError, zlib.error, ...
                text = f"chunk {key} of {self._name} cannot be decoded ({first_line(error)})"
                raise ChunkCorruptError(text, "restore that chunk") from error

    def _put_shard(
        self, shard: np.ndarray, box: _Box, wanted: _Box, target: np.ndarray, space: Workspace
    ) -> None:
        """Decode the chunks of a shard (Zarr's sharding_indexed codec, v1.0) that are wanted."""
        height, width = self._chunk
        across = box.width // width
        count = (box.height // height) * across
        size = 16 * count
        raw = shard[: size + _CRC_BYTES] if self._index == "start" else shard[-size - _CRC_BYTES :]
        index = np.empty(size, np.uint8)
        _Checksummed().decode(raw, out=index)
        ends = index.view("<u8").reshape(count, 2)
        for chunk in wanted.common(box).grid(height, width):
            at = (chunk.top - box.top) // height * across + (chunk.left - box.left) // width
            offset, length = (int(value) for value in ends[at])
            absent = offset == length == _ABSENT
            self._put(None if absent else shard[offset : offset + length], chunk, wanted, target, space)

    def _put(
        self, encoded: np.ndarray | None, box: _Box, wanted: _Box, target: np.ndarray, space: Workspace
    ) -> None:
        """Decode one chunk to its place in `target`; the fill value where it is absent."""
        common = box.common(wanted)
        part = common.view(wanted, target)
        if encoded is None:
            fill = self._array.fill_value
            part[...] = 0 if fill is None else fill
            return
        shape = (box.height, box.width)
        whole = part.shape == shape and part.flags.c_contiguous
        chunk = part if whole else space.chunk.take(shape, target.dtype)
        self._decode(encoded, chunk.reshape(-1).view(np.uint8))
        if not whole:
            part[...] = common.view(box, chunk)

    def _decode(self, encoded: np.ndarray, target: np.ndarray) -> None:
        """Undo the codecs into `target` (uint8), which must come out full."""
        data: Any = encoded
        for codec in self._codecs[:-1]:
            data = codec.decode(data)
        for mark in _UNWRITTEN:  # decoders say when there is too much, not when there is too little
            target[-1] = mark
            self._codecs[-1].decode(data, out=target)
            if target[-1] != mark:
                return
        message = f"fewer than the {target.size} bytes of a chunk"
        raise ValueError(message)


class _Plain:
    """No compression."""

    def decode(self, data: Any, out: np.ndarray | None = None) -> Any:
        """The bytes, copied to `out` if given."""
        if out is None:
            return data
        found = np.frombuffer(data, np.uint8)
        if found.size != out.size:
            message = f"{found.size} bytes where a chunk has {out.size}"
            raise ValueError(message)
        out[:] = found
        return out


class _Checksummed(_Plain):
    """The `crc32c` codec: the checksum follows the bytes, little-endian."""

    def decode(self, data: Any, out: np.ndarray | None = None) -> Any:
        """The bytes without their checksum, which must fit."""
        found = np.frombuffer(data, np.uint8)
        body, checksum = found[:-_CRC_BYTES], found[-_CRC_BYTES:].tobytes()
        if google_crc32c.value(np.ascontiguousarray(body)) != int.from_bytes(checksum, "little"):
            message = "its checksum does not fit"
            raise ValueError(message)
        return super().decode(body, out)


def _word(value: Any) -> str:
    """What is an enumeration up to zarr 3.1 and its value later."""
    return str(getattr(value, "value", value))


def _decoders(codecs: tuple[Any, ...], dtype: np.dtype[Any]) -> tuple[Any, ...] | None:
    """What undoes these codecs, in the order in which they are undone; None for others than these.

    Only entries in native byte order and C order, so that what is decoded is what is in memory.
    """
    first, *rest = codecs
    if not isinstance(first, BytesCodec):
        return None
    if dtype.itemsize > 1 and _word(first.endian) != sys.byteorder:
        return None
    known = {ZstdCodec: Zstd, BloscCodec: Blosc, GzipCodec: GZip, Crc32cCodec: _Checksummed}
    if any(type(codec) not in known for codec in rest):
        return None
    return tuple(known[type(codec)]() for codec in reversed(rest)) or (_Plain(),)


def _decoders_of_format_2(metadata: ArrayV2Metadata, chunks: tuple[int, ...]) -> tuple[Any, ...] | None:
    """As `_decoders`."""
    if metadata.filters or (metadata.order != "C" and 1 not in chunks):
        return None
    return (metadata.compressor or _Plain(),)
