"""A layout, the question it answers, and what it has to know of a method: values and one protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bigsvd.catalog.table import load
from bigsvd.facts import Machine, Packing, SourceFacts
from bigsvd.request import Request

SMALLEST = "krylov"  # the method that a request is advised to use where another takes too much memory


@dataclass(frozen=True)
class Layout:
    """One orientation with its panels and block widths.

    Attributes:
        M, N: rows and columns of B; k: triplets to find; itemsize: bytes of an entry of the source.
        unit_rows, unit_cols: chunks of B, which are never cut.
        panel_rows, tile_cols, reads_per_pass, width, narrow, max_width: as in `Plan`.
        stored_bytes, reader, piece, spare_bytes, spare_ratio, held_bytes, packing: as in `SourceFacts`; the
            piece as rows and columns of B.
        readers, has_own_memory: as in `Machine`.
        fits: whether the memory it takes is within the budgets.

    """

    transposed: bool
    M: int
    N: int
    k: int
    itemsize: int
    unit_rows: int
    unit_cols: int
    panel_rows: int
    tile_cols: int
    reads_per_pass: int
    width: int
    narrow: int
    max_width: int
    stored_bytes: int
    reader: str
    piece: tuple[int, int]
    spare_bytes: int
    spare_ratio: float
    held_bytes: int
    packing: Packing
    readers: int
    has_own_memory: bool
    fits: bool

    @property
    def panel_bytes(self) -> int:
        """Bytes of a panel, or of a tile of it, as stored."""
        return self.panel_rows * min(self.tile_cols, self.N) * self.itemsize

    @property
    def tiled(self) -> bool:
        """Whether a panel is read in several tiles, and so more than once a pass."""
        return self.tile_cols < self.N


@dataclass(frozen=True)
class Question:
    """What a layout is wanted for.

    Attributes:
        method: the method that is to run. request, facts, machine: of it, of the source, of where it runs.
        dtype: of the products, "float32" or "float64".

    """

    method: Demands
    request: Request
    facts: SourceFacts
    machine: Machine
    dtype: str

    @property
    def itemsize(self) -> int:
        """Bytes of an entry of the products."""
        return np.dtype(self.dtype).itemsize

    def on(self, machine: Machine) -> Question:
        """The same on another machine."""
        return replace(self, machine=machine)

    def by(self, name: str) -> Question:
        """The same by another method, with its own options' defaults."""
        return replace(
            self,
            method=load(name),
            request=replace(self.request, method=name, method_options=None),
        )


class Demands(Protocol):
    """What a layout has to know of a method."""

    name: str
    takes_tiles: bool

    def memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """Bytes of host memory that this method alone holds, by what they hold, for all lanes at a time."""

    def device_memory(self, question: Question, layout: Layout) -> dict[str, int]:
        """The same of a device's own memory."""
