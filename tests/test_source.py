"""Every kind of source reads what NumPy reads, also after a pickle, and names what is wrong with it."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, MemoryStore, WrapperStore

import bigsvd
from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.cli import main
from bigsvd.errors import (
    BadInputError,
    ChunkCorruptError,
    ChunkMissingError,
    DtypeError,
    MetadataError,
    ShapeError,
    SourceError,
    StorageError,
)
from bigsvd.events import ChunksAbsent, Event
from bigsvd.orientation import BY_ROWS
from bigsvd.sources import remote, zarr_dense
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from bigsvd.sources.transposed import TransposedSource
from tests.laws import SourceLaws

M, N = 23, 17
A = np.random.default_rng(0).standard_normal((M, N)) * 100 + 500
ALL = slice(0, M), slice(0, N)

Opened = tuple[Source, np.ndarray]
Maker = Callable[[Path, np.ndarray], Any]


def stored(store: Any, array: np.ndarray = A, **options: Any) -> zarr.Array[Any]:
    settings: dict[str, Any] = {"chunks": (5, 4)}
    return zarr.create_array(store, data=array, **(settings | options))


def zarr_v3(folder: Path, array: np.ndarray) -> Any:
    stored(folder / "a.zarr", array)
    return str(folder / "a.zarr")


def zarr_v2(folder: Path, array: np.ndarray) -> Any:
    stored(folder / "a.zarr", array, zarr_format=2)
    return folder / "a.zarr"


def zarr_sharded(folder: Path, array: np.ndarray) -> Any:
    stored(folder / "a.zarr", array, shards=(10, 8))
    return folder / "a.zarr"


def zarr_in_group(folder: Path, array: np.ndarray) -> Any:
    zarr.create_group(folder / "g.zarr").create_array("x", data=array, chunks=(M, 3))
    return folder / "g.zarr" / "x"


def zarr_array(folder: Path, array: np.ndarray) -> Any:
    return stored(folder / "a.zarr", array)


def zarr_array_in_memory(folder: Path, array: np.ndarray) -> Any:
    return zarr.create_group(MemoryStore()).create_array("deep/x", data=array, chunks=(5, 4))


def zarr_store(folder: Path, array: np.ndarray) -> Any:
    store = LocalStore(folder / "a.zarr")
    stored(store, array)
    return store


def memory_url(folder: Path, array: np.ndarray) -> Any:
    url = f"memory://{folder.name}"
    filesystem = fsspec.filesystem("memory")
    path = zarr_v3(folder, array)
    filesystem.put(path, folder.name, recursive=True)
    return url


def numpy_c(folder: Path, array: np.ndarray) -> Any:
    return array


def numpy_fortran(folder: Path, array: np.ndarray) -> Any:
    return np.asfortranarray(array)


def numpy_swapped(folder: Path, array: np.ndarray) -> Any:
    return array.astype(array.dtype.newbyteorder())


def zarr_swapped(folder: Path, array: np.ndarray) -> Any:
    stored(folder / "a.zarr", array.astype(">f8"), zarr_format=2)
    return folder / "a.zarr"


def memory_map(folder: Path, array: np.ndarray) -> Any:
    np.save(folder / "a.npy", array)
    return np.load(folder / "a.npy", mmap_mode="r")


def memory_map_fortran(folder: Path, array: np.ndarray) -> Any:
    np.save(folder / "a.npy", np.asfortranarray(array))
    return np.load(folder / "a.npy", mmap_mode="r")


def memory_map_view(folder: Path, array: np.ndarray) -> Any:
    np.save(folder / "a.npy", np.pad(array, 2))
    return np.load(folder / "a.npy", mmap_mode="r")[2:-2, 2:-2]


def dask_array(folder: Path, array: np.ndarray) -> Any:
    return da.from_array(array, chunks=((5, 18), (3, 4, 10)))


def xarray_in_memory(folder: Path, array: np.ndarray) -> Any:
    return xr.DataArray(array)


def xarray_with_dask(folder: Path, array: np.ndarray) -> Any:
    return xr.DataArray(array).chunk(7)


KINDS: tuple[Maker, ...] = (
    zarr_v3,
    zarr_v2,
    zarr_sharded,
    zarr_in_group,
    zarr_array,
    zarr_array_in_memory,
    zarr_store,
    zarr_swapped,
    memory_url,
    numpy_c,
    numpy_fortran,
    numpy_swapped,
    memory_map,
    memory_map_fortran,
    memory_map_view,
    dask_array,
    xarray_in_memory,
    xarray_with_dask,
)
IN_THIS_PROCESS = (
    zarr_array_in_memory,
    numpy_c,
    numpy_fortran,
    numpy_swapped,
    memory_map_view,
    xarray_in_memory,
)
BY_NAME = [kind.__name__ for kind in KINDS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a user would hand over, of every kind; kept alive, as a user would."""
    return {kind.__name__: kind(tmp_path_factory.mktemp(kind.__name__), A) for kind in KINDS}


@pytest.fixture(scope="module")
def opened(data: dict[str, Any]) -> dict[str, Source]:
    return {name: open_source(value) for name, value in data.items()}


class TestEveryKind(SourceLaws):
    """Whatever a user may hand over."""

    @pytest.fixture(params=BY_NAME)
    def source(self, opened: dict[str, Source], request: pytest.FixtureRequest) -> Source:
        return opened[request.param]

    @pytest.fixture
    def entries(self) -> np.ndarray:
        return A


class TestTransposed(SourceLaws):
    """The same, streamed by columns."""

    @pytest.fixture(params=["zarr_v3", "zarr_sharded", "zarr_swapped", "numpy_fortran", "dask_array"])
    def source(self, opened: dict[str, Source], request: pytest.FixtureRequest) -> Source:
        return TransposedSource(opened[request.param])

    @pytest.fixture
    def entries(self) -> np.ndarray:
        return A.T


@pytest.mark.parametrize("name", BY_NAME)
def test_a_transpose_is_that_of_the_same_data(opened: dict[str, Source], name: str) -> None:
    source, B = opened[name], TransposedSource(opened[name])
    rows, cols = slice(2, 9), slice(4, 17)
    assert (source.orientation, B.orientation) == (BY_ROWS, BY_ROWS.flipped)
    assert TransposedSource(B).facts == source.facts
    assert TransposedSource(B).orientation == source.orientation
    assert (B.facts.name, B.places) == (source.facts.name, source.places)
    assert B.stamp(cols, rows) == source.stamp(rows, cols)
    there, here = B.block(cols, rows, ReadBuffers()), source.block(rows, cols, ReadBuffers())
    assert there.checksum() == here.checksum()
    B.fresh().counters.retries = 3
    assert source.counters.retries == B.counters.retries


def test_errors_of_a_transpose_speak_of_the_data(tmp_path: Path) -> None:
    class Broken(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            raise OSError("no such device")

    source = TransposedSource(open_source(A.copy().view(Broken)))
    with pytest.raises(StorageError, match="reading rows 3:5, columns 0:2"):
        source.read(slice(0, 2), slice(3, 5))


def test_chunks_are_those_that_are_stored_together(opened: dict[str, Source]) -> None:
    expected = {"zarr_v3": (5, 4), "zarr_sharded": (10, 8), "zarr_in_group": (M, 3), "dask_array": (18, 10)}
    assert {name: opened[name].facts.chunks for name in expected} == expected


@pytest.mark.parametrize("name", BY_NAME)
def test_who_can_reach_the_data_is_known(opened: dict[str, Source], name: str) -> None:
    assert opened[name].in_this_process_only == (name in [kind.__name__ for kind in IN_THIS_PROCESS])


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "uint32", "int64", "uint64", "float16", "float32"]
)
def test_dtypes_are_kept(dtype: str, tmp_path: Path) -> None:
    array = (A % 2).astype(dtype)
    for kind in (zarr_v3, numpy_swapped, dask_array):
        opened = open_source(kind(tmp_path, array))
        assert opened.facts.dtype == dtype
        np.testing.assert_array_equal(opened.read(*ALL), array)


def test_the_fingerprint_is_of_the_metadata(tmp_path: Path) -> None:
    for name in ("a", "b"):
        stored(tmp_path / name)
    stored(tmp_path / "c", chunks=(6, 4))
    a, b, c = (open_source(tmp_path / name).facts.fingerprint for name in "abc")
    assert a == b != c


def test_an_opened_source_is_taken_as_it_is(opened: dict[str, Source]) -> None:
    assert open_source(opened["numpy_c"]) is opened["numpy_c"]


# Arrays of this process


def test_an_array_that_is_gone_is_not_mistaken_for_another() -> None:
    source = open_source(A.copy())
    pickled = pickle.dumps(source)
    del source
    gc.collect()
    others = [open_source(A + i) for i in range(100)]
    with pytest.raises(SourceError, match="cannot be reached"):
        pickle.loads(pickled)  # noqa: S301 - our own
    assert len(others) == 100


def test_an_array_of_this_process_is_refused_in_another() -> None:
    source = open_source(A)
    script = "import pickle, sys; pickle.load(sys.stdin.buffer)"
    ended = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(source), capture_output=True, check=False
    )
    assert ended.returncode != 0
    assert b"E_SOURCE" in ended.stderr


def test_a_memory_map_is_mapped_again_in_another_process(tmp_path: Path) -> None:
    source = open_source(memory_map(tmp_path, A))
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).read(slice(3, 5), slice(0, 17)).sum())"
    ended = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(source), capture_output=True, check=True
    )
    assert float(ended.stdout) == A[3:5].sum()


def test_a_map_changed_in_memory_is_not_read_from_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[3, 4] = -1
    source = open_source(private)
    assert source.in_this_process_only
    assert pickle.loads(pickle.dumps(source)).read(*ALL)[3, 4] == -1  # noqa: S301 - our own


# What is wrong is named


def test_a_group_is_refused_and_its_arrays_named(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    for name in ("X", "obs"):
        group.create_array(name, data=A)
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / "g.zarr")
    assert "the arrays X (23x17 float64), obs (23x17 float64)" in caught.value.message
    assert f"{tmp_path}/g.zarr/X" in caught.value.remedy


@pytest.mark.parametrize("name", ["nothing", "empty", "a.txt"])
def test_what_holds_no_array_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("1 2")
    with pytest.raises(SourceError, match=name):
        open_source(tmp_path / name)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"zarr_format": 3, "node_type": "array"}', "\x00"])
def test_garbage_metadata_is_refused(text: str, tmp_path: Path) -> None:
    stored(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "zarr.json").write_text(text)
    with pytest.raises(BadInputError, match=r"a\.zarr") as caught:
        open_source(tmp_path / "a.zarr")
    assert isinstance(caught.value, (MetadataError, SourceError))


@pytest.mark.parametrize("url", ["nosuchprotocol://bucket/a.zarr", "memory://nothing-there"])
def test_urls_that_lead_nowhere_are_refused(url: str) -> None:
    with pytest.raises(SourceError, match=url):
        open_source(url)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (0, 3), (3, 0)])
def test_what_is_no_matrix_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.zeros(shape)
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=shape, dtype="float64", chunks=tuple(max(1, side) for side in shape))
    for data in (array, da.from_array(array), path):
        with pytest.raises(ShapeError, match="shape"):
            open_source(data)


@pytest.mark.parametrize("dtype", ["complex128", "U3", "datetime64[s]", "longdouble", object])
def test_what_has_no_arithmetic_is_refused(dtype: Any) -> None:
    with pytest.raises(DtypeError, match="dtype"):
        open_source(np.zeros((3, 3)).astype(dtype))


@pytest.mark.parametrize("data", [3, None, [[1.0, 2.0]], {"a": 1}])
def test_what_is_no_array_is_refused(data: Any) -> None:
    with pytest.raises(SourceError, match="is not a matrix"):
        open_source(data)


def test_a_masked_array_is_refused() -> None:
    with pytest.raises(SourceError, match="hides entries"):
        open_source(np.ma.masked_greater(A, 500))


def test_an_array_that_gives_no_dense_block_is_refused() -> None:
    class Sparse:
        shape, dtype = A.shape, A.dtype

        def __getitem__(self, key: Any) -> float:
            return 0.0

    with pytest.raises(SourceError, match="a block of the Sparse has shape"):
        open_source(Sparse()).read(*ALL)


# Chunks


@pytest.fixture
def chunked(tmp_path: Path) -> Path:
    stored(tmp_path / "a.zarr", compressors=[Crc32cCodec()])
    return tmp_path / "a.zarr"


@pytest.mark.parametrize(
    "hand_over",
    [
        str,
        LocalStore,
        lambda path: zarr.open_array(path, mode="r+"),
        lambda path: zarr.open_array(path, mode="r"),
    ],
    ids=["path", "writable store", "writable array", "array"],
)
def test_missing_chunks_are_named(hand_over: Callable[[Path], Any], chunked: Path) -> None:
    for key in ("2/1", "4/0"):
        (chunked / "c" / key).unlink()
    source = open_source(hand_over(chunked))
    with pytest.raises(ChunkMissingError, match=r"2 chunk.*c/2/1, c/4/0"):
        source.read(*ALL)
    np.testing.assert_array_equal(source.read(slice(0, 10), slice(0, N)), A[:10])


def test_missing_chunks_may_be_the_fill_value(chunked: Path) -> None:
    (chunked / "c/2/1").unlink()
    source = open_source(chunked, missing_chunks="fill")
    expected = A.copy()
    expected[10:15, 4:8] = 0
    np.testing.assert_array_equal(source.read(*ALL), expected)
    assert source.counters.filled_chunks == 1


@pytest.mark.parametrize(
    ("options", "gone"), [({}, 4), ({"zarr_format": 2}, 4), ({"shards": (10, 8)}, 1)],
    ids=["nested", "flat", "sharded"],
)  # fmt: skip
def test_chunks_that_are_not_there_are_found_without_reading(
    tmp_path: Path, options: dict[str, Any], gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zarr writes no zeros unless told to. Only the rectangle is looked at that is asked about."""
    path, array = tmp_path / "a.zarr", A.copy()
    array[10:20, :8] = 0
    stored(path, array, **options)
    source, told = open_source(path), rf"{gone} of \d+ chunk\(s\) .*nothing but 0\.0 use missing_chunks"
    with pytest.raises(ChunkMissingError, match=told):
        source.absent_chunks(*ALL)
    assert source.absent_chunks(slice(0, 10), slice(0, N)) == 0
    filling = open_source(path, missing_chunks="fill")
    assert filling.absent_chunks(*ALL) == gone
    assert TransposedSource(filling).absent_chunks(*ALL[::-1]) == gone
    assert filling.counters.encoded_bytes == 0
    monkeypatch.setattr(zarr_dense, "_MOST_LOOKED_FOR", 2)
    assert source.absent_chunks(*ALL) == 0


def test_absent_chunks_are_told_before_any_pass(tmp_path: Path) -> None:
    array = np.vstack([A, 0 * A])
    stored(tmp_path / "a.zarr", array, chunks=(M, N))
    seen: list[Event] = []
    with pytest.raises(ChunkMissingError, match="1 of 2"):
        bigsvd.svd(tmp_path / "a.zarr", 2, tmp_path / "u", progress=seen.append)
    assert seen == []
    assert not list(tmp_path.glob("u*"))
    factors = bigsvd.svd(tmp_path / "a.zarr", 2, missing_chunks="fill", progress=seen.append)
    assert seen[0] == ChunksAbsent(1)
    assert "1 absent chunks read as the fill value" in str(factors.certificate)
    ended = CliRunner().invoke(
        main, ["svd", str(tmp_path / "a.zarr"), str(tmp_path / "u"), "-k", "2", "--missing-chunks", "fill"]
    )
    assert "1 chunks do not exist and are taken as the fill value" in ended.stderr


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_corrupt_chunk_is_named(damage: str, chunked: Path) -> None:
    chunk = chunked / "c/3/2"
    whole = chunk.read_bytes()
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    chunk.write_bytes({"cut": whole[: len(whole) // 2], "flipped": flipped, "empty": b""}[damage])
    source = open_source(chunked)
    with pytest.raises(ChunkCorruptError, match=r"chunk c/3/2 of .* cannot be decoded"):
        source.read(*ALL)
    np.testing.assert_array_equal(source.read(slice(0, 15), slice(0, N)), A[:15])


def test_a_corrupt_shard_is_named(tmp_path: Path) -> None:
    stored(tmp_path / "a.zarr", shards=(10, 8))
    shard = tmp_path / "a.zarr" / "c/1/0"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ChunkCorruptError, match="chunk c/1/0"):
        open_source(tmp_path / "a.zarr").read(*ALL)


def test_encoded_bytes_are_counted(chunked: Path) -> None:
    source = open_source(chunked)
    source.read(slice(0, 5), slice(0, 8))
    chunks = [chunked / "c/0" / name for name in "01"]
    read = source.counters.encoded_bytes - (chunked / "zarr.json").stat().st_size
    assert sum(chunk.stat().st_size for chunk in chunks) <= read <= 3 * sum(c.stat().st_size for c in chunks)


# Storage that fails


class Flaky(WrapperStore[Store]):
    """Fails the first `failures` reads of chunks."""

    left = 0

    @property
    def _supports_sync_io(self) -> bool:
        return False

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if "c/" in key and self.left > 0:
            self.left -= 1
            raise OSError(5, "Input/output error")
        return await self._store.get(key, prototype, byte_range)


def flaky(failures: int) -> Flaky:
    store = MemoryStore()
    stored(store, chunks=(M, N))
    wrapped = Flaky(store)
    wrapped.left = failures
    return wrapped


def test_a_read_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSES", (0, 0, 0))
    source = open_source(flaky(2))
    np.testing.assert_array_equal(source.read(*ALL), A)
    assert source.counters.retries == 2


def test_a_read_that_always_fails_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSES", (0, 0, 0))
    with pytest.raises(StorageError, match=r"failed 4 times: .*Input/output error"):
        open_source(flaky(1000)).read(*ALL)
