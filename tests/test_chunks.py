"""Chunks are decoded in place as Zarr decodes them, whatever their codecs, and bad ones are noticed."""

from __future__ import annotations

import errno
import mmap
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import LZ4, Blosc, Delta, GZip, Zstd
from zarr.abc.store import RangeByteRequest, Store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore

from bigsvd.chunks.buffers import BufferRing, ReadBuffers
from bigsvd.chunks.guard import GuardStore
from bigsvd.chunks.reader import _UNWRITTEN, ChunkReader
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import ChunkCorruptError
from bigsvd.sources.open import open_source

A = np.random.default_rng(0).integers(-99, 99, (57, 43)).astype(np.float32)
V3: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": [ZstdCodec(level=1)]},
    "blosc": {"compressors": [BloscCodec(cname="lz4")]},
    "gzip": {"compressors": [GzipCodec(level=1)]},
    "plain": {"compressors": None},
    "checked": {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
    "sharded": {"shards": (32, 40)},
    "sharded, plain": {"shards": (32, 40), "compressors": None},
}
V2: dict[str, dict[str, Any]] = {"blosc": {}, "none": {"compressors": None}, "lz4": {"compressors": [LZ4()]}}
BY_ZARR: dict[str, dict[str, Any]] = {
    "transposed": {"filters": [TransposeCodec(order=(1, 0))]},
    "big-endian": {"serializer": BytesCodec(endian="big")},
}


def stored(store: Any, values: np.ndarray = A, **options: Any) -> zarr.Array[Any]:
    array = zarr.create_array(store, shape=values.shape, chunks=(16, 20), dtype=values.dtype, **options)
    array[:] = values
    return array


def reader(store: Any) -> ChunkReader:
    guard = GuardStore(store)
    found = ChunkReader.of("a", zarr.open_array(guard, mode="r"), guard)
    assert found is not None
    return found


@pytest.mark.parametrize("options", V3.values(), ids=V3)
@pytest.mark.parametrize("local", [True, False], ids=["local", "memory"])
@settings(max_examples=30)
@given(data=st.data())
def test_every_rectangle_is_zarr_s(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any], *, local: bool, data: st.DataObject
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("a")) if local else MemoryStore()
    stored(store, **options)
    found, space = reader(store), ReadBuffers()
    for _ in range(3):
        spans = []
        for length in A.shape:
            start = data.draw(st.integers(0, length - 1))
            spans.append(slice(start, data.draw(st.integers(start + 1, length))))
        rows, cols = spans
        target = np.full((rows.stop - rows.start, cols.stop - cols.start), np.nan, np.float32)
        found.read((rows, cols), target, space)
        np.testing.assert_array_equal(target, A[rows, cols])


@pytest.mark.parametrize("options", V2.values(), ids=V2)
def test_format_2_is_decoded_in_place(tmp_path: Path, options: dict[str, Any]) -> None:
    stored(LocalStore(tmp_path), zarr_format=2, **options)
    source = open_source(tmp_path)
    assert source.facts.reader == "direct"
    np.testing.assert_array_equal(source.read(slice(3, 50), slice(1, 43)), A[3:50, 1:43])


@pytest.mark.parametrize("options", BY_ZARR.values(), ids=BY_ZARR)
def test_what_is_not_known_is_left_to_zarr(tmp_path: Path, options: dict[str, Any]) -> None:
    stored(LocalStore(tmp_path), **options)
    source = open_source(tmp_path)
    assert source.facts.reader == "pipeline"
    np.testing.assert_array_equal(source.read(slice(3, 50), slice(1, 43)), A[3:50, 1:43])


def test_filters_of_format_2_are_left_to_zarr(tmp_path: Path) -> None:
    stored(LocalStore(tmp_path), zarr_format=2, filters=[Delta("<f4")])
    source = open_source(tmp_path)
    assert source.facts.reader == "pipeline"
    np.testing.assert_array_equal(source.read(slice(0, 57), slice(0, 43)), A)


class CachedBlock(MemoryStore):
    """As stores of Zarr >= 3.3 that read synchronously; without chunks that begin with `broken`."""

    broken = "none"

    async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
        if key.startswith(self.broken):
            raise OSError(5, "Input/output error")
        return await super().get(key, *arguments, **options)


def in_shards() -> tuple[CachedBlock, GuardStore, zarr.Array[Any]]:
    """Shards that only Zarr's own pipeline can decode, of which it reads parts."""
    store = CachedBlock()
    stored(store, shards=(32, 40), filters=[TransposeCodec(order=(1, 0))])
    guard = GuardStore(store)
    array = zarr.open_array(guard, mode="r")
    assert ChunkReader.of("a", array, guard) is None
    return store, guard, array


def test_parts_of_shards_are_counted() -> None:
    store, guard, array = in_shards()
    before = guard.encoded_bytes
    np.testing.assert_array_equal(array[:16, :40], A[:16, :40])
    index = 4 * 16 + 4
    part = guard.encoded_bytes - before - index
    assert 0 < part < len(store._store_dict["c/0/0"]) - index


def test_shards_that_do_not_exist_are_noted() -> None:
    store, guard, array = in_shards()
    del store._store_dict["c/0/0"]
    np.testing.assert_array_equal(array[:16, :40], 0)
    assert guard.take_absent() == {"c/0/0"}


def test_a_failure_in_a_part_of_a_shard_is_raised_as_it_is() -> None:
    store, _, array = in_shards()
    store.broken = "c/"
    with pytest.raises(OSError, match="Input/output error"):
        array[:16, :40]


@pytest.mark.skipif(not hasattr(Store, "get_ranges"), reason="zarr < 3.3 reads each part by get")
def test_a_failure_behind_the_index_is_raised_as_it_is() -> None:
    async def parts(guard: Any) -> list[Any]:
        found = guard.get_ranges("c/0/0", [None], prototype=default_buffer_prototype(), max_gap_bytes=None)
        return [part async for part in found]

    store, guard, _ = in_shards()
    [[(at, whole)]] = sync(parts(guard))
    assert (at, len(whole)) == (0, len(store._store_dict["c/0/0"]))
    store.broken = "c/"
    with pytest.raises(OSError, match="Input/output error"):
        sync(parts(guard))
    store.broken = "none"
    del store._store_dict["c/0/0"]
    with pytest.raises(ExceptionGroup):
        sync(parts(guard))
    assert guard.take_absent() == {"c/0/0"}


def test_every_way_of_reading_is_counted() -> None:
    async def read(guard: GuardStore) -> list[Any]:
        prototype = default_buffer_prototype()
        some = await guard.get_partial_values(prototype, [("c/0/0", None), ("c/0/1", RangeByteRequest(0, 5))])
        return some + [value async for _, value in guard._get_many([("c/1/0", prototype, None)])]

    _, guard, _ = in_shards()
    before = guard.encoded_bytes
    values = sync(read(guard))
    assert guard.encoded_bytes - before == sum(map(len, values))


DIRECT = ("zstd", "blosc", "gzip", "plain", "checked", "sharded", "sharded, plain")
# A second frame or shard behind the first is not read, and so is no damage.
BAD = [*product(["cut", "another"], DIRECT), *product(["grown"], ["plain", "checked"])]


@pytest.mark.parametrize(("damage", "name"), BAD)
def test_a_bad_chunk_is_named(tmp_path: Path, name: str, damage: str) -> None:
    """Also one that is well-formed but holds another number of entries than a chunk."""
    stored(LocalStore(tmp_path / "a"), **V3[name])
    stored(LocalStore(tmp_path / "b"), A[:16, :20].astype(np.int8), **V3[name])
    key = tmp_path / "a" / "c" / "0" / "0"
    whole = key.read_bytes()
    changes = {"cut": whole[: len(whole) // 2], "grown": whole + whole,
               "another": (tmp_path / "b" / "c" / "0" / "0").read_bytes()}  # fmt: skip
    key.write_bytes(changes[damage])
    with pytest.raises(ChunkCorruptError, match="c/0/0"):
        reader(LocalStore(tmp_path / "a")).read((slice(0, 57), slice(0, 43)), np.empty_like(A), ReadBuffers())


@pytest.mark.parametrize("size", [2, 8, 15, 16, 100])
@pytest.mark.parametrize(
    ("name", "codec"), [("zstd", Zstd()), ("blosc", Blosc()), ("gzip", GZip())], ids=["zstd", "blosc", "gzip"]
)
def test_a_chunk_a_few_bytes_short_is_refused(tmp_path: Path, name: str, codec: Any, size: int) -> None:
    values = np.arange(size, dtype=np.uint8)[None]
    zarr.create_array(tmp_path, data=values, chunks=(1, size), **V3[name])
    source = open_source(tmp_path)
    assert source.facts.reader == "direct"
    for lacking in range(1, min(size, 16)):
        (tmp_path / "c/0/0").write_bytes(bytes(codec.encode(values[0, lacking:].copy())))
        with pytest.raises(ChunkCorruptError, match="c/0/0"):
            source.read(slice(0, 1), slice(0, size))


@pytest.mark.parametrize("end", [[mark] for mark in _UNWRITTEN] + [[*_UNWRITTEN], [*reversed(_UNWRITTEN)]])
@pytest.mark.parametrize("name", ["zstd", "blosc", "gzip", "plain", "checked"])
def test_a_chunk_may_end_like_memory_that_was_not_written(tmp_path: Path, name: str, end: list[int]) -> None:
    for size in (len(end), 20):
        values = np.full((1, size), end[0], np.uint8)
        values[0, -len(end) :] = end
        path = tmp_path / str(size)
        zarr.create_array(path, data=values, chunks=(1, size), **V3[name])
        np.testing.assert_array_equal(open_source(path).read(slice(0, 1), slice(0, size)), values)


def test_a_decoder_without_memory_does_not_speak_of_a_bad_chunk(tmp_path: Path) -> None:
    class Starved:
        def decode(self, *_: Any, **__: Any) -> None:
            raise MemoryError

    stored(LocalStore(tmp_path))
    found = reader(LocalStore(tmp_path))
    found._codecs = (Starved(),)
    with pytest.raises(MemoryError):
        found.read((slice(0, 57), slice(0, 43)), np.empty_like(A), ReadBuffers())


@pytest.mark.parametrize("name", ["zstd", "sharded"])
def test_absent_chunks_are_the_fill_value(tmp_path: Path, name: str) -> None:
    store = LocalStore(tmp_path)
    array = zarr.create_array(
        store, shape=A.shape, chunks=(16, 20), dtype="float32", fill_value=7.0, **V3[name]
    )
    array[:16, :20] = A[:16, :20]
    target = np.empty_like(A)
    reader(store).read((slice(0, 57), slice(0, 43)), target, ReadBuffers())
    np.testing.assert_array_equal(target, array[:])


@pytest.mark.parametrize("readers", [1, 3])
def test_memory_is_used_again(tmp_path: Path, readers: int) -> None:
    """By the read after those that may be under way, and the block that is being multiplied."""
    stored(LocalStore(tmp_path))
    source, ring = open_source(tmp_path), BufferRing(readers)
    rows = [slice(8 * i, 8 * i + 8) for i in range(readers + 2)]
    blocks = [source.read(rows[i], slice(0, 43), ring.slot(i)) for i in range(readers + 2)]
    shared = [i for i, block in enumerate(blocks[1:], 1) if np.shares_memory(blocks[0], block)]
    assert shared == [readers + 1]


def test_a_ring_reads_in_the_memory_it_is_given(tmp_path: Path) -> None:
    stored(LocalStore(tmp_path))
    given: list[np.ndarray] = []

    def allocate(size: int) -> np.ndarray:
        given.append(np.empty(size, np.uint8))
        return given[-1]

    block = open_source(tmp_path).read(slice(0, 16), slice(0, 43), BufferRing(1, allocate).slot(0))
    assert np.shares_memory(block, given[0])


def test_what_is_read_into_begins_at_a_page() -> None:
    """Whatever malloc gives: elsewhere the kernel's copies can be four times as slow."""
    scrap = BufferRing(1, CpuDevice().host_memory).slot(0).panel
    for columns in (1, 5, 5_000, 5_000_000):
        values = scrap.take((1, columns), np.dtype(np.uint8))
        assert values.ctypes.data % mmap.PAGESIZE == 0
        assert scrap.take((1, 1), np.dtype(np.uint8)).ctypes.data == values.ctypes.data


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="no O_DIRECT")
@pytest.mark.parametrize("refuses", [None, "open", "readv"])
@pytest.mark.parametrize("name", ["zstd", "sharded"])
def test_files_are_read_past_the_page_cache_where_that_can_be(
    tmp_path: Path, name: str, refuses: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that do not know O_DIRECT refuse it when a file is opened, others when it is read."""
    stored(LocalStore(tmp_path), **V3[name])
    chunks, flags = reader(LocalStore(tmp_path)), []
    real_open, real_readv = os.open, os.readv
    invalid = OSError(errno.EINVAL, "Invalid argument")

    def watched_open(path: Path, flag: int, **where: Any) -> int:
        flags.append(flag & os.O_DIRECT)
        if refuses == "open" and flags[-1]:
            raise invalid
        return real_open(path, flag, **where)

    def watched_readv(handle: int, buffers: list[Any]) -> int:
        if refuses == "readv" and flags[-1]:
            raise invalid
        return real_readv(handle, buffers)

    monkeypatch.setattr(os, "open", watched_open)
    monkeypatch.setattr(os, "readv", watched_readv)
    target = np.empty(A.shape, A.dtype)
    chunks.read((slice(0, 57), slice(0, 43)), target, ReadBuffers(past_page_cache=True))
    np.testing.assert_array_equal(target, A)
    assert flags[0] == os.O_DIRECT
    assert refuses is None or flags[:4] == [os.O_DIRECT, 0] * 2


def test_a_file_that_grows_is_read_to_the_length_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of it would fit into the last page."""
    stored(LocalStore(tmp_path))
    real = os.fstat

    def grown(handle: int) -> os.stat_result:
        status = real(handle)
        with Path(f"/proc/self/fd/{handle}").resolve().open("ab") as file:
            file.write(b"more")
        return status

    chunks = reader(LocalStore(tmp_path))
    target = np.empty(A.shape, A.dtype)
    monkeypatch.setattr(os, "fstat", grown)
    chunks.read((slice(0, 57), slice(0, 43)), target, ReadBuffers())
    np.testing.assert_array_equal(target, A)
