"""`Layout`: one orientation of the matrix with its panels and block widths.

B is the matrix as it is streamed: A, or Aᵀ when `transposed`; it is M×N, panels are rows of B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bigsvd.facts import Packing


@dataclass(frozen=True)
class Layout:
    """One orientation with its panels and block widths.

    Attributes:
        features_axis: the axis of B that numbers the features, which have means and divisors.
        M, N: rows and columns of B; k: triplets to find; itemsize: bytes of a block for each entry.
        unit_rows, unit_cols: chunks of B, which are never cut.
        panel_rows, tile_cols, reads_per_pass, width, narrow, max_width: as in `Plan`.
        stored_bytes, reader, piece, spare_bytes, spare_ratio, held_bytes, packing: as in `SourceFacts`; the
            piece as rows and columns of B.
        readers, has_own_memory: as in `Machine`.
        fits: whether the memory it takes is within the budgets.

    """

    transposed: bool
    features_axis: int
    M: int
    N: int
    k: int
    itemsize: float
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
    def panels(self) -> int:
        """Panels of a pass."""
        return -(-self.M // self.panel_rows)

    @property
    def panel_bytes(self) -> int:
        """Bytes of a panel, or of a tile of it, as stored."""
        return math.ceil(self.panel_rows * min(self.tile_cols, self.N) * self.itemsize)

    @property
    def tiled(self) -> bool:
        """Whether a panel is read in several tiles, and so more than once a pass."""
        return self.tile_cols < self.N
