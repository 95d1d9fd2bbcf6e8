"""An .npy file as a source: mapped into memory, so that only what is read is loaded."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.errors import SourceError, StorageError, first_line
from bigsvd.sources.arrays import MemmapSource
from bigsvd.sources.base import AS_A_MATRIX, Axes, Source, hashed, line_chunks, stamp_of


class NpySource(MemmapSource):
    """The matrix of an .npy file, in C or Fortran order.

    Raises:
        SourceError: the file is cut, or holds Python objects.

    """

    def __init__(self, path: str, axes: Axes = AS_A_MATRIX) -> None:
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except OSError as error:
            raise StorageError(f"{path} cannot be read ({error})", "grant access to it") from error
        except Exception as error:  # a damaged header raises anything from ValueError to SyntaxError
            raise SourceError(
                f"{path} cannot be mapped ({first_line(error)})",
                "store it again by numpy.save, or copy it again",
            ) from error
        self._path = self._called = path
        super().__init__(array, axes=axes)
        order, chunks = "C", self.facts.chunks
        if not array.flags.c_contiguous:
            order = "F"
        if order == "F" and array.ndim == len(chunks):
            chunks = line_chunks(self.facts.shape[::-1], array.itemsize)[::-1]
        fingerprint = hashed(f"{array.dtype.str} {array.shape} {order}")
        self.facts = replace(self.facts, name=path, chunks=chunks, fingerprint=fingerprint)

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return NpySource, (self._path, self._asked[0])

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """See `Source.stamp`: that of the file."""
        del rows, cols
        return stamp_of(Path(self._path))
