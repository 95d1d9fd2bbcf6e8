"""`Vector`: numbers or places that a request names, one for each row or column of the matrix.

A request is JSON and holds no values, only their name: the path or URL that they were read from, or for
values in memory their digest. The values themselves travel beside the source.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bigsvd.errors import RequestError

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

    def check_length(self, option: str, length: int, lines: str) -> None:
        """`RequestError` unless there is one value for each of so many `lines`, such as "columns"."""
        if self.values.size != length:
            raise RequestError(
                f"{option} has {self.values.size} values, the matrix has {length} {lines}",
                f"give one for each of the {lines}",
            )


def digest_of(values: np.ndarray) -> str:
    """SHA-256 of the type and the values of an array (c,)."""
    ordered = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return DIGEST + hashlib.sha256(ordered.dtype.str.encode() + ordered.tobytes()).hexdigest()
