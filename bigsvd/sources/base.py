"""`Source`: an m×n matrix on some medium that can be read in rectangles, and what is known of it beforehand.

A `Source` travels to workers by pickle and reopens itself there.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bigsvd.chunks import Workspace
from bigsvd.errors import DtypeError, ShapeError
from bigsvd.sentinels import Number

_PAIRS = ("shape", "chunks", "piece")


@dataclass(frozen=True)
class Packing:
    """How stored entries stand for numbers: number = stored · scale + offset (CF conventions, section 8.1).

    Attributes:
        scale, offset: CF's `scale_factor` and `add_offset`.
        fills: stored values that stand for no number at all (CF's `_FillValue` and `missing_value`).

    """

    scale: float = 1.0
    offset: float = 0.0
    fills: tuple[Number, ...] = ()

    @property
    def packed(self) -> bool:
        """Whether a stored entry and its number differ."""
        return self.scale != 1.0 or self.offset != 0.0

    def __str__(self) -> str:
        parts = [f"stored · {self.scale:g} + {self.offset:g}"] if self.packed else []
        if self.fills:
            parts.append(f"{' and '.join(f'{fill:g}' for fill in self.fills)} for no value")
        return ", ".join(parts)


AS_STORED = Packing()


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
        packing: how stored entries stand for the numbers of A.

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
    packing: Packing = AS_STORED

    @property
    def marks_gaps(self) -> bool:
        """Whether the source itself says which entries have no value."""
        return bool(self.packing.fills)

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
        packing = asdict(self.packing) | {"fills": list(self.packing.fills)}
        return asdict(self) | lists | {"packing": packing}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SourceFacts:
        """The inverse of `to_dict`."""
        pairs = {name: tuple(values[name]) for name in _PAIRS}
        packing = values.get("packing", {})
        packing = Packing(**{**packing, "fills": tuple(packing.get("fills", ()))})
        return cls(**{**values, **pairs, "packing": packing})


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


def check_matrix(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int]:
    """The shape as (m, n); `ShapeError` or `DtypeError` for what is no real matrix."""
    if len(shape) != 2 or 0 in shape:
        raise ShapeError(f"{name} has shape {shape}", "give a matrix (two axes) with at least one entry")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DtypeError(
            f"{name} has dtype {dtype}, not bool, int8..int64, uint8..uint64 or float16/32/64",
            "convert it first; for complex data decompose the real and imaginary parts side by side",
        )
    return shape[0], shape[1]


def hashed(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
