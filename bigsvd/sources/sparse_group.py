"""`SparseSource`: a sparse matrix as AnnData stores it in Zarr, a group with `data`, `indices` and `indptr`.

A `csr_matrix` lies row by row. A `csc_matrix` is the transpose of one, and is opened so. Rows are read whole,
as a `SparseBlock`, and become dense a slab at a time where they are used.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.errors import ZarrUserWarning
from zarr.storage import LocalStore

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.counters import Counters
from bigsvd.errors import ChunkCorruptError, DtypeError, MetadataError, ShapeError
from bigsvd.facts import SourceFacts
from bigsvd.orientation import Orientation
from bigsvd.slabs.block import Block
from bigsvd.slabs.sparse import INDEX_DTYPE, SparseBlock, own_memory, packed_bytes, scipy_sparse
from bigsvd.sources.base import Reading, Source, advice_on, hashed, stamp_of
from bigsvd.sources.groups import SparseGroupError
from bigsvd.sources.local import places_of
from bigsvd.sources.transposed import TransposedSource
from bigsvd.sources.zarr_dense import ZarrSource, portable, reopened
from bigsvd.sources.zarr_vector import Books, ZarrVector

_PARTS = ("indptr", "indices", "data")
_BY_COLUMNS = "csc_matrix"
_LEAST_ROWS = 16  # that are read together, so that their mean length says something


@dataclass(frozen=True)
class _Stored:
    """What of a group is read by ranges, through one store that keeps books."""

    books: Books
    columns: ZarrVector
    entries: ZarrVector

    def noted_by(self, books: Books) -> _Stored:
        """The same through another."""
        return _Stored(books, self.columns.noted_by(books), self.entries.noted_by(books))


class SparseSource(Source):
    """The matrix of a group in CSR form, read by whole rows."""

    def __init__(
        self, name: str, store: Store, path: str, *, fill_missing: bool, as_floats: bool = False
    ) -> None:
        scipy_sparse()
        self._arguments = (name, store, path, fill_missing, as_floats)
        books = Books.of(name, store)
        self.counters = Counters()
        starts, columns, entries = parts = [
            ZarrVector(f"{name}/{part}", books, f"{path}/{part}".strip("/"), fill_missing=fill_missing)
            for part in _PARTS
        ]
        self._stored = _Stored(books, columns, entries)
        shape, attributes = _shape_of(name, store, path)
        self._dtype = _dtype_of(name, entries.dtype, as_floats=as_floats)
        self._starts = np.empty(starts.length, np.int64)
        starts.read(slice(0, starts.length), self._starts, ReadBuffers())
        self._check(name, shape)
        self.facts = self._known(name, shape, attributes, parts)

    def _check(self, name: str, shape: tuple[int, int]) -> None:
        """`MetadataError` unless the parts fit each other."""
        starts, count = self._starts, self._stored.entries.length
        if starts.size != shape[0] + 1:
            raise MetadataError(
                f"{name}/indptr has {starts.size:,} entries for {shape[0]:,} rows",
                "a row more is needed: write the group again",
            )
        ascending = bool(np.all(starts[1:] >= starts[:-1]))
        if starts[0] != 0 or starts[-1] != count or not ascending or self._stored.columns.length != count:
            raise MetadataError(
                f"{name} has {count:,} data, {self._stored.columns.length:,} indices and an indptr from "
                f"{starts[0]:,} to {starts[-1]:,}{', not ascending' * (not ascending)}",
                "these must fit each other: write the group again",
            )

    def _known(
        self, name: str, shape: tuple[int, int], attributes: str, parts: list[ZarrVector]
    ) -> SourceFacts:
        """The facts; a chunk is as many rows as fill one of `data`, on average."""
        count = self._stored.entries.length
        mean = max(1.0, count / shape[0])
        rows = min(shape[0], max(_LEAST_ROWS, round(self._stored.entries.chunk / mean)))
        edges = self._starts[::rows]
        most, longest = int(np.diff(np.append(edges, count)).max()), int(np.diff(self._starts).max())
        size = packed_bytes(shape[0], count, self._dtype)
        chunk_bytes = max(part.chunk_bytes for part in parts)
        metadata = [
            attributes,
            *(json.dumps(part.array.metadata.to_dict(), sort_keys=True, default=str) for part in parts),
        ]
        return SourceFacts(
            name=name,
            shape=shape,
            dtype=self._dtype.name,
            chunks=(rows, shape[1]),
            fingerprint=hashed("\n".join(metadata)),
            reader="direct",
            spare_bytes=3 * chunk_bytes + self._starts.nbytes,
            sparse_bytes=max(1, int(size)),
            crowding=max(1.0, packed_bytes(rows, most, self._dtype) * shape[0] / (rows * size)),
            heaviest=max(1.0, packed_bytes(1, longest, self._dtype) * shape[0] / size),
        )

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        name, store, *how = self._arguments
        return _reopened, (name, portable(store), *how)

    def as_floats(self) -> Source:
        """See `Source.as_floats`."""
        name, store, path, fill_missing, _ = self._arguments
        return SparseSource(name, store, path, fill_missing=fill_missing, as_floats=True)

    def fresh(self) -> Source:
        """See `Source.fresh`; with books of its own, and without reading metadata again where that can be."""
        name, store, *_ = self._arguments
        other = super().fresh()
        vars(other).update(_stored=self._stored.noted_by(Books.of(name, store)))
        return other

    @property
    def on_disk(self) -> bool:
        """See `Source.on_disk`."""
        return isinstance(self._arguments[1], LocalStore)

    @property
    def places(self) -> tuple[Path, ...]:
        """See `Source.places`."""
        name, store, path, *_ = self._arguments
        return places_of(store, path, name)

    @property
    def in_this_process_only(self) -> bool:
        """Whether the store is one that only this process has."""
        return not isinstance(portable(self._arguments[1]), Store)

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """See `Source.stamp`: size and time of last change of each file; None on other than local stores."""
        del cols
        store = self._arguments[1]
        if not isinstance(store, LocalStore):
            return None
        there = self._range(rows)
        keys = [*self._stored.columns.keys(there), *self._stored.entries.keys(there)]
        return tuple(stamp_of(f"{store.root}/{key}") for key in keys)

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`; dense."""
        return np.asarray(self.block(rows, cols, space or ReadBuffers()).rows(slice(None)))

    def block(self, rows: slice, cols: slice, space: ReadBuffers) -> Block:
        """See `Source.block`; some columns of it are a copy."""
        found = self._whole_rows(rows, space)
        if (cols.start, cols.stop) == (0, self.facts.shape[1]):
            return found
        return SparseBlock.of(found.matrix[:, cols].tocsr(), own_memory)

    def _whole_rows(self, rows: slice, space: ReadBuffers) -> SparseBlock:
        """Rows as they are stored, in the memory of `space`."""
        there = self._range(rows)
        lines, count = (rows.stop - rows.start, self.facts.shape[1]), there.stop - there.start
        found = SparseBlock.empty(lines, count, self._dtype, lambda size: space.panel.take((size,), _BYTE))
        starts, columns, entries = found.parts
        np.subtract(self._starts[rows.start : rows.stop + 1], there.start, out=starts, casting="same_kind")
        self._stored.columns.read(there, columns, space)
        self._stored.entries.read(there, entries, space)
        self.counters.encoded_bytes = self._stored.books.guard.encoded_bytes
        self.counters.filled_chunks = self._stored.columns.absent + self._stored.entries.absent
        self._check_columns(rows, columns)
        matrix = scipy_sparse().csr_matrix((entries, columns, starts), shape=lines, copy=False)
        matrix.sort_indices()  # in the block's memory
        return found if matrix.has_canonical_format else SparseBlock.of(matrix, own_memory)

    def _range(self, rows: slice) -> slice:
        """Where the entries of some rows are stored."""
        return slice(int(self._starts[rows.start]), int(self._starts[rows.stop]))

    def _check_columns(self, rows: slice, columns: np.ndarray) -> None:
        if columns.size and not 0 <= columns.min() <= columns.max() < self.facts.shape[1]:
            raise ChunkCorruptError(
                f"rows {rows.start}:{rows.stop} of {self.facts.name} have indices from {columns.min()} to "
                f"{columns.max()} of {self.facts.shape[1]}",
                "restore them, or write the group again",
            )


class ByColumnsSource(TransposedSource):
    """A matrix that is stored as its transpose: what is stored by rows is its columns."""

    def seen(self, facts: SourceFacts) -> SourceFacts:
        """See `WrappedSource.seen`; its samples are its rows."""
        return replace(super().seen(facts), samples_axis=facts.samples_axis)

    @property
    def orientation(self) -> Orientation:
        """See `Source.orientation`: it is the matrix that was given."""
        return self.inner.orientation


_BYTE: np.dtype[Any] = np.dtype(np.uint8)


def _dtype_of(name: str, stored: np.dtype[Any], *, as_floats: bool) -> np.dtype[Any]:
    """The type as which entries are read: SciPy has no float16."""
    if stored.kind not in "biuf" or stored.itemsize > 8:
        raise DtypeError(f"{name}/data has dtype {stored}, not of real numbers", advice_on(stored))
    if stored == np.float16 or (as_floats and stored != np.float64):
        return np.dtype(np.float32)
    return stored


def _shape_of(name: str, store: Store, path: str) -> tuple[tuple[int, int], str]:
    """The shape that attributes say the matrix (in CSR form) has, and all of these as text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)  # of files that are no part of a group
        attributes = zarr.open_group(store, path=path, mode="r").attrs.asdict()
    text = json.dumps(attributes, sort_keys=True, default=str)
    given: Any = attributes.get("shape", attributes.get("h5sparse_shape"))
    try:
        rows, cols = map(int, given)
    except (TypeError, ValueError) as error:
        raise MetadataError(
            f"{name} has the shape {given!r} in its attributes", "a sparse matrix needs two lengths there"
        ) from error
    if attributes.get("encoding-type") == _BY_COLUMNS:
        rows, cols = cols, rows
    if min(rows, cols) < 1 or cols > np.iinfo(INDEX_DTYPE).max:
        raise ShapeError(
            f"{name} has shape {(rows, cols)}", "give a matrix of 1 to 2^31 - 1 rows and columns"
        )
    return (rows, cols), text


def open_stored(name: str, store: Store, path: str, how: Reading) -> Source:
    """The array at `path` of a store, or the sparse matrix that its group is or alone has."""
    try:
        return ZarrSource.of(name, store, path, how)
    except SparseGroupError as found:
        sparse = SparseSource(found.name, store, found.path, fill_missing=how.fill_missing)
        return ByColumnsSource(sparse) if found.kind == _BY_COLUMNS else sparse


def _reopened(name: str, store: Store | str, path: str, fill_missing: bool, as_floats: bool) -> Source:
    return SparseSource(name, reopened(store), path, fill_missing=fill_missing, as_floats=as_floats)
