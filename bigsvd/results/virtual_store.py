"""A reconstruction as a Zarr store without data: each chunk is computed from the factors when it is read."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.codecs import BytesCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import MemoryStore

from bigsvd.results.reconstruct import LowRank, region

ARRAY_NAME = "reconstruction"
DIMENSION_NAMES = ("row", "column")
_METADATA_KEY = "zarr.json"
_ARRAY_METADATA_KEY = f"{ARRAY_NAME}/{_METADATA_KEY}"
_CHUNK_PREFIX = f"{ARRAY_NAME}/c/"
_CHUNK_KEY = re.compile(rf"{_CHUNK_PREFIX}(0|[1-9][0-9]*)/(0|[1-9][0-9]*)")


def to_zarr(low_rank: LowRank, attributes: dict[str, Any] | None = None) -> zarr.Array[Any]:
    """The (m, n) read-only Zarr array of the reconstruction; each chunk is computed when it is read.

    `attributes` (JSON values) become the array's. Its `.store` is a Zarr group with this one array, named
    "reconstruction", so ``xarray.open_zarr(array.store)`` and ``dask.array.from_zarr(array)`` work on it.
    Writing is refused with ValueError.
    """
    store = ReconstructionStore(low_rank, _documents(low_rank, attributes or {}))
    return zarr.open_array(store, path=ARRAY_NAME, mode="r", zarr_format=3)


class ReconstructionStore(Store):
    """A read-only Zarr store with the group "/" and the array "/reconstruction", whose chunks are computed.

    Laws: the value of ``reconstruction/c/i/j`` is the little-endian bytes of chunk (i, j) of A, padded with
    zeros to the full chunk shape; a pickled copy is equal and gives the same bytes; no key can be written.

    Every chunk in the grid exists, so an error while computing one is raised and never read as fill value.
    """

    def __init__(self, low_rank: LowRank, documents: Mapping[str, bytes]) -> None:
        super().__init__(read_only=True)
        self._low_rank = low_rank
        self._documents = dict(documents)
        self._chunks = low_rank.chunk_shape
        (m, n), (height, width) = low_rank.shape, self._chunks
        self._grid = -(-m // height), -(-n // width)

    def __eq__(self, other: object) -> bool:
        """Same metadata and same factors."""
        if not isinstance(other, ReconstructionStore):
            return NotImplemented
        return self._documents == other._documents and self._low_rank == other._low_rank

    def __hash__(self) -> int:
        return hash(self._low_rank)

    def __repr__(self) -> str:
        return f"ReconstructionStore(shape={self._low_rank.shape}, k={len(self._low_rank.s)})"

    def with_read_only(self, read_only: bool = False) -> ReconstructionStore:
        """Another store on the same factors; ValueError if asked for a writable one."""
        if not read_only:
            raise _refusal("through the store")
        return type(self)(self._low_rank, self._documents)

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
        if key in self._documents:
            return len(self._documents[key])
        if self._position(key) is None:
            raise FileNotFoundError(key)
        return self._chunks[0] * self._chunks[1] * self._low_rank.dtype.itemsize

    async def exists(self, key: str) -> bool:
        """Whether `key` is a metadata document or a chunk of the grid."""
        return key in self._documents or self._position(key) is not None

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
        for name in self._names(prefix.rstrip("/")):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with `prefix`."""
        for key in self._keys(prefix):
            yield key

    async def list(self) -> AsyncIterator[str]:
        """Every key."""
        for key in self._keys(""):
            yield key

    async def _value(self, key: str) -> bytes | memoryview | None:
        position = self._position(key)
        if position is None:
            return self._documents.get(key)
        # A thread of its own, not asyncio.to_thread: computing a chunk waits for Zarr's event loop to read U
        # and Vt, and decoding those takes threads from the loop's pool; were that full of waiting chunks,
        # neither would end. As many chunks are in flight as the reader asks for (Zarr's `async.concurrency`).
        pool = ThreadPoolExecutor(1, "bigsvd-reconstruct")
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, self._chunk, position)
        finally:
            pool.shutdown(wait=False)

    def _chunk(self, position: tuple[int, int]) -> memoryview:
        rows, cols = (
            slice(i * length, (i + 1) * length) for i, length in zip(position, self._chunks, strict=True)
        )
        block = region(self._low_rank, rows, cols)
        padding = [(0, full - part) for full, part in zip(self._chunks, block.shape, strict=True)]
        whole = np.pad(block, padding) if block.shape != self._chunks else block
        little_endian = whole.astype(whole.dtype.newbyteorder("<"), copy=False)
        return little_endian.reshape(-1).view(np.uint8).data

    def _position(self, key: str) -> tuple[int, int] | None:
        match = _CHUNK_KEY.fullmatch(key)
        if match is None:
            return None
        i, j = int(match[1]), int(match[2])
        return (i, j) if i < self._grid[0] and j < self._grid[1] else None

    def _names(self, prefix: str) -> Iterator[str]:
        match prefix.split("/"):
            case [""]:
                yield from (_METADATA_KEY, ARRAY_NAME)
            case [name] if name == ARRAY_NAME:
                yield from (_METADATA_KEY, "c")
            case [name, "c"] if name == ARRAY_NAME:
                yield from map(str, range(self._grid[0]))
            case [*_, _] if self._position(f"{prefix}/0") is not None:
                yield from map(str, range(self._grid[1]))

    def _keys(self, prefix: str) -> Iterator[str]:
        yield from (key for key in self._documents if key.startswith(prefix))
        for i in range(self._grid[0]):
            row = f"{_CHUNK_PREFIX}{i}/"
            if row.startswith(prefix) or prefix.startswith(row):
                yield from (key for j in range(self._grid[1]) if (key := f"{row}{j}").startswith(prefix))


def _documents(low_rank: LowRank, attributes: dict[str, Any]) -> dict[str, bytes]:
    """The metadata of the group and of its array as Zarr itself writes them, the array's also in the group's.

    Consolidated here, where one array makes it one entry: `zarr.consolidate_metadata` warns on format 3, and
    without consolidation `xarray.open_zarr` does.
    """
    written: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(written), zarr_format=3)
    group.create_array(
        ARRAY_NAME,
        shape=low_rank.shape,
        dtype=low_rank.dtype,
        chunks=low_rank.chunk_shape,
        filters=None,
        compressors=None,
        serializer=BytesCodec(endian="little"),
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "/"},
        dimension_names=DIMENSION_NAMES,
        attributes=attributes,
    )
    documents = {key: value.to_bytes() for key, value in written.items()}
    array_metadata = json.loads(documents[_ARRAY_METADATA_KEY])
    consolidated = {"kind": "inline", "must_understand": False, "metadata": {ARRAY_NAME: array_metadata}}
    root = {**json.loads(documents[_METADATA_KEY]), "consolidated_metadata": consolidated}
    return {**documents, _METADATA_KEY: json.dumps(root).encode()}


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
