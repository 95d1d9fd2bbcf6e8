"""A Zarr array as a source: read through `GuardStore`, which counts bytes and notices absent keys.

Everything Zarr raises is translated here, once.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import time
from collections.abc import Callable, Hashable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.errors import NodeNotFoundError
from zarr.storage import LocalStore

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.chunks.guard import GuardStore
from bigsvd.chunks.reader import ChunkReader
from bigsvd.counters import Counters
from bigsvd.errors import (
    BigsvdError,
    ChunkCorruptError,
    ChunkMissingError,
    MetadataError,
    SourceError,
    StorageError,
    first_line,
)
from bigsvd.facts import SourceFacts
from bigsvd.sources.base import AS_A_MATRIX, Axes, KeptLines, Reading, Rectangle, Source, stamp_of
from bigsvd.sources.groups import SparseGroupError, members_of
from bigsvd.sources.local import absent_files, places_of
from bigsvd.sources.packing import decoded
from bigsvd.sources.remote import RemoteStore
from bigsvd.sources.sizes import check_size
from bigsvd.sources.stacking import stacked
from bigsvd.sources.tokens import keep, kept
from bigsvd.sources.zarr_packing import dimensions_of, packing_of_zarr

# Chunks that are looked for before a run; more would take seconds, and memory for their names. Chosen.
_MOST_LOOKED_FOR = 2**18
_RETRIES = 3
_RETRY_SECONDS = 0.2


class ZarrSource(Source):
    """A Zarr array, v2 or v3, on any of Zarr's own stores; one of more axes than two stacked to a matrix."""

    def __init__(
        self,
        name: str,
        store: Store,
        path: str,
        *,
        fill_missing: bool,
        decode: bool = True,
        axes: Axes = AS_A_MATRIX,
        wanted: KeptLines = (None, None),
        array: zarr.Array[Any] | None = None,
    ) -> None:
        self._arguments = (name, store, path, fill_missing, decode, axes, wanted)
        self._remote = None if isinstance(store, LocalStore) else RemoteStore.of(store, name)
        self._guard = GuardStore(self._remote or store)
        self._fill_missing = fill_missing
        self.counters = Counters()
        if array is None:
            array = open_zarr(name, self._guard, path, self._remote, only=True)
        self._array = array
        if array.path != path.strip("/"):  # the only one of a group
            name = f"{name.rstrip('/')}/{array.path.removeprefix(path).lstrip('/')}"
        dims = dimensions_of(self._array)
        self._stacking = stacked(name, self._array.shape, self._array.dtype, axes, dims)
        _check_chunks(name, self._array)
        self._direct = ChunkReader.of(name, self._array, self._guard)
        self._stored = tuple(map(int, self._array.shards or self._array.chunks))
        stored_bytes = math.prod(self._stored) * self._array.dtype.itemsize
        chunk_bytes = math.prod(self._array.chunks) * self._array.dtype.itemsize
        spare_bytes = 0 if isinstance(store, LocalStore) else stored_bytes
        if self._direct is not None and (self._direct.copies or self._stacking.axis > 0):
            spare_bytes += chunk_bytes
        self._dtype, packing = packing_of_zarr(name, self._array, decode=decode)
        metadata = json.dumps(self._array.metadata.to_dict(), sort_keys=True, default=str)
        self.facts = SourceFacts(
            name=name,
            shape=self._stacking.shape,
            dtype=self._dtype.name,
            chunks=self._stacking.unit(self._stored),
            fingerprint=hashlib.sha256(metadata.encode()).hexdigest(),
            reader="pipeline" if self._direct is None else "direct",
            stored_bytes=stored_bytes,
            piece=self._stacking.piece(self._array.chunks),
            spare_bytes=spare_bytes,
            packing=packing,
            dims=dims,
            array_shape=() if self._stacking.is_matrix else self._stacking.lengths,
            array_axis=self._stacking.axis,
            codec=" ".join(map(_told_codec, self._array.compressors)),
        )

    @classmethod
    def of(cls, name: str, store: Store, path: str, how: Reading) -> ZarrSource:
        """The array at `path` of a store, read as a request says."""
        return cls(name, store, path, fill_missing=how.fill_missing, decode=how.decode, axes=how.axes)

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        name, store, *how = self._arguments
        return _reopen_zarr, (name, portable(store), *how)

    def fresh(self) -> Source:
        """See `Source.fresh`; with books of its own, and without reading metadata again where that can be."""
        return self.wanting(*self._arguments[-1])

    def wanting(self, rows: np.ndarray | None, cols: np.ndarray | None) -> Source:
        """See `Source.wanting`: an absent chunk is counted where its first entry that is wanted is read."""
        name, store, path, fill_missing, decode, axes, _ = self._arguments
        known = self._array if self._direct is not None else None
        return ZarrSource(
            name, store, path,
            fill_missing=fill_missing, decode=decode, axes=axes, wanted=(rows, cols), array=known,
        )  # fmt: skip

    @property
    def on_disk(self) -> bool:
        """See `Source.on_disk`."""
        return self._direct is not None and isinstance(self._arguments[1], LocalStore)

    @property
    def places(self) -> tuple[Path, ...]:
        """See `Source.places`."""
        name, store, path = self._arguments[:3]
        return places_of(store, path, name)

    @property
    def in_this_process_only(self) -> bool:
        """Whether the store is one that only this process has."""
        return not isinstance(portable(self._arguments[1]), Store)

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`. `ChunkMissingError`, `ChunkCorruptError` or `StorageError` name the key."""
        for attempt in range(_RETRIES + 1):
            try:
                block = self._read_once(rows, cols, space or ReadBuffers())
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
        if self._remote is not None:
            self.counters.retries = self._remote.retries
        absent = self._guard.take_absent()
        if absent:
            self._refuse_absent(sorted(absent), str(len(absent)))
        self.counters.filled_chunks += sum(self._begun(rows, cols, absent))
        return block

    def _begun(self, rows: slice, cols: slice, absent: set[str]) -> Iterator[bool]:
        """Of each of these chunks of a rectangle whether the first entry that is wanted of it lies there."""
        if not absent:
            return
        for place, key in self._chunks_in(rows, cols):
            if f"{self._array.path}/{key}".lstrip("/") in absent:
                box = tuple(
                    slice(i * n, min((i + 1) * n, length))
                    for i, n, length in zip(place, self._stored, self._array.shape, strict=True)
                )
                first = self._stacking.first_in(box, self._arguments[-1])
                yield first is not None and _within(first, (rows, cols))

    def absent_chunks(self, rows: slice, cols: slice) -> int:
        """See `Source.absent_chunks`: on local disks, where there are not too many chunks to look for."""
        store, count = self._arguments[1], self._chunk_count(rows, cols)
        if not isinstance(store, LocalStore) or count > _MOST_LOOKED_FOR:
            return 0
        keys = (key for _, key in self._chunks_in(rows, cols))
        absent = absent_files(Path(store.root) / self._array.path, keys)
        if absent:
            self._refuse_absent(absent, f"{len(absent):,} of {count:,}")
        return len(absent)

    def _refuse_absent(self, keys: list[str], how_many: str) -> None:
        """`ChunkMissingError` that names chunks that do not exist, unless they are to be read as filled."""
        if self._fill_missing:
            return
        raise ChunkMissingError(
            f"{how_many} chunk(s) of {self.facts.name} do not exist: {', '.join(keys[:3])}",
            f"restore them, or if they were left out for holding nothing but {self._array.fill_value} use "
            "missing_chunks='fill'",
        )

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """See `Source.stamp`: size and time of last change of each file; None on other than local stores."""
        store = self._arguments[1]
        if not isinstance(store, LocalStore):
            return None
        folder = Path(store.root) / self._array.path
        return tuple(stamp_of(f"{folder}/{key}") for _, key in self._chunks_in(rows, cols))

    def _chunk_count(self, rows: slice, cols: slice) -> int:
        """How many chunks (shards) the rectangle touches."""
        box = self._stacking.box(rows, cols)
        sides = zip(box, self._stored, strict=True)
        return math.prod(-(-side.stop // n) - side.start // n for side, n in sides)

    def _chunks_in(self, rows: slice, cols: slice) -> Iterator[tuple[tuple[int, ...], str]]:
        """Grid position and key of the chunks (shards) that the rectangle touches."""
        box = self._stacking.box(rows, cols)
        sides = zip(box, self._stored, strict=True)
        for place in product(*(range(side.start // n, -(-side.stop // n)) for side, n in sides)):
            yield place, self._array.metadata.encode_chunk_key(place)

    def _read_once(self, rows: slice, cols: slice, space: ReadBuffers) -> np.ndarray:
        dtype, box = self._array.dtype, self._stacking.box(rows, cols)
        target, rectangle = self._stacking.room(rows, cols, lambda shape: space.panel.take(shape, dtype))
        if self._direct is not None:
            self._direct.read(box, target, space)
            return rectangle.view(self._dtype)
        buffer = default_buffer_prototype().nd_buffer.from_ndarray_like(cast("Any", target))
        try:
            self._array.get_basic_selection(box, out=buffer)
        except (OSError, TimeoutError, BigsvdError):
            raise
        except Exception as error:  # codecs raise RuntimeError, ValueError, TypeError, zlib.error, ...
            raise self._corrupt(rows, cols, error) from error
        return rectangle.astype(dtype.newbyteorder("="), copy=False).view(self._dtype)

    def _corrupt(self, rows: slice, cols: slice, error: Exception) -> ChunkCorruptError:
        """Name the first chunk of the rectangle that cannot be decoded alone."""
        for place, key in self._chunks_in(rows, cols):
            try:
                sides = zip(place, self._stored, strict=True)
                self._array[tuple(slice(i * length, (i + 1) * length) for i, length in sides)]
            except Exception as chunk_error:  # noqa: BLE001 - whatever a codec raises is the evidence
                return ChunkCorruptError(
                    f"chunk {key} of {self.facts.name} cannot be decoded ({first_line(chunk_error)})",
                    "restore that chunk",
                )
        return ChunkCorruptError(
            f"rows {rows.start}:{rows.stop} of {self.facts.name} cannot be decoded ({error})",
            "restore that part",
        )


def _within(place: tuple[int, int], rectangle: Rectangle) -> bool:
    return all(side.start <= i < side.stop for i, side in zip(place, rectangle, strict=True))


def open_zarr(
    name: str, store: Store, path: str, remote: RemoteStore | None = None, *, only: bool = False
) -> zarr.Array[Any]:
    """The Zarr array at `path` of a store, or with `only` the one matrix of the group that is there.

    What else is there is said by an error.
    """
    try:
        return zarr.open_array(store, path=path, mode="r")
    except BigsvdError:
        raise
    except PermissionError as error:
        raise StorageError(f"{name} may not be read ({error})", "grant access to it") from error
    except Exception as error:  # garbage metadata raises anything from JSONDecodeError to KeyError
        members = members_of(store, path)
        if only and members is not None and members.only_sparse:
            raise SparseGroupError(name, path, members.only_sparse) from None
        if only and members is not None and members.only:
            return open_zarr(f"{name}/{members.only}", store, f"{path}/{members.only}".strip("/"), remote)
        if members is not None:
            raise members.refusal(name, "a Zarr group") from error
        if remote is not None:
            remote.check_refused()
        if isinstance(error, (FileNotFoundError, NodeNotFoundError)):
            raise SourceError(f"{name} holds no Zarr array", "check the path") from error
        raise MetadataError(
            f"the Zarr metadata of {name} cannot be read ({first_line(error)})",
            "repair its zarr.json, or .zarray in format 2",
        ) from error


def numbers_of_zarr(name: str, store: Store, path: str, most: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """All entries of an array, decoded, gaps NaN; the names of its axes if they have any.

    `ChunkMissingError` where a chunk is absent, `RequestError` where there are more entries than `most`.
    """
    array = open_zarr(name, GuardStore(store, ChunkMissingError), path)
    check_size(name, array.shape, most)
    dtype, packing = packing_of_zarr(name, array)
    entries = np.asarray(array[...]).astype(array.dtype.newbyteorder("=")).view(dtype)
    return decoded(entries, packing), dimensions_of(array)


def _check_chunks(name: str, array: zarr.Array[Any]) -> None:
    """`SourceError` unless all chunks have one size, as those of Zarr's regular grid."""
    try:
        chunks = tuple(map(int, array.chunks))
    except (NotImplementedError, ValueError, TypeError) as error:
        raise SourceError(
            f"{name} has chunks of varying sizes ({first_line(error)})",
            "store it again with chunks of one size, such as by zarr.create_array with chunks=(1000, 1000)",
        ) from error
    if min(chunks) < 1:
        raise SourceError(f"{name} has chunks of {chunks}", "store it again with chunks of one size")


def portable(store: Store) -> Store | str:
    """The store, or its token where it lives in this process only."""
    inner = store.inner if isinstance(store, RemoteStore) else store
    if isinstance(inner, LocalStore):
        return store
    if type(inner).__name__ in ("FsspecStore", "ObjectStore", "ZippedStore") and _pickles(inner):
        return store
    return keep(store)


def reopened(store: Store | str) -> Store:
    """The inverse of `portable`."""
    there: Store = kept(store) if isinstance(store, str) else store
    return there


def _pickles(store: Store) -> bool:
    """Not one in memory, nor one whose credentials come from a live session."""
    try:
        pickle.dumps(store)
    except Exception:  # noqa: BLE001 - whatever a part of it raises, it does not
        return False
    return True


def _reopen_zarr(
    name: str,
    store: Store | str,
    path: str,
    fill_missing: bool,
    decode: bool,
    axes: Axes,
    wanted: KeptLines,
) -> Source:
    return ZarrSource(
        name, reopened(store), path, fill_missing=fill_missing, decode=decode, axes=axes, wanted=wanted
    )


def _told_codec(codec: Any) -> str:
    """What people call a compressor: of Blosc's the one inside."""
    inside = getattr(codec, "cname", "")
    kind = type(codec).__name__.removesuffix("Codec").lower()
    return f"{kind} {getattr(inside, 'value', inside)}".strip()
