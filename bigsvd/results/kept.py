"""`Kept`: which rows and columns of the data factors are of, and how what they give is put back among all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Kept:
    """Rows and columns of a larger matrix.

    Attributes:
        shape: of that matrix.
        rows, cols: ids of those kept, ascending (c,); None where all are.
        empty: which of the features of the matrix that was kept are missing throughout, by number, (c,);
            None where none is.

    """

    shape: tuple[int, int]
    rows: np.ndarray | None = None
    cols: np.ndarray | None = None
    empty: np.ndarray | None = None

    @property
    def lines(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Rows and columns."""
        return self.rows, self.cols

    @property
    def all(self) -> bool:
        """Whether nothing was left out."""
        return self.rows is None and self.cols is None

    def factor(self, length: int, fill: float) -> np.ndarray | None:
        """1 for each of so many features that were kept, `fill` for empty ones; None where none is."""
        if self.empty is None:
            return None
        found = np.ones(length)
        found[self.empty] = fill
        return found

    def shown(self, values: np.ndarray) -> np.ndarray:
        """Values (…, kept) with one for each feature, NaN for those that are missing throughout."""
        if self.empty is None:
            return values
        found = values.astype(np.result_type(values, np.float32))
        found[..., self.empty] = np.nan
        return found

    def among(self, axis: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of ascending lines that are wanted along an axis: which are kept, and their numbers among these."""
        ids = self.lines[axis]
        if ids is None:
            return np.arange(len(wanted)), wanted
        numbers = np.searchsorted(ids, wanted)
        found = np.flatnonzero(ids[np.minimum(numbers, len(ids) - 1)] == wanted)
        return found, numbers[found]

    def spread(self, axis: int, values: np.ndarray) -> np.ndarray:
        """Values (…, kept) with one for each line along an axis, NaN for those that were left out."""
        ids = self.lines[axis]
        if ids is None:
            return values
        whole = np.full((*values.shape[:-1], self.shape[axis]), np.nan, np.result_type(values, np.float32))
        whole[..., ids] = values
        return whole
