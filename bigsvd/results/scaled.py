"""A factor times numbers of its triplets, computed when it is sliced."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigsvd.orientation import Rows
from bigsvd.results.reconstruct import row_and_column


class Scaled:
    """F·diag(d), (rows, k) float64, as an array-like; slicing it reads only the chunks of F it needs."""

    def __init__(self, factor: Rows, d: np.ndarray) -> None:
        self._factor = factor
        self._d = d
        self.shape = (len(factor), len(d))
        self.dtype = np.dtype(np.float64)
        self.ndim = 2

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, cols = row_and_column(key)
        read, then = slice(None), rows
        if isinstance(rows, slice) and rows.step in (None, 1):
            read, then = rows, slice(None)
        lines = np.asarray(self._factor[read], dtype=np.float64) * self._d
        return np.asarray(lines[then][..., cols])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array that is read or computed cannot be had without a copy")
        return np.asarray(self[:], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]
