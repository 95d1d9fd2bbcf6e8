"""`ZarrVector`: a Zarr array of one axis that is read by ranges, such as the parts of a sparse matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.chunks.guard import GuardStore
from bigsvd.chunks.reader import ChunkReader
from bigsvd.errors import (
    BigsvdError,
    ChunkCorruptError,
    ChunkMissingError,
    ShapeError,
    StorageError,
    first_line,
)
from bigsvd.sources.remote import RemoteStore
from bigsvd.sources.zarr_dense import open_zarr

_PIECE_ENTRIES = 2**16  # that are read at a time where they need another type, or chunks are small


@dataclass(frozen=True)
class Books:
    """A store that keeps books of what is read, and asks again where it is remote."""

    guard: GuardStore
    remote: RemoteStore | None

    @classmethod
    def of(cls, name: str, store: Store) -> Books:
        """New ones, of a store whose data are called so."""
        remote = None if isinstance(store, LocalStore) else RemoteStore.of(store, name)
        return cls(GuardStore(remote or store), remote)


class ZarrVector:
    """The numbers of an array (c,), read into memory that is given, in chunks that are decoded once.

    Attributes:
        length: of it. dtype: in native byte order. chunk: entries that are stored together.

    """

    def __init__(
        self,
        name: str,
        books: Books,
        path: str,
        *,
        fill_missing: bool,
        array: zarr.Array[Any] | None = None,
    ) -> None:
        self._name = name
        self._guard = books.guard
        self._how = (path, fill_missing)
        self.array: zarr.Array[Any] = array or open_zarr(name, books.guard, path, books.remote)
        if len(self.array.shape) != 1:
            raise ShapeError(f"{name} has shape {self.array.shape}", "a part of a sparse matrix has one axis")
        self.length = int(self.array.shape[0])
        self.dtype: np.dtype[Any] = self.array.dtype.newbyteorder("=")
        self.chunk = max(1, int((self.array.shards or self.array.chunks)[0]))
        self._direct = ChunkReader.of(name, self.array, books.guard)
        self.absent = 0

    def noted_by(self, books: Books) -> ZarrVector:
        """The same read through a store that keeps other books."""
        path, fill_missing = self._how
        known = self.array if self._direct is not None else None
        return ZarrVector(self._name, books, path, fill_missing=fill_missing, array=known)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk (shard), decoded."""
        return self.chunk * self.dtype.itemsize

    def read(self, some: slice, target: np.ndarray, space: ReadBuffers) -> None:
        """Fill `target` (c,), of any type that holds them, with the numbers of a range.

        `ChunkMissingError`, `ChunkCorruptError` or `StorageError` name the chunk.
        """
        for piece in self._pieces(some):
            there = target[piece.start - some.start : piece.stop - some.start]
            if there.dtype == self.dtype:
                self._fill(piece, there, space)
                continue
            found = space.on_the_way.panel.take((piece.stop - piece.start,), self.dtype)
            self._fill(piece, found, space)
            there[:] = found
        absent = self._guard.take_absent()
        if absent and not self._how[1]:
            raise ChunkMissingError(
                f"{len(absent)} chunk(s) of {self._name} do not exist: {', '.join(sorted(absent)[:3])}",
                f"restore them, or if they were left out for holding nothing but {self.array.fill_value} use "
                "missing_chunks='fill'",
            )
        self.absent += len(absent)

    def keys(self, some: slice) -> Iterator[str]:
        """The keys of the chunks that a range touches."""
        for number in range(some.start // self.chunk, -(-some.stop // self.chunk)):
            yield f"{self.array.path}/{self.array.metadata.encode_chunk_key((number,))}".lstrip("/")

    def _pieces(self, some: slice) -> Iterator[slice]:
        """A range cut at edges of chunks, so that each chunk is decoded once."""
        step = self.chunk * max(1, _PIECE_ENTRIES // self.chunk)
        edges = [some.start, *range((some.start // step + 1) * step, some.stop, step), some.stop]
        for start, stop in pairwise(edges):
            if start < stop:
                yield slice(start, stop)

    def _fill(self, some: slice, target: np.ndarray, space: ReadBuffers) -> None:
        try:
            if self._direct is not None:
                self._direct.read((some,), target, space)
            else:
                target[:] = self.array[some]
        except BigsvdError:
            raise
        except (OSError, TimeoutError) as error:
            raise StorageError(
                f"reading {self._name} failed: {error}", "check the store and run again"
            ) from error
        except Exception as error:  # codecs raise RuntimeError, ValueError, TypeError, zlib.error, ...
            raise ChunkCorruptError(
                f"entries {some.start}:{some.stop} of {self._name} cannot be decoded ({first_line(error)})",
                "restore those chunks",
            ) from error
