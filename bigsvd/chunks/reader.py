"""Zarr chunks decoded straight into place: one file or object, one decode, no copy in between.

Zarr's own pipeline decodes a chunk into fresh memory and copies it into the target; on panels of tens of
megabytes the page faults of that memory cost more than the decoding. Where a chunk's codecs are those that
`numcodecs` decodes into given memory, `ChunkReader` does so, in the calling thread.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from operator import add, floordiv, mul, sub
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.blosc import Blosc
from numcodecs.gzip import GZip
from numcodecs.zstd import Zstd
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    ZstdCodec,
)
from zarr.core.metadata import ArrayV2Metadata

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.chunks.guard import GuardStore
from bigsvd.errors import ChunkCorruptError, first_line

# Of a shard (Zarr 3): bytes of a checksum, and the offset and length that stand for an absent chunk.
_CRC_BYTES = 4
_ABSENT = 2**64 - 1
# Marks for the last byte of memory that a chunk is decoded into: what stays, both times, was not written.
_UNWRITTEN = (0x9E, 0x61)


@dataclass(frozen=True)
class _Box:
    """The entries start … stop of an array along each of its axes."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @classmethod
    def of(cls, sides: tuple[slice, ...]) -> _Box:
        """The box of these ranges."""
        return cls(tuple(side.start for side in sides), tuple(side.stop for side in sides))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its lengths."""
        return tuple(map(sub, self.stop, self.start))

    def grid(self, cell: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], _Box]]:
        """Place and box of each cell of a regular grid, from the array's corner, that it touches."""
        each = (range(a // n, -(-b // n)) for a, b, n in zip(self.start, self.stop, cell, strict=True))
        for place in product(*each):
            start = tuple(map(mul, place, cell))
            yield place, _Box(start, tuple(map(add, start, cell)))

    def common(self, other: _Box) -> _Box:
        """The part in both, which touch."""
        return _Box(tuple(map(max, self.start, other.start)), tuple(map(min, self.stop, other.stop)))

    def view(self, inside: _Box, values: np.ndarray) -> np.ndarray:
        """The part of `values`, those of the box `inside`, that lies in this one."""
        starts, stops = map(sub, self.start, inside.start), map(sub, self.stop, inside.start)
        return values[tuple(map(slice, starts, stops))]


class ChunkReader:
    """Reads boxes of an array on a regular grid of chunks or shards, each decoded where it belongs.

    A chunk whose entries follow each other in the target is decoded into the target itself, any other into
    one buffer chunk of which the part wanted is copied. A shard is read whole, in one file or object.
    """

    def __init__(
        self, name: str, array: zarr.Array[Any], guard: GuardStore, codecs: tuple[Any, ...], index: str | None
    ) -> None:
        self._name = name
        self._array = array
        self._guard = guard
        self._codecs = codecs
        self._index = index
        self._chunk = tuple(map(int, array.chunks))
        self._stored = tuple(map(int, array.shards or array.chunks))
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

    def read(self, sides: tuple[slice, ...], target: np.ndarray, space: ReadBuffers) -> None:
        """Fill `target`, a box. `ChunkCorruptError` names the chunk; absent ones are the fill value."""
        wanted = _Box.of(sides)
        for place, box in wanted.grid(self._stored):
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
        self, shard: np.ndarray, box: _Box, wanted: _Box, target: np.ndarray, space: ReadBuffers
    ) -> None:
        """Decode the chunks of a shard (Zarr's sharding_indexed codec, v1.0) that are wanted."""
        inside = tuple(map(floordiv, box.shape, self._chunk))
        count = math.prod(inside)
        size = 16 * count
        raw = shard[: size + _CRC_BYTES] if self._index == "start" else shard[-size - _CRC_BYTES :]
        index = np.empty(size, np.uint8)
        _Checksummed().decode(raw, out=index)
        ends = index.view("<u8").reshape(count, 2)
        for _, chunk in wanted.common(box).grid(self._chunk):
            corner = map(sub, chunk.start, box.start)
            at = np.ravel_multi_index(tuple(map(floordiv, corner, self._chunk)), inside)
            offset, length = (int(value) for value in ends[at])
            absent = offset == length == _ABSENT
            self._put(None if absent else shard[offset : offset + length], chunk, wanted, target, space)

    def _put(
        self, encoded: np.ndarray | None, box: _Box, wanted: _Box, target: np.ndarray, space: ReadBuffers
    ) -> None:
        """Decode one chunk to its place in `target`; the fill value where it is absent."""
        common = box.common(wanted)
        part = common.view(wanted, target)
        if encoded is None:
            fill = self._array.fill_value
            part[...] = 0 if fill is None else fill
            return
        whole = part.shape == box.shape and part.flags.c_contiguous
        chunk = part if whole else space.chunk.take(box.shape, target.dtype)
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
    lines = sum(length > 1 for length in chunks)
    if metadata.filters or (metadata.order != "C" and lines > 1):
        return None
    return (metadata.compressor or _Plain(),)
