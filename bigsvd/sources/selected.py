"""Some rows and columns of a matrix as a source: only the chunks that hold any of them are read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.errors import RequestError
from bigsvd.facts import SourceFacts
from bigsvd.slabs.block import Block
from bigsvd.slabs.sparse import INDEX_DTYPE, SparseBlock
from bigsvd.sources.base import KeptLines, Rectangle, Source, hashed
from bigsvd.sources.sizes import most_entries
from bigsvd.sources.vectors import open_places
from bigsvd.sources.wrapped import PiecewiseSource, WrappedSource, cells, reader_of_pieces
from bigsvd.vectors import Vector, digest_of

_RANGE = re.compile(r"-?\d*:-?\d*(:\d*)?")
_NUMBER = re.compile(r"-?\d+")
_INDEX_BYTES = 8  # of the number of a line


@dataclass(frozen=True, eq=False)
class Lines:
    """Some lines of a matrix along one axis, each once and in the order in which the matrix has them.

    Attributes:
        ids: (c,) int64, ascending. chunk: how many lines of the matrix are stored together.
        order: (c,) where each of them is among those that were asked for; None where these ascend.

    """

    ids: np.ndarray
    chunk: int
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.ids.size)

    def some(self, numbers: np.ndarray | None) -> np.ndarray:
        """The ids of those of these numbers; of all where it is None."""
        if numbers is None:
            return self.ids
        return np.asarray(self.ids[numbers])

    @property
    def first(self) -> int:
        """The id of the first."""
        return int(self.ids[0])

    @property
    def follow_each_other(self) -> bool:
        """Whether they are all those from the first to the last."""
        return bool(self.ids[-1] - self.ids[0] == len(self) - 1)

    @property
    def in_a_chunk(self) -> int:
        """How many lie in a chunk, on average of the chunks that hold any."""
        return max(1, len(self) // len(self._edges))

    @cached_property
    def _edges(self) -> np.ndarray:
        """The first line of each chunk that holds any, by its number among these lines."""
        return np.flatnonzero(np.diff(self.ids // self.chunk, prepend=-1))

    def pieces(self, some: slice) -> Iterator[tuple[slice, slice, np.ndarray | slice]]:
        """For each chunk that holds some of these: which of them, lines of the matrix, and which of those.

        The lines of the matrix are all from the first one wanted to the last.
        """
        edges = self._edges
        inner = edges[np.searchsorted(edges, some.start, "right") : np.searchsorted(edges, some.stop, "left")]
        for start, stop in pairwise([some.start, *map(int, inner), some.stop]):
            ids = self.ids[start:stop]
            span = slice(int(ids[0]), int(ids[-1]) + 1)
            among: np.ndarray | slice = ids - span.start
            if span.stop - span.start == len(ids):
                among = slice(0, len(ids))
            yield slice(start - some.start, stop - some.start), span, among


@dataclass(frozen=True)
class AllLines:
    """All lines of a matrix along one axis, seen as `Lines`."""

    count: int
    chunk: int

    ids = None
    order = None
    follow_each_other = True

    def __len__(self) -> int:
        return self.count

    def some(self, numbers: np.ndarray | None) -> np.ndarray | None:
        """See `Lines.some`: their numbers are their ids."""
        return numbers

    @property
    def in_a_chunk(self) -> int:
        """As many as are stored together."""
        return min(self.chunk, self.count)

    @property
    def first(self) -> int:
        """See `Lines.first`."""
        return 0

    def pieces(self, some: slice) -> Iterator[tuple[slice, slice, slice]]:
        """See `Lines.pieces`."""
        for span in cells(some, self.chunk):
            length = span.stop - span.start
            yield slice(span.start - some.start, span.stop - some.start), span, slice(0, length)


Some: TypeAlias = Lines | AllLines


class SelectedSource(PiecewiseSource):
    """The rows and columns of a source that are among some lines."""

    def __init__(self, inner: Source, rows: Some, cols: Some) -> None:
        self.how = (rows, cols)
        self._rows, self._cols = rows, cols
        super().__init__(inner)

    def seen(self, facts: SourceFacts) -> SourceFacts:
        """See `WrappedSource.seen`."""
        piece = self._rows.in_a_chunk, self._cols.in_a_chunk
        ids = _INDEX_BYTES * (len(self._rows) + len(self._cols))
        return replace(
            _selected(facts, self._rows, self._cols),
            chunks=piece,
            piece=piece,
            stored_bytes=facts.stored_bytes or self.piece_bytes,
            reader=reader_of_pieces(facts),
            spare_bytes=facts.spare_bytes + 2 * self.piece_bytes + ids,
        )

    def inside(self, rows: slice, cols: slice) -> list[Rectangle]:
        """See `WrappedSource.inside`."""
        pairs = product(self._rows.pieces(rows), self._cols.pieces(cols))
        return [(some_rows, some_cols) for (_, some_rows, _), (_, some_cols, _) in pairs]

    def absent_chunks(self, rows: slice, cols: slice) -> int:
        """See `Source.absent_chunks`: they are not looked for, being in too many places."""
        del rows, cols
        return 0

    def fill(self, target: np.ndarray, rows: slice, cols: slice, read: Callable[..., np.ndarray]) -> None:
        """See `PiecewiseSource.fill`."""
        by_cols = list(self._cols.pieces(cols))
        for here, there, among in self._rows.pieces(rows):
            for across, columns, of_columns in by_cols:
                found = read(there, columns)
                target[here, across] = found[among][:, of_columns]

    @property
    def kept(self) -> KeptLines:
        """See `Source.kept`."""
        return self._rows.ids, self._cols.ids

    @property
    def asked_order(self) -> KeptLines:
        """See `Source.asked_order`."""
        return self._rows.order, self._cols.order

    def lines_inside(self, rows: np.ndarray | None, cols: np.ndarray | None) -> KeptLines:
        """See `WrappedSource.lines_inside`."""
        return self._rows.some(rows), self._cols.some(cols)


class SparseSelectedSource(SelectedSource):
    """The same of a sparse source, whose blocks stay sparse."""

    def block(self, rows: slice, cols: slice, space: ReadBuffers) -> Block:
        """See `Source.block`."""
        by_cols = list(self._cols.pieces(cols))
        grid: list[list[Any]] = []
        for _, there, among in self._rows.pieces(rows):
            grid.append([])
            for _, columns, of_columns in by_cols:
                found = cast("SparseBlock", self.inner.block(there, columns, space.on_the_way))
                grid[-1].append(found.matrix[among][:, of_columns])
        return SparseBlock.joined(grid)


class ShiftedSource(WrappedSource):
    """Rows and columns of a source that follow each other, read as they lie."""

    def __init__(self, inner: Source, rows: Some, cols: Some) -> None:
        self.how = (rows, cols)
        self._rows, self._cols = rows, cols
        super().__init__(inner)

    def seen(self, facts: SourceFacts) -> SourceFacts:
        """See `WrappedSource.seen`."""
        whole = facts.piece if any(facts.piece) else facts.chunks
        one_more = math.ceil(
            whole[0] * whole[1] * facts.entry_bytes
        )  # a chunk of which only a part is wanted
        return replace(
            _selected(facts, self._rows, self._cols),
            chunks=(min(facts.chunks[0], len(self._rows)), min(facts.chunks[1], len(self._cols))),
            piece=whole,
            spare_bytes=facts.spare_bytes + one_more,
        )

    def inside(self, rows: slice, cols: slice) -> list[Rectangle]:
        """See `WrappedSource.inside`."""
        top, left = self._rows.first, self._cols.first
        return [(slice(rows.start + top, rows.stop + top), slice(cols.start + left, cols.stop + left))]

    @property
    def kept(self) -> KeptLines:
        """See `Source.kept`."""
        return self._rows.ids, self._cols.ids

    @property
    def asked_order(self) -> KeptLines:
        """See `Source.asked_order`."""
        return self._rows.order, self._cols.order

    def lines_inside(self, rows: np.ndarray | None, cols: np.ndarray | None) -> KeptLines:
        """See `WrappedSource.lines_inside`."""
        return self._rows.some(rows), self._cols.some(cols)


def _selected(facts: SourceFacts, rows: Some, cols: Some) -> SourceFacts:
    """What any selection says of itself."""
    digests = [digest_of(lines.ids) for lines in (rows, cols) if lines.ids is not None]
    marks = " ".join([facts.fingerprint, *digests])
    shape = len(rows), len(cols)
    found = replace(facts, shape=shape, fingerprint=hashed(marks), full_shape=facts.shape)
    return _selected_sparse(found, facts) if facts.is_sparse else found


def _selected_sparse(found: SourceFacts, whole: SourceFacts) -> SourceFacts:
    """What is known of the entries that are stored: of a line, those selected are no more than all of it."""
    full = found.shape[0] * found.shape[1] * (whole.itemsize + 2 * INDEX_DTYPE.itemsize)
    size = max(1, min(int(_share_of_lines(found, whole) * whole.sparse_bytes), full))
    crowding = min(whole.heaviest, full / size)  # those selected may be the heaviest, of whatever chunks
    return replace(found, sparse_bytes=size, crowding=crowding, heaviest=crowding)


def _share_of_lines(found: SourceFacts, whole: SourceFacts) -> float:
    """How many of the lines are selected; all, where the only chunk does not tell which axis numbers them."""
    if whole.chunks == whole.shape:
        return 1.0
    axis = whole.lines_axis
    return found.shape[axis] / whole.shape[axis]


def selected(
    source: Source, rows: Any, cols: Any, storage_options: Mapping[str, Any] | None = None
) -> Source:
    """The source with some of its rows and columns: slices, their text, truth values, indices, or their path.

    None takes all. A mask may have the shape of the axes that are stacked to columns.

    Raises:
        RequestError: nothing is selected, a line is twice, or does not exist.

    """
    if rows is None and cols is None:
        return source
    facts = source.facts
    chosen = [
        _lines(option, given, facts, axis, storage_options)
        for axis, (option, given) in enumerate((("rows", rows), ("cols", cols)))
    ]
    inner = source.wanting(*(lines.ids for lines in chosen))
    if all(lines.follow_each_other for lines in chosen):
        return ShiftedSource(inner, *chosen)
    if facts.is_sparse:
        return SparseSelectedSource(inner, *chosen)
    return SelectedSource(inner, *chosen)


def name_of(given: Any) -> Any:
    """How a request calls a selection: by its text, its path, or the digest of its values."""
    if given is None or isinstance(given, (str, Path)):
        return None if given is None else str(given)
    if isinstance(given, slice):
        parts = [given.start, given.stop] + ([given.step] if given.step is not None else [])
        return ":".join("" if part is None else str(part) for part in parts)
    return digest_of(np.asarray(given))


def _lines(
    option: str, given: Any, facts: SourceFacts, axis: int, storage_options: Mapping[str, Any] | None
) -> Some:
    """The lines that are selected along an axis."""
    length, chunk = facts.shape[axis], facts.chunks[axis]
    if given is None:
        return AllLines(length, chunk)
    _refuse_a_number(option, given)
    if isinstance(given, slice) or (isinstance(given, str) and _RANGE.fullmatch(given)):
        asked = np.arange(*_slice(option, given).indices(length))
    else:
        asked = _of_places(option, given, facts, axis, storage_options)
    if not asked.size:
        raise RequestError(f"{option}={name_of(given)} selects nothing of {length}", "select one at least")
    if np.all(np.diff(asked) > 0):
        return Lines(asked, chunk)
    order = np.argsort(asked)
    return Lines(asked[order], chunk, order)


def _refuse_a_number(option: str, given: Any) -> None:
    """`RequestError` for one number, of which it is not known whether it is an index or a count."""
    text = str(given) if isinstance(given, (int, np.integer)) else given
    if isinstance(text, str) and _NUMBER.fullmatch(text):
        raise RequestError(
            f"{option}={text} is one number, not a range", f"give start:stop, such as 0:{text.lstrip('-')}"
        )


def _slice(option: str, given: Any) -> slice:
    parts = [given.start, given.stop, given.step] if isinstance(given, slice) else given.split(":")
    found = slice(*(None if part in ("", None) else int(part) for part in parts))
    if found.step is not None and found.step < 1:
        raise RequestError(f"{option} has the step {found.step}", "give a step of at least 1")
    return found


def _of_places(
    option: str, given: Any, facts: SourceFacts, axis: int, storage_options: Mapping[str, Any] | None
) -> np.ndarray:
    """The lines that truth values or indices select, in the order in which these are given."""
    length = facts.shape[axis]
    shape, names = facts.stacked_shape(axis), facts.stacked_dims(axis)
    vector = open_places(option, given, storage_options, most_entries(facts))
    if vector.values.dtype == bool:
        return np.flatnonzero(_mask(option, vector, length, names, shape))
    values = vector.values
    if values.ndim != 1:
        raise RequestError(
            f"{vector.told(option)} has shape {values.shape}", "give a vector of indices: one axis"
        )
    outside = (values < -length) | (values >= length)
    if outside.any():
        raise RequestError(
            f"{vector.told(option)} selects {values[outside][0]} of {length}",
            f"give indices from 0 to {length - 1}",
        )
    ids = np.where(values < 0, values + length, values)
    twice = ids.size - np.unique(ids).size
    if twice:
        raise RequestError(f"{vector.told(option)} selects {twice} of them twice", "give each index once")
    return ids


def _mask(
    option: str, vector: Vector, length: int, names: tuple[str, ...], shape: tuple[int, ...]
) -> np.ndarray:
    """Truth values, one for each line of the data."""
    values = vector.values
    found = vector.along(names, shape)
    if found is not None:
        return found
    if values.ndim != 1:
        raise RequestError(
            f"{vector.told(option)} has shape {values.shape}, not {shape}",
            "give truth values in that shape, or a vector",
        )
    if values.size != length:
        raise RequestError(
            f"{vector.told(option)} has {values.size:,} truth values for {length:,}",
            "give one for each, or indices",
        )
    return values
