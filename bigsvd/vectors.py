"""`Vector`: numbers or places that a request names, for the rows or columns of the matrix.

A request is JSON and holds no values, only their name: the path or URL that they were read from, or for
values in memory their digest. The values themselves travel beside the source.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

DIGEST = "sha256:"  # how the name of values in memory begins


@dataclass(frozen=True, eq=False)
class Vector:
    """Some values under a name.

    Attributes:
        name: path or URL that they were read from; their digest where they were in memory.
        values: float64, int64 or bool, (c,) or along the axes that are stacked; nobody writes into them.
        dims: the names of their axes; empty where they have none.

    """

    name: str
    values: np.ndarray
    dims: tuple[str, ...] = ()

    def along(self, names: tuple[str, ...], lengths: tuple[int, ...]) -> np.ndarray | None:
        """The values at all places of axes with these names and lengths, in C order; None if not of these.

        By the names of their own axes, where these are among those names; else as NumPy broadcasts, in which
        one axis alone is not taken for the last of several.
        """
        values = self.values
        if self.dims and "" not in self.dims and set(self.dims) <= set(names):
            own = [name for name in names if name in self.dims]
            values = values.transpose([self.dims.index(name) for name in own])
            sides = dict(zip(own, values.shape, strict=True))
            values = values.reshape([sides.get(name, 1) for name in names])
        elif values.ndim < len(lengths):
            return None
        try:
            whole = np.broadcast_to(values, lengths)
        except ValueError:
            return None
        if values.size == 1 < whole.size:
            return None
        return whole.reshape(-1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The values, so that one may be given again as an array with names of its axes."""
        return np.array(self.values, dtype=dtype, copy=copy)

    @property
    def digest(self) -> str:
        """SHA-256 of type and values: others under the same name have another one."""
        return digest_of(self.values)

    def told(self, option: str) -> str:
        """How a message calls it: by its option, and where it is if it has a place."""
        if self.name.startswith(DIGEST):
            return option
        return f"{option}={self.name}"


def digest_of(values: np.ndarray) -> str:
    """SHA-256 of the type and the values of an array."""
    return DIGEST + hashlib.sha256(_encoded(values)).hexdigest()


def _encoded(values: np.ndarray) -> bytes:
    ordered = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return ordered.dtype.str.encode() + ordered.tobytes()
