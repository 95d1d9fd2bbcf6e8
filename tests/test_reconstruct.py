"""Every way of reading U·diag(s)·Vt agrees with the dense product, and reads no more than it must."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
import zarr
from distributed.protocol.pickle import dumps, loads
from hypothesis import given
from hypothesis import strategies as st
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.codecs import BytesCodec
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import MemoryStore, WrapperStore

import bigsvd
from bigsvd.results import reconstruct
from bigsvd.results.export import write_region
from bigsvd.results.reconstruct import ArrayLike, LowRank, getitem, region, to_dask
from bigsvd.results.virtual_store import to_zarr

M, N, K = 23, 17, 4
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
Dense = npt.NDArray[np.floating[Any]]


class CountingStore(WrapperStore[Store]):
    """Counts how often each chunk was asked for."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.reads: Counter[str] = Counter()

    @property
    def _supports_sync_io(self) -> bool:
        return False

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if not key.endswith("zarr.json"):
            self.reads[key] += 1
        return await self._store.get(key, prototype, byte_range)


def dense(low_rank: LowRank) -> Dense:
    """The whole matrix in float64, by the definition."""
    k = len(low_rank.s)
    product = (np.asarray(low_rank.U[:, :k], np.float64) * low_rank.s) @ np.asarray(
        low_rank.Vt[:k], np.float64
    )
    scale = 1.0 if low_rank.scale is None else np.asarray(low_rank.scale[:])
    mean = 0.0 if low_rank.mean is None else np.asarray(low_rank.mean[:])
    whole: Dense = product * scale + mean
    return whole


def assert_equal(actual: Any, expected: Any, dtype: np.dtype[Any] = FLOAT64) -> None:
    """Same shape and dtype, entries to rounding; entries are of order 10 in all tests."""
    assert np.shape(actual) == np.shape(expected)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e3 * float(np.finfo(dtype).eps))


def make(
    mean: bool = True,
    scale: bool = True,
    chunks: tuple[int, int] = (10, 6),
    dtype: np.dtype[Any] = FLOAT64,
    stored: Callable[[Dense, tuple[int, int]], ArrayLike] = lambda array, _: array,
) -> LowRank:
    """A small reconstruction with an entry that is exactly zero; `stored` puts a factor somewhere."""
    rng = np.random.default_rng(7)
    u, vt = rng.standard_normal((M, K)), rng.standard_normal((K, N))
    u[3] = 0
    means = rng.standard_normal(N)
    means[2] = 0
    return LowRank(
        U=stored(u.astype(dtype), (5, K)),
        s=np.array([3.0, 2.0, 1.0, 0.5]),
        Vt=stored(vt.astype(dtype), (K, 4)),
        mean=means if mean else None,
        scale=rng.uniform(0.5, 2, N) if scale else None,
        chunks=chunks,
        dtype=dtype,
    )


def in_store(store: Store) -> Callable[[Dense, tuple[int, int]], ArrayLike]:
    """Puts each factor into `store` as a Zarr array, named by its shape."""

    def put(array: Dense, chunks: tuple[int, int]) -> ArrayLike:
        name = "U" if array.shape == (M, K) else "Vt"
        return zarr.create_array(store, name=name, data=array, chunks=chunks)

    return put


def counted() -> tuple[LowRank, CountingStore]:
    """A reconstruction whose reads of U (5 rows a chunk) and Vt (4 columns a chunk) are counted."""
    store = CountingStore(MemoryStore())
    low_rank = make(stored=in_store(store))
    store.reads.clear()
    return low_rank, store


ROWS_MASK = np.isin(np.arange(M), [0, 1, 9, 22])


ROWS = [
    pytest.param(5, id="int"),
    pytest.param(-1, id="negative-int"),
    pytest.param(np.int8(4), id="numpy-int"),
    pytest.param(slice(None), id="all"),
    pytest.param(slice(3, 19), id="slice"),
    pytest.param(slice(20, None, -7), id="backwards"),
    pytest.param(slice(-9, -2, 3), id="step"),
    pytest.param(slice(9, 4), id="empty-slice"),
    pytest.param([], id="empty-list"),
    pytest.param([4, 0, -1, 4, 22], id="list"),
    pytest.param(np.array([1, 6, 7], np.uint64), id="uint64"),
    pytest.param(np.array([-23, 22], np.int8), id="int8"),
    pytest.param(ROWS_MASK, id="mask"),
    pytest.param(list(ROWS_MASK), id="mask-list"),
    pytest.param(np.zeros(M, bool), id="empty-mask"),
]
COLS = [
    pytest.param(16, id="int"),
    pytest.param(slice(None, None, -1), id="backwards"),
    pytest.param(slice(2, 15, 4), id="step"),
    pytest.param([9, 9, 0], id="list"),
    pytest.param(np.arange(N) > N // 2, id="mask"),
]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("cols", COLS)
def test_region_is_orthogonal_indexing_of_the_dense_product(rows: Any, cols: Any) -> None:
    for low_rank in (make(), make(stored=in_store(MemoryStore()))):
        assert_equal(region(low_rank, rows, cols), dense(low_rank)[rows][..., cols])


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("chunks", [(4, 3), (10, 6), (M, N), (100, 100)])
def test_all_readers_agree_with_the_dense_product(
    mean: bool, scale: bool, dtype: np.dtype[Any], chunks: tuple[int, int]
) -> None:
    low_rank = make(mean, scale, chunks, dtype, in_store(MemoryStore()))
    whole = dense(low_rank)
    array = to_zarr(low_rank)
    assert_equal(region(low_rank, slice(None), slice(None)), whole, dtype)
    assert_equal(to_dask(low_rank).compute(scheduler="synchronous"), whole, dtype)
    assert_equal(array[:], whole, dtype)
    assert_equal(da.from_zarr(array).compute(scheduler="threads"), whole, dtype)


@given(
    rows=st.slices(M),
    cols=st.slices(N) | st.lists(st.integers(-N, N - 1)),
    piece_bytes=st.integers(1, 10 * K * FLOAT64.itemsize),
)
def test_any_selection_cut_into_any_pieces(rows: slice, cols: slice | list[int], piece_bytes: int) -> None:
    low_rank = make(stored=in_store(MemoryStore()))
    expected = dense(low_rank)[rows][:, cols]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconstruct, "_PIECE_BYTES", piece_bytes)
        assert_equal(region(low_rank, rows, cols), expected)


@pytest.mark.parametrize(
    ("key", "same"),
    [
        (..., np.s_[:, :]),
        ((), np.s_[:, :]),
        (3, np.s_[3, :]),
        ((3, -2), np.s_[3, -2]),
        (slice(2, 9), np.s_[2:9, :]),
        ((slice(2, 9), slice(1, 4)), np.s_[2:9, 1:4]),
        ((..., 5), np.s_[:, 5]),
        ((5, ...), np.s_[5, :]),
        ((1, ..., 2), np.s_[1, 2]),
        ([2, 0], np.s_[[2, 0], :]),
        ((slice(None), [True] * 3 + [False] * (N - 3)), np.s_[:, :3]),
    ],
)
def test_subscripts_mean_what_they_mean_in_numpy(key: Any, same: Any) -> None:
    low_rank = make()
    assert_equal(getitem(low_rank, key), dense(low_rank)[same])
    assert_equal(low_rank[key], dense(low_rank)[same])


def test_two_ints_give_a_scalar() -> None:
    assert isinstance(getitem(make(dtype=FLOAT32), (3, 4)), np.float32)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (M, "index 23 is out of bounds for axis 0 with size 23"),
        ((0, -N - 1), "index -18 is out of bounds for axis 1 with size 17"),
        ([0, M], "index 23 is out of bounds for axis 0"),
        (np.array([2**63], np.uint64), "is out of bounds"),
        (np.zeros(M + 1, bool), "size of axis is 23 but size of corresponding boolean axis is 24"),
        (1.0, "only integers"),
        (np.array([]), "only integers"),
        (True, "only integers"),
        (None, "only integers"),
        ("a", "only integers"),
        (np.zeros((M, N), bool), "only integers"),
        (np.zeros((2, 2), int), "only integers"),
        ((0, 0, 0), "too many indices"),
        ((..., 0, ...), "single ellipsis"),
    ],
)
def test_what_numpy_refuses_is_refused_before_any_read(key: Any, message: str) -> None:
    low_rank, store = counted()
    with pytest.raises(IndexError, match=message):
        getitem(low_rank, key)
    assert not store.reads


@pytest.mark.parametrize(
    ("key", "u_chunks", "vt_chunks"),
    [
        ((0, 0), [0], [0]),
        ((M - 1, N - 1), [4], [4]),
        ((slice(5, 10), slice(4, 8)), [1], [1]),
        ((slice(4, 11), slice(3, 9)), [0, 1, 2], [0, 1, 2]),
        (([21, 0, 1, 21], slice(16, 1, -15)), [0, 4], [4]),
        ((slice(0, None, 11), np.eye(N, dtype=bool)[13]), [0, 2, 4], [3]),
        ((slice(None), 6), [0, 1, 2, 3, 4], [1]),
        ((slice(4, 4), slice(None)), [], []),
        (([], 3), [], []),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 2**20])
def test_each_chunk_that_is_needed_is_read_once_and_no_other(
    key: Any,
    u_chunks: list[int],
    vt_chunks: list[int],
    piece_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconstruct, "_PIECE_BYTES", piece_bytes)
    low_rank, store = counted()
    getitem(low_rank, key)
    expected = [f"U/c/{i}/0" for i in u_chunks] + [f"Vt/c/0/{j}" for j in vt_chunks]
    assert store.reads == Counter(expected)


def test_fewer_singular_values_than_vectors_are_the_truncation() -> None:
    full = make(mean=False, scale=False)
    truncated = LowRank(full.U, full.s[:2], full.Vt, None, None, full.chunks, full.dtype)
    assert_equal(truncated[...], (full.U[:, :2] * full.s[:2]) @ full.Vt[:2])


def test_mean_and_scale_may_lie_in_zarr() -> None:
    low_rank = make()
    mean, scale = (
        zarr.create_array(MemoryStore(), data=np.asarray(row), chunks=(5,))
        for row in (low_rank.mean, low_rank.scale)
    )
    lazy = LowRank(low_rank.U, low_rank.s, low_rank.Vt, mean, scale, low_rank.chunks, low_rank.dtype)
    assert_equal(lazy[:, [16, 2, 2]], dense(low_rank)[:, [16, 2, 2]])
    assert_equal(lazy[4], dense(low_rank)[4])


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_singular_values_beyond_the_range_of_the_dtype(dtype: np.dtype[Any]) -> None:
    # A constant matrix at the top of the range: s = size * entry does not fit the dtype, float64 apart.
    size = 100
    entry = float(np.finfo(dtype).max) / (2 if dtype == FLOAT32 else 2 * size)
    vectors = np.full((size, 1), 1 / np.sqrt(size), dtype)
    low_rank = LowRank(vectors, np.array([size * entry]), vectors.T, None, None, (size, size), dtype)
    np.testing.assert_allclose(low_rank[...], np.full((size, size), entry, dtype), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"s": np.ones(K + 1)}, "do not hold the vectors of 5 singular values"),
        ({"U": np.ones(M)}, "do not hold the vectors"),
        ({"mean": np.ones(N + 1)}, "mean has shape"),
        ({"scale": np.ones(N - 1)}, "scale has shape"),
        ({"dtype": np.dtype(np.int32)}, "dtype is int32"),
        ({"chunks": (0, 3)}, "chunks are"),
        ({"s": np.array([1, np.nan])}, "singular value"),
        ({"s": np.array([1.0, -1.0])}, "singular value"),
    ],
)
def test_factors_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    low_rank = make()
    fields = {name: getattr(low_rank, name) for name in LowRank.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        LowRank(**{**fields, **change})


def test_equality_is_of_factors(tmp_path: Path) -> None:
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != make(mean=False)
    assert make() != make(chunks=(1, 1))
    assert make() != "factors"
    stored = make(stored=in_store(zarr.storage.LocalStore(tmp_path)))
    assert stored == loads(dumps(stored))
    assert stored != make()


def test_dask_blocks_are_the_suggested_chunks_and_read_their_own_slices() -> None:
    low_rank, store = counted()
    lazy = to_dask(low_rank)
    assert not store.reads
    assert lazy.chunks == ((10, 10, 3), (6, 6, 5))
    assert lazy.dtype == FLOAT64
    block = lazy.blocks[1, 0].compute(scheduler="synchronous")
    assert store.reads == Counter(["U/c/2/0", "U/c/3/0", "Vt/c/0/0", "Vt/c/0/1"])
    assert_equal(block, dense(low_rank)[10:20, :6])


@pytest.mark.parametrize("key", [np.s_[5], np.s_[:, 3], np.s_[2:20:3, ::-1], np.s_[[4, 0, 22], 2:9]])
def test_dask_slices(key: Any) -> None:
    low_rank = make(stored=in_store(MemoryStore()))
    assert_equal(to_dask(low_rank)[key].compute(scheduler="synchronous"), dense(low_rank)[key])


def test_dask_graph_travels_by_pickle_and_does_not_repeat_the_factors(tmp_path: Path) -> None:
    low_rank = make(chunks=(1, 1), stored=in_store(zarr.storage.LocalStore(tmp_path)))
    lazy = to_dask(low_rank)
    assert to_dask(low_rank).name == lazy.name
    graph = dumps(lazy.__dask_graph__())
    factors = dumps(low_rank)
    assert graph.count(str(tmp_path).encode()) == factors.count(str(tmp_path).encode())
    travelled = loads(dumps(lazy))
    assert_equal(dask.compute(travelled, scheduler="synchronous")[0], dense(low_rank))


def test_zarr_array_has_the_attributes_and_names_of_a_matrix() -> None:
    array = to_zarr(make(), {"rank": K})
    assert array.attrs.asdict() == {"rank": K}
    assert array.metadata.to_dict()["dimension_names"] == ("row", "column")
    assert array.shape == (M, N)
    assert array.chunks == (10, 6)
    assert array.read_only
    assert zarr.open_array(array.store, path="reconstruction").store == array.store
    assert list(zarr.open_group(array.store, mode="r").array_keys()) == ["reconstruction"]


@pytest.mark.parametrize(
    "open_dataset",
    [
        pytest.param(xr.open_zarr, id="open_zarr"),
        pytest.param(lambda store: xr.open_zarr(store, consolidated=False), id="not-consolidated"),
        pytest.param(lambda store: xr.open_dataset(store, engine="zarr"), id="open_dataset"),
        pytest.param(lambda store: xr.open_dataset(store, engine="zarr", chunks={}), id="chunks"),
    ],
)
def test_xarray_opens_it(open_dataset: Callable[[Store], xr.Dataset]) -> None:
    low_rank = make(stored=in_store(MemoryStore()))
    with open_dataset(to_zarr(low_rank).store) as dataset:
        variable = dataset["reconstruction"]
        assert variable.dims == ("row", "column")
        assert_equal(variable.to_numpy(), dense(low_rank))
        assert_equal(variable[4, ::2].to_numpy(), dense(low_rank)[4, ::2])


def test_dask_opens_the_store() -> None:
    low_rank = make(stored=in_store(MemoryStore()))
    lazy = da.from_zarr(to_zarr(low_rank).store, component="reconstruction")
    assert lazy.chunks == ((10, 10, 3), (6, 6, 5))
    assert_equal(lazy.compute(scheduler="threads"), dense(low_rank))


def test_zarr_reads_only_the_factor_chunks_below_a_virtual_chunk() -> None:
    low_rank, store = counted()
    array = to_zarr(low_rank)
    assert not store.reads
    entry = np.asarray(array[11, 7])
    assert store.reads == Counter(["U/c/2/0", "U/c/3/0", "Vt/c/0/1", "Vt/c/0/2"])
    assert_equal(entry, np.asarray(dense(low_rank)[11, 7]))


def test_a_pickled_virtual_array_is_the_same(tmp_path: Path) -> None:
    low_rank = make(stored=in_store(zarr.storage.LocalStore(tmp_path)))
    array = to_zarr(low_rank, {"a": 1})
    travelled = loads(dumps(array))
    assert travelled.store == array.store
    assert repr(travelled.metadata) == repr(array.metadata)  # which are not equal: NaN is not
    assert hash(travelled.store) == hash(array.store)
    assert travelled.store != to_zarr(low_rank).store
    assert travelled.store != "store"
    assert_equal(travelled[:], dense(low_rank))


def get(store: Store, key: str, byte_range: ByteRequest | None = None) -> bytes | None:
    buffer = asyncio.run(store.get(key, default_buffer_prototype(), byte_range))
    return None if buffer is None else buffer.to_bytes()


@pytest.mark.parametrize(
    "key", ["zarr.json", "reconstruction/zarr.json", "reconstruction/c/1/1", "reconstruction/c/2/2"]
)
@pytest.mark.parametrize(
    ("byte_range", "part"),
    [
        (None, slice(None)),
        (RangeByteRequest(3, 11), slice(3, 11)),
        (RangeByteRequest(3, 10**9), slice(3, None)),
        (OffsetByteRequest(16), slice(16, None)),
        (SuffixByteRequest(8), slice(-8, None)),
        (SuffixByteRequest(10**9), slice(None)),
    ],
)
def test_store_answers_byte_ranges(key: str, byte_range: ByteRequest | None, part: slice) -> None:
    store = to_zarr(make()).store
    whole = get(store, key)
    assert whole is not None
    assert get(store, key, byte_range) == whole[part]
    assert asyncio.run(store.getsize(key)) == len(whole)
    [value] = asyncio.run(store.get_partial_values(default_buffer_prototype(), [(key, byte_range)]))
    assert value is not None
    assert value.to_bytes() == whole[part]


def test_chunks_are_little_endian_and_padded_with_nan() -> None:
    low_rank = make(dtype=FLOAT32)
    corner = np.full((10, 6), np.nan, "<f4")
    corner[:3, :5] = region(low_rank, slice(20, None), slice(12, None))
    assert get(to_zarr(low_rank).store, "reconstruction/c/2/2") == corner.tobytes()


@pytest.mark.parametrize(
    "key",
    ["", "c/0/0", "reconstruction", "reconstruction/c/0", "reconstruction/c/3/0", "reconstruction/c/0/3",
     "reconstruction/c/00/0", "reconstruction/c/-1/0", "reconstruction/c/0/0/0"],
)  # fmt: skip
def test_keys_outside_the_grid_do_not_exist(key: str) -> None:
    store = to_zarr(make()).store
    assert get(store, key) is None
    assert not asyncio.run(store.exists(key))
    with pytest.raises(FileNotFoundError):
        asyncio.run(store.getsize(key))


def test_listing_names_every_key_that_exists() -> None:
    store = to_zarr(make()).store

    async def listed(keys: Any) -> list[str]:
        return [key async for key in keys]

    chunks = [f"reconstruction/c/{i}/{j}" for i in range(3) for j in range(3)]
    everything = ["zarr.json", "reconstruction/zarr.json", *chunks]
    assert sorted(asyncio.run(listed(store.list()))) == sorted(everything)
    for prefix in (
        "",
        "zarr",
        "reconstruction",
        "reconstruction/",
        "reconstruction/c/1",
        "reconstruction/c/2/0",
        "x",
    ):
        expected = sorted(key for key in everything if key.startswith(prefix))
        assert sorted(asyncio.run(listed(store.list_prefix(prefix)))) == expected
        assert all(asyncio.run(store.exists(key)) for key in expected)
    for prefix in (
        "",
        "reconstruction",
        "reconstruction/",
        "reconstruction/c",
        "reconstruction/c/2",
        "reconstruction/c/3",
        "c",
        "x/y",
    ):
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        names = {key.removeprefix(below).split("/")[0] for key in everything if key.startswith(below)}
        assert sorted(asyncio.run(listed(store.list_dir(prefix)))) == sorted(names)


def test_a_chunk_that_somebody_lost_is_nan_and_not_zeros() -> None:
    """Such as a proxy that says 404, or a copy of the store that was cut short."""
    store = to_zarr(make()).store

    class Losing(WrapperStore[Store]):
        @property
        def _supports_sync_io(self) -> bool:
            return False

        async def get(
            self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
        ) -> Buffer | None:
            return None if "/c/" in key else await self._store.get(key, prototype, byte_range)

    array = zarr.open_array(Losing(store), path="reconstruction", mode="r")
    assert np.isnan(array[:]).all()


def test_the_metadata_are_those_that_zarr_itself_writes() -> None:
    low_rank = make(dtype=FLOAT32)
    ours = to_zarr(low_rank, {"a": [1]}).metadata
    theirs = zarr.create_array(
        MemoryStore(), shape=(M, N), dtype="f4", chunks=(10, 6), filters=None, compressors=None,
        serializer=BytesCodec(endian="little"), fill_value=np.nan,
        chunk_key_encoding={"name": "default", "separator": "/"},
        dimension_names=("row", "column"), attributes={"a": [1]},
    ).metadata  # fmt: skip
    assert repr(ours) == repr(theirs)


def test_nothing_can_be_written() -> None:
    array = to_zarr(make())
    store = array.store
    assert store.read_only
    assert not store.supports_writes
    assert not store.supports_deletes
    assert store.with_read_only(True) == store
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        array.attrs["a"] = 1
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.delete("zarr.json"))
    with pytest.raises(ValueError, match="read-only"):
        store.with_read_only(False)
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_group(store, mode="a")


@pytest.mark.parametrize("error", [KeyError, FileNotFoundError, OSError, IndexError])
def test_a_factor_that_cannot_be_read_is_an_error_and_not_zeros(error: type[Exception]) -> None:
    class Broken:
        shape = (M, K)

        def __getitem__(self, key: Any) -> Any:
            raise error("lost")

    low_rank = make()
    broken = LowRank(Broken(), low_rank.s, low_rank.Vt, None, None, low_rank.chunks, low_rank.dtype)
    array = to_zarr(broken)
    with pytest.raises(error, match="lost"):
        array[:]


def test_a_matrix_far_larger_than_memory_opens_at_once_and_reads_one_chunk_of_each_factor() -> None:
    m, n, rows, cols = 10_000_000, 1_000_000, 1_000, 500
    store = CountingStore(MemoryStore())
    u = zarr.create_array(store, name="U", shape=(m, 2), chunks=(rows, 2), dtype="f4", fill_value=3)
    vt = zarr.create_array(store, name="Vt", shape=(2, n), chunks=(2, cols), dtype="f4", fill_value=5)
    array = to_zarr(LowRank(u, np.array([2.0, 1.0]), vt, None, None, (rows, cols), FLOAT32))
    assert array.nchunks == (m // rows) * (n // cols)
    assert not store.reads
    assert_equal(np.asarray(array[m - 1, 0]), np.asarray(45.0), FLOAT32)
    assert store.reads == Counter([f"U/c/{m // rows - 1}/0", "Vt/c/0/0"])
    assert not asyncio.run(array.store.is_empty("reconstruction/c/9999"))


def read_all_chunks_at_once() -> None:
    """Reads 64 chunks together, whose factors need decoding; then a virtual array over a virtual one."""
    low_rank = make(chunks=(3, 2), stored=in_store(MemoryStore()))
    with zarr.config.set({"async.concurrency": 64}):
        outer = to_zarr(low_rank)
        assert_equal(outer[:], dense(low_rank))
        nested = LowRank(outer, np.ones(N), np.eye(N), None, None, (3, 2), FLOAT64)
        assert_equal(to_zarr(nested)[:], dense(low_rank))


def test_many_chunks_in_flight_do_not_wait_for_each_other() -> None:
    # In a process of its own, which can be ended should chunks and decoding wait for each other.
    process = multiprocessing.get_context("spawn").Process(target=read_all_chunks_at_once, daemon=True)
    process.start()
    process.join(timeout=120)
    exit_code = process.exitcode
    process.kill()
    process.join()
    assert exit_code == 0


@pytest.mark.parametrize(("weight", "across"), [(1e-50, 1.0), (1e45, 1.0), (1e-25, 1e-25), (1e25, 1e-30)])
@pytest.mark.parametrize("scaled", [False, True])
def test_given_vectors_may_leave_the_range_of_float32(weight: float, across: float, *, scaled: bool) -> None:
    A = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    name = "scale" if scaled else "weights"
    options: dict[str, Any] = {name: np.full(8, weight), "row_weights": np.full(40, across), "method": "gram"}
    factors = bigsvd.svd(A, 8, **options)
    assert factors.dtype == np.float32
    np.testing.assert_allclose(factors[:], A, atol=1e-4)
    np.testing.assert_allclose(factors[3:9, 2], A[3:9, 2], atol=1e-4)


def test_a_chunk_that_an_exported_region_lost_is_nan(tmp_path: Path) -> None:
    factors = bigsvd.svd(np.random.default_rng(0).standard_normal((40, 8)), 2, tmp_path / "f")
    write_region(factors, (slice(0, 40), slice(0, 8)), str(tmp_path / "out.zarr"))
    (tmp_path / "out.zarr" / "c" / "0" / "0").unlink()
    assert np.isnan(zarr.open_array(tmp_path / "out.zarr", mode="r")[:]).all()
