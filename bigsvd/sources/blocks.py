"""Blocks of other libraries' arrays as NumPy: nothing that a mask hides is taken for a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.device import as_numpy
from bigsvd.errors import SourceError

SPARSE_CURE = (
    "store it dense by chunks as Zarr (rows.toarray() of some rows at a time), "
    "or use scikit-learn's TruncatedSVD if it fits memory"
)
MASK_CURE = (
    "add missing='mean' or missing='zero', or fill it, such as x.filled(0) of NumPy or da.ma.filled(x, 0)"
)


def is_sparse(array: Any) -> bool:
    """Whether it is of a library of sparse arrays: scipy.sparse, sparse (PyData), or CuPy's."""
    module = type(array).__module__.split(".")
    return module[0] == "sparse" or module[:2] in (["scipy", "sparse"], ["cupyx", "scipy"])


def dtype_with_nan(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating type that holds entries of a type and NaN: itself, float32 for 16 bits, or float64."""
    if dtype.kind == "f":
        return dtype.newbyteorder("=")
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


@dataclass
class Reader:
    """Makes blocks NumPy's.

    Attributes:
        name, dtype: of the source, in native byte order.
        missing: what the request says of missing entries; "none" refuses what is masked.
        masked: whether a mask was met that hides an entry.

    """

    name: str
    dtype: np.dtype[Any]
    missing: str
    masked: bool = False

    def block(self, found: Any, shape: tuple[int, int]) -> np.ndarray:
        """A block of this shape in the source's dtype, masked entries NaN; `SourceError` for any other."""
        if is_sparse(found):
            raise SourceError(
                f"a block of {self.name} is a {type(found).__name__}, and sparse is not read yet", SPARSE_CURE
            )
        values = self._filled(found) if isinstance(found, np.ma.MaskedArray) else as_numpy(found)
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
