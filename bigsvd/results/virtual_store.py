"""A reconstruction as a Zarr store without data: each chunk is computed from the factors when it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from bigsvd.results.reconstruct import LowRank
from bigsvd.results.virtual_group import ARRAY_NAME, DIMENSION_NAMES, VirtualArray, VirtualGroup


def to_zarr(low_rank: LowRank, attributes: dict[str, Any] | None = None) -> zarr.Array[Any]:
    """The (m, n) read-only Zarr array of the reconstruction; each chunk is computed when it is read.

    `attributes` (JSON values) become the array's. Its `.store` is a Zarr group with this one array, named
    "reconstruction", so ``xarray.open_zarr(array.store)`` and ``dask.array.from_zarr(array)`` work on it.
    Writing is refused with ValueError. The fill value is NaN: whoever passes chunks on and loses one cannot
    make it zeros.
    """
    array = VirtualArray(low_rank, DIMENSION_NAMES, attributes or {})
    store = VirtualStore(VirtualGroup({ARRAY_NAME: array}))
    return zarr.open_array(store, path=ARRAY_NAME, mode="r", zarr_format=3)


class VirtualStore(Store):
    """A `VirtualGroup` as a read-only store of zarr-python.

    Laws: those of `VirtualGroup`; a pickled copy is equal and gives the same bytes; no key can be written.
    """

    def __init__(self, group: VirtualGroup) -> None:
        super().__init__(read_only=True)
        self._group = group

    def __eq__(self, other: object) -> bool:
        """Same metadata and same factors."""
        if not isinstance(other, VirtualStore):
            return NotImplemented
        return self._group == other._group

    def __hash__(self) -> int:
        return hash(self._group)

    def __repr__(self) -> str:
        shapes = {name: array.values.shape for name, array in self._group.arrays.items()}
        return f"VirtualStore({shapes})"

    def with_read_only(self, read_only: bool = False) -> VirtualStore:
        """Another store on the same factors; ValueError if asked for a writable one."""
        if not read_only:
            raise _refusal("through the store")
        return type(self)(self._group)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of a metadata document or of a computed chunk; None for any other key."""
        value = await self._value(key)
        if value is None:
            return None
        return prototype.buffer.from_bytes(value[_extent(byte_range, len(value))])

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """`get` of each key and range."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def getsize(self, key: str) -> int:
        """Bytes of the value of `key`, without computing it; FileNotFoundError if there is none."""
        size = self._group.size(key)
        if size is None:
            raise FileNotFoundError(key)
        return size

    async def exists(self, key: str) -> bool:
        """Whether `key` is a metadata document or a chunk of the grid."""
        return self._group.size(key) is not None

    @property
    def supports_writes(self) -> bool:
        """No."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """No."""
        return False

    @property
    def supports_listing(self) -> bool:
        """Yes, lazily: a grid can have more chunks than memory has names for."""
        return True

    async def set(self, key: str, value: Buffer) -> None:
        """ValueError, as every read-only store of Zarr raises."""
        raise _refusal(f"{len(value)} bytes to {key!r}")

    async def delete(self, key: str) -> None:
        """ValueError, as every read-only store of Zarr raises."""
        raise _refusal(f"{key!r}")

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names directly below `prefix`."""
        for name in self._group.names(prefix.rstrip("/")):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with `prefix`."""
        for key in self._group.keys(prefix):
            yield key

    async def list(self) -> AsyncIterator[str]:
        """Every key."""
        for key in self._group.keys(""):
            yield key

    async def _value(self, key: str) -> bytes | memoryview | None:
        if self._group.find(key) is None:
            return self._group.value(key)
        # A thread of its own, not asyncio.to_thread: computing a chunk waits for Zarr's event loop to read U
        # and Vt, and decoding those takes threads from the loop's pool; were that full of waiting chunks,
        # neither would end. As many chunks are in flight as the reader asks for (Zarr's `async.concurrency`).
        pool = ThreadPoolExecutor(1, "bigsvd-reconstruct")
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, self._group.value, key)
        finally:
            pool.shutdown(wait=False)


def _extent(byte_range: ByteRequest | None, length: int) -> slice:
    """The part of a value of `length` bytes that a request asks for."""
    match byte_range:
        case RangeByteRequest(start, end):
            return slice(start, end)
        case OffsetByteRequest(offset):
            return slice(offset, length)
        case SuffixByteRequest(suffix):
            return slice(max(length - suffix, 0), length)
        case None:
            return slice(0, length)


def _refusal(what: str) -> ValueError:
    return ValueError(f"cannot write {what}: a reconstruction is computed from its factors and is read-only")
