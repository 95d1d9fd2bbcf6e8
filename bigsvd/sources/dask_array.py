"""A Dask array as a source: its graph stays in this process, and other processes get parts of it."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import accumulate, product
from typing import Any

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.counters import Counters
from bigsvd.errors import SourceError, first_line
from bigsvd.facts import SourceFacts
from bigsvd.sources.base import (
    AS_A_MATRIX,
    Axes,
    Rectangle,
    Rehearsal,
    Source,
    hashed,
    reading_errors,
)
from bigsvd.sources.blocks import MASK_CURE, Reader, dtype_with_nan, is_unread_sparse
from bigsvd.sources.graph import Graph, Prepared
from bigsvd.sources.stacking import Box, Stacking, stacked
from bigsvd.sources.tokens import keep, kept

# Results that blocks share are kept up to this fraction of the matrix's bytes, one in so many; chosen, not
# measured.
_KEPT_SHARE = 8
Edges = tuple[list[int], ...]
Given = tuple[Graph, str, Edges, Reader, SourceFacts, Stacking]


class DaskSource(Source):
    """A Dask array; reading a rectangle computes what it needs in the calling thread."""

    _limit_bytes: int | None = None

    def __init__(
        self, array: Any, missing: str = "none", axes: Axes = AS_A_MATRIX, dims: tuple[str, ...] = ()
    ) -> None:
        name = f"<dask array {array.name}>"
        _check_kind(name, array, missing)
        self._stacking = stacked("the Dask array", array.shape, array.dtype, axes, dims)
        dtype = np.dtype(array.dtype).newbyteorder("=")
        masked = isinstance(array._meta, np.ma.MaskedArray)  # noqa: SLF001 - Dask has no public name for it
        if masked:
            dtype = dtype_with_nan(dtype)
        chunks = self._stacking.unit([int(max(lengths)) for lengths in array.chunks])
        self.counters = Counters()
        self.facts = SourceFacts(
            name, self._stacking.shape, dtype.name, chunks, hashed(array.name), "foreign", masked=masked,
            dims=dims, array_shape=() if self._stacking.is_matrix else self._stacking.lengths,
            array_axis=self._stacking.axis,
        )  # fmt: skip
        self._name = array.name
        self._edges: Edges = tuple(map(_edges, array.chunks))
        self._reader = Reader(name, dtype, missing)
        self._prepared = Prepared(array, self.facts.nbytes // _KEPT_SHARE)
        self._token = keep(self)

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return kept, (self._token,)

    @property
    def _graph(self) -> Graph:
        return self._prepared.graph

    @property
    def shared(self) -> dict[Any, Any]:
        """See `Source.shared`."""
        return self._graph.kept

    @property
    def in_this_process_only(self) -> bool:
        """Whether a block needs something that cannot be pickled, such as the handle of an open file."""
        return bool(self._why_not_sent())

    def sent(self) -> Source:
        """See `Source.sent`; the result holds the graph, and each lane takes a part of it."""
        reason = self._why_not_sent()
        if reason:
            raise SourceError(
                f"the graph of {self.facts.name} cannot be sent to the cluster's workers ({reason})",
                "open its files by path inside the graph, store it as Zarr first by x.to_zarr(path), "
                "or run without a client",
            )
        return self._as_sent(self._graph)

    def limited(self, limit_bytes: int) -> Source:
        """See `Source.limited`."""
        own = self.fresh()
        own.__dict__["_limit_bytes"] = limit_bytes
        return own

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`; all blocks that the rectangle touches are computed together."""
        box = self._stacking.box(rows, cols)
        shape = tuple(side.stop - side.start for side in box)
        stored = self._graph.zarr_array(self._place)
        if stored is not None:
            with reading_errors(self.facts.name, rows, cols):
                return self._stacking.lay(self._reader.block(stored[box], shape), rows, cols)
        places = dict(self._places(box))
        if len(places) == 1 and shape == self._shape(next(iter(places))):
            with reading_errors(self.facts.name, rows, cols):
                return self._stacking.lay(self._whole_block(places), rows, cols)
        dtype, memory = np.dtype(self.facts.dtype), space or ReadBuffers()
        result, rectangle = self._stacking.room(rows, cols, lambda shape: memory.panel.take(shape, dtype))
        with reading_errors(self.facts.name, rows, cols):
            self._put_together(places, result)
        return rectangle

    def _whole_block(self, places: Collection[Any]) -> np.ndarray:
        """The only block that is asked for, as it is."""
        found: list[np.ndarray] = []

        def take(key: Any, value: Any) -> None:
            found.append(self._reader.block(value, self._shape(key)))

        self._graph.evaluate(places, take, self._limit_bytes)
        return found[0]

    def _put_together(self, places: Mapping[Any, Any], found: np.ndarray) -> None:
        """Fill `found` with pieces of blocks; `places` has which piece of each goes where."""

        def take(key: Any, value: Any) -> None:
            inner, outer = places[key]
            found[outer] = self._reader.block(value, self._shape(key))[inner]

        self._graph.evaluate(places, take, self._limit_bytes)

    def adopt(self, rehearsal: Rehearsal) -> None:
        """See `Source.adopt`."""
        super().adopt(rehearsal)
        self._graph.kept.update(rehearsal.shared)

    @property
    def awaited(self) -> list[Any]:
        """See `Source.awaited`."""
        return list(self._graph.persisted(self._graph.blocks).values())

    @property
    def met_masks(self) -> bool:
        """See `Source.met_masks`."""
        return self._reader.masked

    @property
    def held_bytes(self) -> int:
        """See `Source.held_bytes`: the graph."""
        return self._graph.held_bytes

    def _as_sent(self, graph: Graph) -> Source:
        return SentGraph(graph, self._name, self._edges, self._reader, self.facts, self._stacking)

    def _why_not_sent(self) -> str:
        """The message with which pickle refuses the first block's graph; empty if it can be sent."""
        from distributed.protocol.pickle import dumps  # noqa: PLC0415 - only asked where there is a cluster

        first = slice(0, 1)
        try:
            dumps(self._graph.part(list(dict(self._places(self._stacking.box(first, first))))))
        except Exception as error:  # noqa: BLE001 - objects raise anything when they are pickled
            return first_line(error)
        return ""

    def _place(self, key: Any) -> Box:
        _, *place = key
        return tuple(slice(edges[i], edges[i + 1]) for i, edges in zip(place, self._edges, strict=True))

    def _shape(self, key: Any) -> tuple[int, ...]:
        return tuple(side.stop - side.start for side in self._place(key))

    def _places(self, box: Box) -> Iterator[tuple[Any, tuple[Box, Box]]]:
        """The blocks that a box touches: which part of the block lies where in the box."""
        for found in product(*map(_pieces, self._edges, box)):
            place, parts = zip(*found, strict=True)
            inner, outer = zip(*parts, strict=True)
            yield (self._name, *place), (inner, outer)


class SentGraph(DaskSource):
    """A Dask array, or a part of one, as it travels to workers in other processes."""

    def __init__(
        self,
        graph: Graph,
        name: str,
        edges: Edges,
        reader: Reader,
        facts: SourceFacts,
        stacking: Stacking,
    ) -> None:
        self._given: Given = (graph, name, edges, reader, facts, stacking)
        self.counters = Counters()
        self._name, self._edges, self._reader, self.facts = name, edges, reader, facts
        self._stacking = stacking

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        graph, name, edges, reader, _, stacking = self._given
        return SentGraph, (graph, name, edges, reader, self.facts, stacking)

    @property
    def _graph(self) -> Graph:
        return self._given[0]

    @property
    def in_this_process_only(self) -> bool:
        """False: it travels."""
        return False

    def sent(self) -> Source:
        """Itself."""
        return self

    @property
    def carried_bytes(self) -> int:
        """See `Source.carried_bytes`."""
        from distributed.protocol.pickle import dumps  # noqa: PLC0415 - it is about to be sent

        apart: list[Any] = []
        head = dumps(self._graph, buffer_callback=apart.append)
        return len(head) + sum(int(buffer.raw().nbytes) for buffer in apart)

    def part(self, rectangles: list[Rectangle]) -> Source:
        """See `Source.part`."""
        return self._as_sent(self._graph.part(self._keys(rectangles)))

    def persisted(self, rectangles: list[Rectangle]) -> dict[Any, Any]:
        """See `Source.persisted`."""
        return self._graph.persisted(self._keys(rectangles))

    def given(self, values: dict[Any, Any]) -> Source:
        """See `Source.given`."""
        return self._as_sent(self._graph.given(values))

    def _keys(self, rectangles: list[Rectangle]) -> set[Any]:
        boxes = (self._stacking.box(*rectangle) for rectangle in rectangles)
        return {key for box in boxes for key, _ in self._places(box)}


def _check_kind(name: str, array: Any, missing: str) -> None:
    """`SourceError` for an array that is known, before it is read, not to be a matrix of numbers."""
    if any(isinstance(length, float) and math.isnan(length) for length in array.shape):
        raise SourceError(
            f"{name} has shape {array.shape}: the sizes of its chunks are unknown",
            "call x.compute_chunk_sizes() first, or to_dask_array(lengths=True) of a data frame",
        )
    meta = array._meta  # noqa: SLF001 - Dask has no public name for it
    if is_unread_sparse(meta):
        raise SourceError(
            f"{name} has blocks of {type(meta).__name__}, which are not read",
            "x.map_blocks(lambda b: b.todense(), dtype=x.dtype) makes them dense",
        )
    if isinstance(meta, np.ma.MaskedArray) and missing == "none":
        raise SourceError(f"{name} is masked", MASK_CURE)


def _edges(chunks: tuple[int, ...]) -> list[int]:
    """Where the chunks along one axis begin, and where the last ends."""
    return list(accumulate(map(int, chunks), initial=0))


def _pieces(edges: list[int], wanted: slice) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """For each chunk that a range touches: its number, the touched part of it, and its place in the range."""
    first = bisect_right(edges, wanted.start) - 1
    last = bisect_left(edges, wanted.stop)
    for i in range(first, last):
        start, stop = max(edges[i], wanted.start), min(edges[i + 1], wanted.stop)
        if start < stop:
            inner = slice(start - edges[i], stop - edges[i])
            yield i, (inner, slice(start - wanted.start, stop - wanted.start))
