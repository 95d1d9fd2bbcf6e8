"""`Vector`: numbers or places that a request names, one for each row or column of the matrix.

A request is JSON and holds no values, only their name: the path or URL that they were read from, or for
values in memory their digest. The values themselves travel beside the source.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

DIGEST = "sha256:"  # how the name of values in memory begins


@dataclass(frozen=True, eq=False)
class Vector:
    """Some values under a name.

    Attributes:
        name: path or URL that they were read from; their digest where they were in memory.
        values: (c,) float64, int64 or bool; nobody writes into them.

    """

    name: str
    values: np.ndarray

    @property
    def digest(self) -> str:
        """SHA-256 of type and values: others under the same name have another one."""
        return digest_of(self.values)


def digest_of(values: np.ndarray) -> str:
    """SHA-256 of the type and the values of an array (c,)."""
    return DIGEST + hashlib.sha256(_encoded(values)).hexdigest()


def _encoded(values: np.ndarray) -> bytes:
    ordered = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return ordered.dtype.str.encode() + ordered.tobytes()
