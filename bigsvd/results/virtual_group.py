"""A Zarr group of which nothing is stored: its documents are made from values, its chunks when they are read.

What a chunk holds is computed by slicing an array-like. Keys are those of Zarr format 3; whoever serves them,
as a store of zarr-python or by HTTP, asks for the value of a key or for its length.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

import numpy as np

METADATA = "zarr.json"
ARRAY_NAME = "reconstruction"
DIMENSION_NAMES = ("row", "column")
_CHUNKS = "c"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")

Position = tuple[int, ...]


class Computed(Protocol):
    """An array-like of numbers, of which a chunk is had by slicing it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its entries: float32 or float64."""

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Lengths in which it is best read, no longer than the array."""

    def __getitem__(self, key: Any, /) -> Any:
        """The entries of a slice of each axis."""


@dataclass(frozen=True)
class VirtualArray:
    """A Zarr array of `values`, whose axes are called `dims`.

    A chunk that a reader does not get is NaN for it: the fill value, which no proxy's 404 can make a number.
    """

    values: Computed
    dims: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> Position:
        """How many chunks there are along each axis."""
        lengths = zip(self.values.shape, self.values.chunk_shape, strict=True)
        return tuple(-(-length // chunk) for length, chunk in lengths)

    @property
    def chunk_bytes(self) -> int:
        """Of each chunk, those at the edges included."""
        return math.prod(self.values.chunk_shape) * self.values.dtype.itemsize

    def chunk(self, position: Position) -> memoryview:
        """The little-endian bytes of a chunk, padded with NaN to its full shape."""
        sides = self.values.chunk_shape
        box = tuple(
            slice(i * side, min((i + 1) * side, length))
            for i, side, length in zip(position, sides, self.values.shape, strict=True)
        )
        block = np.asarray(self.values[box])
        whole = block
        if block.shape != sides:
            whole = np.full(sides, np.nan, block.dtype)
            whole[tuple(map(slice, block.shape))] = block
        little_endian = np.ascontiguousarray(whole, whole.dtype.newbyteorder("<"))
        return little_endian.reshape(-1).view(np.uint8).data

    def metadata(self) -> dict[str, Any]:
        """What its `zarr.json` says."""
        values = self.values
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(values.shape),
            "data_type": values.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(values.chunk_shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "NaN",
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "dimension_names": list(self.dims),
            "attributes": dict(self.attributes),
        }


class VirtualGroup:
    """Arrays by their paths, in a group and in the groups that the paths name, each consolidated.

    Laws: the value of a chunk's key is `VirtualArray.chunk`; a key is in the group if and only if `size`
    knows its length; every chunk of a grid exists, so an error while one is computed is raised, never read as
    fill value.
    """

    def __init__(
        self, arrays: Mapping[str, VirtualArray], attributes: Mapping[str, dict[str, Any]] | None = None
    ) -> None:
        """`attributes`: of groups, by their paths; "" is the root."""
        self.arrays = dict(arrays)
        self.documents = _documents(self.arrays, attributes or {})

    def __eq__(self, other: object) -> bool:
        """Same metadata and same values."""
        if not isinstance(other, VirtualGroup):
            return NotImplemented
        return self.documents == other.documents and self.arrays == other.arrays

    def __hash__(self) -> int:
        return hash(frozenset(self.documents))

    def size(self, key: str) -> int | None:
        """Bytes of the value of `key`, without computing it; None where there is none."""
        if key in self.documents:
            return len(self.documents[key])
        found = self.find(key)
        return None if found is None else found[0].chunk_bytes

    def value(self, key: str) -> bytes | memoryview | None:
        """The bytes of a metadata document or of a computed chunk; None for any other key."""
        found = self.find(key)
        if found is None:
            return self.documents.get(key)
        array, position = found
        return array.chunk(position)

    def find(self, key: str) -> tuple[VirtualArray, Position] | None:
        """The array and the place in its grid that a key names; None where it names no chunk."""
        name, _, place = key.rpartition(f"/{_CHUNKS}/")
        array, position = self.arrays.get(name), _numbers(place.split("/"))
        if array is None or len(position) != len(array.grid) or not _lies_within(position, array.grid):
            return None
        return array, position

    def keys(self, prefix: str) -> Iterator[str]:
        """Those that begin with `prefix`, one at a time: a grid can have more than memory has names for."""
        yield from (key for key in self.documents if key.startswith(prefix))
        for name, array in self.arrays.items():
            for numbers in _below(f"{name}/{_CHUNKS}/", array.grid, prefix):
                yield f"{name}/{_CHUNKS}/{'/'.join(map(str, numbers))}"

    def names(self, prefix: str) -> Iterator[str]:
        """The names directly below `prefix`."""
        below = f"{prefix}/" if prefix else ""
        documents = (key.removeprefix(below) for key in self.documents if key.startswith(below))
        yield from dict.fromkeys(key.split("/")[0] for key in documents)
        if prefix in self.arrays:
            yield _CHUNKS
        name, is_below, place = f"{prefix}/".partition(f"/{_CHUNKS}/")
        if is_below and name in self.arrays:
            yield from _names_in_grid(self.arrays[name].grid, place.split("/")[:-1])


def _numbers(texts: list[str]) -> Position:
    """What they say; nothing where one of them is no number as keys have it."""
    if not all(map(_NUMBER.fullmatch, texts)):
        return ()
    return tuple(map(int, texts))


def _lies_within(position: Position, grid: Position) -> bool:
    """Whether each number is one of the grid's, as far as there are any."""
    return all(i < count for i, count in zip(position, grid, strict=False))


def _names_in_grid(grid: Position, texts: list[str]) -> Iterator[str]:
    """What the folder below these first numbers of chunks holds."""
    position = _numbers(texts)
    if len(position) == len(texts) < len(grid) and _lies_within(position, grid):
        yield from map(str, range(grid[len(position)]))


def _below(start: str, grid: Position, prefix: str) -> Iterator[Position]:
    """The positions of a grid whose keys, behind `start`, begin with `prefix`; whole rows are left out."""
    for i in range(grid[0]):
        row = f"{start}{i}"
        if row.startswith(prefix) or prefix.startswith(row):
            for rest in product(*map(range, grid[1:])):
                if "/".join([row, *map(str, rest)]).startswith(prefix):
                    yield (i, *rest)


def _documents(
    arrays: Mapping[str, VirtualArray], attributes: Mapping[str, dict[str, Any]]
) -> dict[str, bytes]:
    """Every `zarr.json` by its key; those of groups repeat all below them, so that one request opens it."""
    found: dict[str, dict[str, Any]] = {name: array.metadata() for name, array in arrays.items()}
    groups = {"", *(name.rpartition("/")[0] for name in arrays)}
    for group in sorted(groups, key=len, reverse=True):  # those within others first
        below = {
            name.removeprefix(f"{group}/"): {**each} for name, each in found.items() if _lies_in(name, group)
        }
        for each in below.values():
            each.pop("consolidated_metadata", None)
        found[group] = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": attributes.get(group, {}),
            "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": below},
        }
    return {f"{name}/{METADATA}".lstrip("/"): json.dumps(each).encode() for name, each in found.items()}


def _lies_in(name: str, group: str) -> bool:
    return not group or name.startswith(f"{group}/")
