"""What one method alone can be told: a frozen value for each method that has such options.

The names of its fields are keywords of `bigsvd.svd`, flags of the command line and keys of a request's JSON,
so no two methods share one. A field is an int, a float, a bool or a `Literal` of words, and has a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bigsvd.errors import RequestError

ITERATORS = ("power", "QR")


@dataclass(frozen=True)
class CompressedOptions:
    """Parameters of `dask.array.linalg.svd_compressed`; the defaults are Dask's, but for the iterator.

    Attributes:
        power_iterations: each takes two reads of the data (Dask's `n_power_iter`).
        iterator: how products are kept from growing alike between power iterations.
        oversampling: columns of the random block beyond k (Dask's `n_oversamples`).
        compute: whether Dask computes each stage at once; without it the whole matrix is held.

    """

    power_iterations: int = 0
    iterator: Literal["power", "QR"] = "QR"
    oversampling: int = 10
    compute: bool = True

    def __post_init__(self) -> None:
        if self.iterator not in ITERATORS:
            raise RequestError(f"iterator={self.iterator!r} is not known", "use one of power, QR")
        if not isinstance(self.compute, bool):
            raise RequestError(f"compute={self.compute!r} is not a truth value", "use true or false")
        for name in ("power_iterations", "oversampling"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise RequestError(f"{name}={value!r} is not an integer >= 0", "give one")
