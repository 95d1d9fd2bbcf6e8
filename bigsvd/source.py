"""Opens any input as a `Source`: an m×n matrix that can be read in rectangles.

A `Source` travels to workers by pickle and reopens itself there. Zarr is read through `GuardStore`, which
counts bytes and notices keys that do not exist; everything Zarr raises is translated here, once.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import time
import uuid
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.errors import NodeNotFoundError, ZarrUserWarning
from zarr.storage import LocalStore

from bigsvd.chunks import ChunkReader, GuardStore, Workspace
from bigsvd.device import as_numpy
from bigsvd.errors import (
    BigsvdError,
    ChunkCorruptError,
    ChunkMissingError,
    DtypeError,
    MetadataError,
    ShapeError,
    SourceError,
    StorageError,
    first_line,
)

_PAIRS = ("shape", "chunks", "piece")
_RETRIES = 3
_RETRY_SECONDS = 0.2


@dataclass(frozen=True)
class SourceFacts:
    """What is known of A before any of it is read.

    Attributes:
        name: path, URL or description.
        shape: (m, n).
        dtype: NumPy name of the element type, in native byte order.
        chunks: rows and columns that are stored, and so best read, together (the shard where there is one).
        fingerprint: hash of the metadata; two sources that differ in it are different sources.
        reader: "memory" where reading is a view, "direct" where chunks are decoded one after another straight
            into place (`ChunkReader`), "pipeline" where another library decodes several at a time.
        stored_bytes: of a chunk or shard, decoded, which may reach beyond the matrix; 0 if that is `chunks`.
        piece: rows and columns of a chunk, also where it lies in a shard; (0, 0) if that is `chunks`.
        spare_bytes: what this reader takes for a chunk besides: copies that stores and codecs make.

    """

    name: str
    shape: tuple[int, int]
    dtype: str
    chunks: tuple[int, int]
    fingerprint: str
    reader: str = "pipeline"
    stored_bytes: int = 0
    piece: tuple[int, int] = (0, 0)
    spare_bytes: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes of one entry."""
        return np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of A, uncompressed."""
        return self.shape[0] * self.shape[1] * self.itemsize

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        lists = {name: list(getattr(self, name)) for name in _PAIRS}
        return asdict(self) | lists

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SourceFacts:
        """The inverse of `to_dict`."""
        return cls(**{**values, **{name: tuple(values[name]) for name in _PAIRS}})


@dataclass
class ReadCounters:
    """What a source has read since it was opened: encoded bytes, absent chunks taken as fill, retries."""

    encoded_bytes: int = 0
    filled_chunks: int = 0
    retries: int = 0


class Source(ABC):
    """An m×n matrix on some medium.

    Laws: `read` returns the same entries as ``np.asarray(A)[rows, cols]``; a pickled copy reads the same.
    """

    facts: SourceFacts
    counters: ReadCounters

    @abstractmethod
    def read(self, rows: slice, cols: slice, space: Workspace | None = None) -> np.ndarray:
        """The entries of a rectangle, native byte order; the caller must not write into it.

        With `space` they may lie in its memory, and then until it is used again. One thread
        at a time: each takes a `fresh` source.
        """

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """What changes when somebody writes into the rectangle, as far as is known without reading it."""
        del rows, cols
        return None

    @property
    def on_disk(self) -> bool:
        """Whether its chunks are files here that are read by this module, past the page cache if asked."""
        return False

    def fresh(self) -> Source:
        """The same source with counters of its own, for one lane."""
        other = object.__new__(type(self))  # copy.copy would go through __reduce__, and so to the original
        other.__dict__.update(self.__dict__)
        other.counters = ReadCounters()
        return other

    @property
    def in_this_process_only(self) -> bool:
        """Whether a worker in another process could not reach the data."""
        return False


class ZarrSource(Source):
    """A 2-D Zarr array, v2 or v3, on any of Zarr's own stores."""

    def __init__(
        self, name: str, store: Store, path: str, *, fill_missing: bool, array: zarr.Array[Any] | None = None
    ) -> None:
        self._arguments = (name, store, path, fill_missing)
        self._guard = GuardStore(store)
        self._fill_missing = fill_missing
        self.counters = ReadCounters()
        self._array = _open_array(name, self._guard, path) if array is None else array
        shape = _check_matrix(name, self._array.shape, self._array.dtype)
        self._direct = ChunkReader.of(name, self._array, self._guard)
        chunks = self._array.shards or self._array.chunks
        height, width = self._array.chunks
        stored_bytes = int(chunks[0]) * int(chunks[1]) * self._array.dtype.itemsize
        spare_bytes = 0 if isinstance(store, LocalStore) else stored_bytes
        if self._direct is not None and self._direct.copies:
            spare_bytes += height * width * self._array.dtype.itemsize
        metadata = json.dumps(self._array.metadata.to_dict(), sort_keys=True, default=str)
        self.facts = SourceFacts(
            name=name,
            shape=shape,
            dtype=self._array.dtype.newbyteorder("=").name,
            chunks=(min(chunks[0], shape[0]), min(chunks[1], shape[1])),
            fingerprint=hashlib.sha256(metadata.encode()).hexdigest(),
            reader="pipeline" if self._direct is None else "direct",
            stored_bytes=stored_bytes,
            piece=(height, width),
            spare_bytes=spare_bytes,
        )

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        name, store, path, fill_missing = self._arguments
        return _reopen_zarr, (name, _portable(store), path, fill_missing)

    def fresh(self) -> Source:
        """See `Source.fresh`; with books of its own, and without reading metadata again where that can be."""
        name, store, path, fill_missing = self._arguments
        known = self._array if self._direct is not None else None
        return ZarrSource(name, store, path, fill_missing=fill_missing, array=known)

    @property
    def on_disk(self) -> bool:
        """See `Source.on_disk`."""
        return self._direct is not None and isinstance(self._arguments[1], LocalStore)

    @property
    def in_this_process_only(self) -> bool:
        """Whether the store is one that only this process has."""
        return not isinstance(_portable(self._arguments[1]), Store)

    def read(self, rows: slice, cols: slice, space: Workspace | None = None) -> np.ndarray:
        """See `Source.read`. `ChunkMissingError`, `ChunkCorruptError` or `StorageError` name the key."""
        for attempt in range(_RETRIES + 1):
            try:
                block = self._read_once(rows, cols, space or Workspace())
                break
            except (OSError, TimeoutError) as error:
                if attempt == _RETRIES or isinstance(error, (PermissionError, IsADirectoryError)):
                    raise StorageError(
                        f"reading {self.facts.name} failed {attempt + 1} times: {error}",
                        "check the store and run again",
                    ) from error
                self.counters.retries += 1
                time.sleep(_RETRY_SECONDS * 2**attempt)
        self.counters.encoded_bytes = self._guard.encoded_bytes
        missing = self._guard.take_missing()
        if missing and not self._fill_missing:
            keys = ", ".join(sorted(missing)[:3])
            raise ChunkMissingError(
                f"{len(missing)} chunk(s) of {self.facts.name} do not exist: {keys}",
                "restore them, or use missing_chunks='fill' to read them as the fill value",
            )
        self.counters.filled_chunks += len(missing)
        return block

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """See `Source.stamp`: size and time of last change of each file; None on other than local stores."""
        store = self._arguments[1]
        if not isinstance(store, LocalStore):
            return None
        folder = Path(store.root) / self._array.path
        found = []
        for _, key in self._chunks_in(rows, cols):
            try:
                status = (folder / key).stat()
                found.append((status.st_size, status.st_mtime_ns, status.st_ino))
            except OSError:
                found.append((-1, 0, 0))
        return tuple(found)

    def _chunks_in(self, rows: slice, cols: slice) -> Iterator[tuple[tuple[int, int], str]]:
        """Grid position and key of the chunks (shards) that the rectangle touches."""
        height, width = self._array.shards or self._array.chunks
        for i in range(rows.start // height, -(-rows.stop // height)):
            for j in range(cols.start // width, -(-cols.stop // width)):
                yield (i, j), self._array.metadata.encode_chunk_key((i, j))

    def _read_once(self, rows: slice, cols: slice, space: Workspace) -> np.ndarray:
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        dtype = self._array.dtype
        target = space.panel.take(shape, dtype)
        if self._direct is not None:
            self._direct.read(rows, cols, target, space)
            return target
        buffer = default_buffer_prototype().nd_buffer.from_ndarray_like(cast("Any", target))
        try:
            self._array.get_basic_selection((rows, cols), out=buffer)
        except (OSError, TimeoutError, BigsvdError):
            raise
        except Exception as error:  # codecs raise RuntimeError, ValueError, TypeError, zlib.error, ...
            raise self._corrupt(rows, cols, error) from error
        return target if dtype.isnative else target.astype(dtype.newbyteorder("="))

    def _corrupt(self, rows: slice, cols: slice, error: Exception) -> ChunkCorruptError:
        """Name the first chunk of the rectangle that cannot be decoded alone."""
        height, width = self.facts.chunks
        for (i, j), key in self._chunks_in(rows, cols):
            try:
                self._array[i * height : (i + 1) * height, j * width : (j + 1) * width]
            except Exception as chunk_error:  # noqa: BLE001 - whatever a codec raises is the evidence
                return ChunkCorruptError(
                    f"chunk {key} of {self.facts.name} cannot be decoded ({first_line(chunk_error)})",
                    "restore that chunk",
                )
        return ChunkCorruptError(
            f"rows {rows.start}:{rows.stop} of {self.facts.name} cannot be decoded ({error})",
            "restore that part",
        )


class ArraySource(Source):
    """An array in this process: NumPy, or anything with ``shape``, ``dtype`` and ``[rows, cols]``."""

    def __init__(self, array: Any) -> None:
        self.counters = ReadCounters()
        self._array = array
        shape = _check_matrix(type(array).__name__, tuple(array.shape), np.dtype(array.dtype))
        dtype = np.dtype(array.dtype).newbyteorder("=")
        name = f"<{type(array).__module__.split('.')[0]} array {shape[0]}x{shape[1]} {dtype.name}>"
        self._token = _keep(self)
        self.facts = SourceFacts(
            name, shape, dtype.name, _line_chunks(shape, dtype.itemsize), _hash(name), "memory"
        )

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return _kept, (self._token,)

    @property
    def in_this_process_only(self) -> bool:
        """True: the array is a reference."""
        return True

    def read(self, rows: slice, cols: slice, space: Workspace | None = None) -> np.ndarray:
        """See `Source.read`; a view where the array allows one."""
        del space
        block = as_numpy(self._array[rows, cols])
        if block.shape != (rows.stop - rows.start, cols.stop - cols.start):
            kind = type(self._array).__name__
            raise SourceError(f"a block of the {kind} has shape {block.shape}", "give a dense array")
        return block if block.dtype.isnative else block.astype(block.dtype.newbyteorder("="))


class MemmapSource(ArraySource):
    """A NumPy memory map of a whole file, which other processes on this machine can map again."""

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        a = self._array
        order = "F" if a.flags.f_contiguous and not a.flags.c_contiguous else "C"
        return _remap, (str(a.filename), a.dtype.str, a.shape, a.offset, order)

    @property
    def in_this_process_only(self) -> bool:
        """False: the file can be mapped again."""
        return False


class DaskSource(Source):
    """A 2-D Dask array; a rectangle is computed where it is needed, in the calling thread."""

    def __init__(self, array: Any) -> None:
        self.counters = ReadCounters()
        self._array = array
        shape = _check_matrix("the Dask array", tuple(array.shape), np.dtype(array.dtype))
        dtype = np.dtype(array.dtype).newbyteorder("=")
        chunks = (max(array.chunks[0]), max(array.chunks[1]))
        self.facts = SourceFacts(f"<dask array {array.name}>", shape, dtype.name, chunks, _hash(array.name))

    def __reduce__(self) -> tuple[type[DaskSource], tuple[Any]]:
        return DaskSource, (self._array,)

    def read(self, rows: slice, cols: slice, space: Workspace | None = None) -> np.ndarray:
        """See `Source.read`."""
        del space
        block = as_numpy(self._array[rows, cols].compute(scheduler="synchronous"))
        return block if block.dtype.isnative else block.astype(block.dtype.newbyteorder("="))


def open_source(data: Any, *, missing_chunks: str = "error") -> Source:
    """A `Source` for a path, URL, Zarr array or store, NumPy, xarray or Dask array.

    Raises:
        SourceError: nothing is there, or a group instead of an array.
        MetadataError, ShapeError, DtypeError: what is there is no real matrix.

    """
    fill = missing_chunks == "fill"
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, Path)):
        return _open_path(str(data), fill)
    if isinstance(data, zarr.Array):
        return ZarrSource(str(data.store_path), data.store, data.path, fill_missing=fill)
    if isinstance(data, Store):
        return ZarrSource(str(data), data, "", fill_missing=fill)
    return _open_array_like(data)


def _open_array_like(data: Any) -> Source:
    """An array of another library, known by the module of its type, so that none of them is imported here."""
    module = type(data).__module__.split(".")[0]
    if module == "xarray" and type(data).__name__ == "DataArray":
        return DaskSource(data.data) if data.chunks is not None else ArraySource(_XarrayMatrix(data))
    if module == "dask":
        return DaskSource(data)
    if _maps_whole_file(data):
        return MemmapSource(data)
    if isinstance(data, np.ma.MaskedArray):
        raise SourceError("a masked array hides entries", "use its filled(nan) with missing='mean' or 'zero'")
    if all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")):
        return ArraySource(data)
    raise SourceError(
        f"{type(data).__name__} is not a matrix bigsvd can read",
        "give a path or URL of a Zarr array, or a Zarr, Dask, xarray or NumPy array",
    )


def _maps_whole_file(data: Any) -> bool:
    """Whether its file can be mapped again to the same entries: neither a view nor changed in memory."""
    mapped = isinstance(data, np.memmap) and isinstance(data.base, mmap.mmap)
    return mapped and data.filename is not None and data.mode != "c"


class _XarrayMatrix:
    """A lazily read xarray.DataArray as ``[rows, cols]`` -> NumPy."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.shape = data.shape
        self.dtype = data.dtype

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        return np.asarray(self._data[key].to_numpy())


def _open_path(name: str, fill: bool) -> Source:
    if "://" in name:
        from zarr.storage import FsspecStore  # noqa: PLC0415 - fsspec is in the cloud extra

        try:
            return ZarrSource(name, FsspecStore.from_url(name, read_only=True), "", fill_missing=fill)
        except (ImportError, ValueError) as error:
            raise SourceError(
                f"{name} cannot be opened ({error})", "install the cloud extra, check the URL"
            ) from error
    path = Path(name)
    if not path.exists():
        raise SourceError(f"{name} does not exist", "check the path")
    if not path.is_dir():
        raise SourceError(f"{name} is a file, not a Zarr array", "give the folder of a Zarr array")
    return ZarrSource(name, LocalStore(path.resolve(), read_only=True), "", fill_missing=fill)


def _open_array(name: str, store: Store, path: str) -> zarr.Array[Any]:
    try:
        return zarr.open_array(store, path=path, mode="r")
    except PermissionError as error:
        raise StorageError(f"{name} may not be read ({error})", "grant access to it") from error
    except Exception as error:  # garbage metadata raises anything from JSONDecodeError to KeyError
        arrays = _arrays_of_group(store, path)
        if arrays:
            first = f"{name.rstrip('/')}/{arrays[0]}"
            raise SourceError(
                f"{name} is a Zarr group with the arrays {', '.join(arrays)}",
                f"name one of them, such as {first}",
            ) from error
        if isinstance(error, (FileNotFoundError, NodeNotFoundError)):
            raise SourceError(f"{name} holds no Zarr array", "check the path") from error
        raise MetadataError(
            f"the Zarr metadata of {name} cannot be read ({first_line(error)})",
            "repair its zarr.json, or .zarray in format 2",
        ) from error


def _arrays_of_group(store: Store, path: str) -> list[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # of files that are no part of a group
            group = zarr.open_group(store, path=path, mode="r")
            return sorted(key for key, _ in group.arrays())
    except Exception:  # noqa: BLE001 - garbage metadata raises anything; then it is no group
        return []


def _check_matrix(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int]:
    if len(shape) != 2 or 0 in shape:
        raise ShapeError(f"{name} has shape {shape}", "give a matrix (two axes) with at least one entry")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DtypeError(
            f"{name} has dtype {dtype}, not bool, int8..int64, uint8..uint64 or float16/32/64",
            "convert it first; for complex data decompose the real and imaginary parts side by side",
        )
    return shape[0], shape[1]


def _line_chunks(shape: tuple[int, int], itemsize: int, target_bytes: int = 2**22) -> tuple[int, int]:
    """Rows of an in-memory array to be handled as one chunk."""
    return min(shape[0], max(1, target_bytes // (shape[1] * itemsize))), shape[1]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# Arrays and memory stores are handed to worker threads of this process by a token, never copied.
_KEPT: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def _keep(value: Any) -> str:
    for token, kept in list(_KEPT.items()):
        if kept is value:
            return token
    token = uuid.uuid4().hex  # not its id, which another process or a later object can have too
    _KEPT[token] = value
    return token


def _kept(token: str) -> Any:
    try:
        return _KEPT[token]
    except KeyError:
        raise SourceError(
            "an in-memory array cannot be reached from a worker in another process",
            "store it as Zarr, or run without a scheduler address",
        ) from None


def _portable(store: Store) -> Store | str:
    """The store, or its token where it lives in this process only."""
    if isinstance(store, LocalStore) or type(store).__name__ in ("FsspecStore", "ObjectStore"):
        return store
    return _keep(store)


def _reopen_zarr(name: str, store: Store | str, path: str, fill_missing: bool) -> Source:
    return ZarrSource(
        name, _kept(store) if isinstance(store, str) else store, path, fill_missing=fill_missing
    )


def _remap(filename: str, dtype: str, shape: tuple[int, int], offset: int, order: Any) -> Source:
    return MemmapSource(
        np.memmap(filename, dtype=np.dtype(dtype), mode="r", shape=shape, offset=offset, order=order)
    )
