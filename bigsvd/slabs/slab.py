"""`Slab`: some rows of B as they are multiplied, on a device.

Kernels ask a slab for products and never see how it holds its entries. A slab that holds them in another way
than as one array is another class here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bigsvd.devices.base import Array
from bigsvd.slabs.census import Census, census_of
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.transform import ColumnMoments


class Slab(Protocol):
    """Entries (r, c) of B as decomposed, in the precision of the products, at `rows` and `cols` of B.

    Laws: all products are those of `to_array`; `squares` is its squared norm before it was rounded to the
    precision of the products.
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

    def census(self) -> Census:
        """Counts and extremes of the entries that it was made of."""

    def to_array(self) -> Array:
        """The entries (r, c)."""


@dataclass(frozen=True, eq=False)
class DenseSlab:
    """A slab that holds every entry: `values` as computed, and `array` in the precision of the products."""

    entries: Entries
    values: Array
    array: Array
    sums: ColumnMoments | None = None

    @classmethod
    def of(cls, entries: Entries, values: Array, dtype: str, sums: ColumnMoments | None = None) -> DenseSlab:
        """The slab of these values, for products in `dtype`."""
        xp = entries.device.xp
        return cls(entries, values, xp.astype(values, getattr(xp, dtype), copy=False), sums)

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
        return self.entries.device.sum_of_squares(self.values)

    def census(self) -> Census:
        """See `Slab.census`."""
        return census_of(self.entries)

    def to_array(self) -> Array:
        """See `Slab.to_array`."""
        return self.array
