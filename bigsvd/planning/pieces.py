"""How much of the data, and of the long factor, is handled at a time: pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Bytes of a slab: so many rows of a panel that are multiplied at a time. On a CPU they stay in the cache that
# cores share; a GPU is busy with one while the next is prepared. Chosen, not measured.
_SLAB_BYTES = 8 * 2**20
_DEVICE_SLAB_BYTES = 256 * 2**20
# Bytes of the rows of the long factor that one task handles at a time: at most, where its R is large, and as
# a share of the budget for all tasks that run at a time. Chosen, not measured.
PIECE_BYTES = 4 * 2**20
_LEAST_PIECE_BYTES = 2 * 2**20
_PIECE_SHARE = 1 / 16


def slab_rows(cols: int, dtype: str, *, has_own_memory: bool) -> int:
    """Rows of B that are multiplied at a time.

    On a CPU so many that they stay in its cache, on a GPU so many that it is busy while more are prepared.
    """
    size = _DEVICE_SLAB_BYTES if has_own_memory else _SLAB_BYTES
    return max(16, size // (cols * np.dtype(dtype).itemsize))


def forming_rows(stored: int, columns: int, budget_bytes: int, threads: int) -> int:
    """Rows of the long factor that a task handles at a time: enough for a QR of them to be worth its R.

    They are (r, columns), the sum of products of Y with `stored` columns in all.
    """
    width = stored + 2 * columns
    share = min(PIECE_BYTES, int(_PIECE_SHARE * budget_bytes / threads))
    least = max(columns, min(2 * width, _LEAST_PIECE_BYTES // (8 * columns)))
    return max(share // (8 * width), least)


@dataclass(frozen=True)
class FormingTask:
    """A task that forms rows of the long factor, which sums products of Y.

    Attributes:
        panel_rows: rows of a chunk of Y. piece_rows: rows handled at a time.
        block, stored: columns of one Y, and of all. columns: of the sum. itemsize: bytes of an entry of Y.

    """

    panel_rows: int
    piece_rows: int
    block: int
    stored: int
    columns: int
    itemsize: int

    @property
    def read_rows(self) -> int:
        """Rows read at a time: whole panels."""
        return max(1, self.piece_rows // self.panel_rows) * self.panel_rows

    @property
    def bytes(self) -> int:
        """What it holds: Y with a file and a chunk beside it, the sum, what is widened, a QR's two copies.

        Of the coefficients those of one Y, and of others that take little.
        """
        reading = self.read_rows * (3 * self.block * self.itemsize + 8 * self.columns)
        handling = 8 * self.piece_rows * (self.block + 2 * self.columns)
        stacked = 3 * (self.columns + self.piece_rows) + 2 * self.columns
        coefficients = min(PIECE_BYTES, 8 * self.columns * self.stored)
        return reading + handling + coefficients + 8 * self.columns * (stacked + 2 * self.block)
