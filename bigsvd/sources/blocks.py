"""Turns blocks of other libraries' arrays into NumPy arrays, and never takes a masked entry for a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.devices.arithmetic import as_numpy
from bigsvd.errors import SourceError

SPARSE_CURE = "convert it to a sparse matrix of SciPy"
MASK_CURE = (
    "add missing='mean' or missing='zero', or fill it, such as x.filled(0) of NumPy or da.ma.filled(x, 0)"
)


def is_sparse(array: Any) -> bool:
    """Whether an object is a sparse matrix or array of scipy.sparse."""
    return type(array).__module__.split(".")[:2] == ["scipy", "sparse"]


def is_unread_sparse(array: Any) -> bool:
    """Whether an object comes from another library of sparse arrays: sparse (PyData), or CuPy's."""
    module = type(array).__module__.split(".")
    return module[0] == "sparse" or module[:2] == ["cupyx", "scipy"]


def dtype_with_nan(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating type that holds NaN and all entries of `dtype`: itself, float32 or float64."""
    if dtype.kind == "f":
        return dtype.newbyteorder("=")
    if dtype.itemsize <= 2:
        return np.dtype(np.float32)
    return np.dtype(np.float64)


@dataclass
class Reader:
    """Turns the blocks of one source into NumPy arrays.

    Attributes:
        name: that of the source.
        dtype: the source's element type, in native byte order.
        missing: the request's rule for missing entries; with "none" a masked entry is refused.
        masked: whether a masked entry has been met.

    """

    name: str
    dtype: np.dtype[Any]
    missing: str
    masked: bool = False

    def block(self, found: Any, shape: tuple[int, ...]) -> np.ndarray:
        """The block in the source's dtype, NaN where it is masked; `SourceError` if shape or type differ."""
        if is_unread_sparse(found):
            raise SourceError(
                f"a block of {self.name} is a {type(found).__name__}, which is not read", SPARSE_CURE
            )
        values = self._plain(found)
        if values.shape != shape:
            raise SourceError(
                f"a block of {self.name} has shape {values.shape} where {shape} was announced",
                "give an array whose blocks are as large as it says",
            )
        if values.dtype == self.dtype:
            return values
        if not np.can_cast(values.dtype, self.dtype, "safe"):
            raise SourceError(
                f"a block of {self.name} has dtype {values.dtype} where {self.dtype} was announced",
                f"announce what it is, such as map_blocks(..., dtype={values.dtype.name!r}), or convert it",
            )
        return values.astype(self.dtype)

    def _plain(self, block: Any) -> np.ndarray:
        if is_sparse(block):
            return np.asarray(block.toarray())
        if isinstance(block, np.ma.MaskedArray):
            return self._filled(block)
        return as_numpy(block)

    def _filled(self, block: np.ma.MaskedArray[Any, Any]) -> np.ndarray:
        """The entries, NaN where a mask hides them."""
        if not np.any(np.ma.getmaskarray(block)):
            return np.asarray(block.data)
        if self.missing == "none":
            raise SourceError(f"{self.name} has masked entries", MASK_CURE)
        if self.dtype.kind != "f":
            raise SourceError(
                f"{self.name} has masked entries, and {self.dtype} has no NaN to mark them",
                "convert it to floating point first, such as x.astype('float64')",
            )
        self.masked = True
        return np.where(np.ma.getmaskarray(block), self.dtype.type(np.nan), block.data).astype(self.dtype)
