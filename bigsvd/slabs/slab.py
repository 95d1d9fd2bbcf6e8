"""`Slab`: some rows of B as they are multiplied, on a device.

Kernels ask a slab for products and never see how it holds its entries. A slab that holds them in another way
than as one array is another class here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bigsvd.devices.base import Array
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.moments import ColumnMoments


class Slab(Protocol):
    """Entries (r, c) of B as decomposed, in the precision of the products, at `rows` and `cols` of B.

    Laws: all products are those of `to_array`, and `squares` is its squared norm. A slab is gone when its
    standardisation makes the next one: they may share memory.
    """

    @property
    def entries(self) -> Entries:
        """What it was made of."""

    @property
    def sums(self) -> ColumnMoments | None:
        """Statistics of its rows, where it was standardised by them and nobody was given them before."""

    @property
    def rows(self) -> slice:
        """Its rows in B."""

    @property
    def cols(self) -> slice:
        """Its columns in B."""

    def times(self, Q: Array) -> Array:
        """B·Q (r, k) for Q (c, k)."""

    def adjoint_times(self, Y: Array) -> Array:
        """Bᵀ·Y (c, k) for Y (r, k)."""

    def transposed_adjoint_times(self, Y: Array) -> Array:
        """Yᵀ·B (k, c), the transpose of the same; BLAS finds it easier, and rounds it otherwise."""

    def gram(self) -> Array:
        """Bᵀ·B (c, c)."""

    def squares(self) -> float:
        """‖B‖²_F of these entries."""

    def to_array(self) -> Array:
        """The entries (r, c)."""


@dataclass(frozen=True, eq=False)
class DenseSlab:
    """A slab that holds every entry in an array.

    Attributes:
        finely: its squared norm from entries standardised in float64: of many that are nearly the same, such
            as numbers far from a given offset, float32 rounds all alike.

    """

    entries: Entries
    array: Array
    sums: ColumnMoments | None = None
    finely: Callable[[], float] | None = None

    @property
    def rows(self) -> slice:
        """See `Slab.rows`."""
        return self.entries.rows

    @property
    def cols(self) -> slice:
        """See `Slab.cols`."""
        return self.entries.cols

    def times(self, Q: Array) -> Array:
        """See `Slab.times`."""
        return self.array @ Q

    def adjoint_times(self, Y: Array) -> Array:
        """See `Slab.adjoint_times`."""
        return self.array.T @ Y

    def transposed_adjoint_times(self, Y: Array) -> Array:
        """See `Slab.transposed_adjoint_times`."""
        return Y.T @ self.array

    def gram(self) -> Array:
        """See `Slab.gram`."""
        return self.array.T @ self.array

    def squares(self) -> float:
        """See `Slab.squares`."""
        if self.finely is not None:
            return self.finely()
        return self.entries.device.sum_of_squares(self.array)

    def to_array(self) -> Array:
        """See `Slab.to_array`."""
        return self.array
