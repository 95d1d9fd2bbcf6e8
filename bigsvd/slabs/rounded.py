"""Slabs whose products are rough: of entries rounded to fewer bits, for passes on which no answer rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bigsvd.devices import bfloat16
from bigsvd.devices.base import Array
from bigsvd.slabs.entries import Entries, Looker
from bigsvd.slabs.moments import ColumnMoments
from bigsvd.slabs.slab import Slab
from bigsvd.slabs.standardize import Standardization


@dataclass(frozen=True, eq=False)
class RoundedSlab:
    """A slab with its entries in bfloat16, which blocks are multiplied by; all else is of the slab itself."""

    slab: Slab
    rough: Array

    @property
    def entries(self) -> Entries:
        """See `Slab.entries`."""
        return self.slab.entries

    @property
    def sums(self) -> ColumnMoments | None:
        """See `Slab.sums`."""
        return self.slab.sums

    @property
    def rows(self) -> slice:
        """See `Slab.rows`."""
        return self.slab.rows

    @property
    def cols(self) -> slice:
        """See `Slab.cols`."""
        return self.slab.cols

    def times(self, Q: Array) -> Array:
        """See `Slab.times`."""
        return bfloat16.product(self.rough, bfloat16.rounded(Q))

    def adjoint_times(self, Y: Array) -> Array:
        """See `Slab.adjoint_times`."""
        return bfloat16.product(self.rough.T, bfloat16.rounded(Y))

    def transposed_adjoint_times(self, Y: Array) -> Array:
        """See `Slab.transposed_adjoint_times`."""
        return bfloat16.product(bfloat16.rounded(Y.T), self.rough)

    def gram(self) -> Array:
        """See `Slab.gram`."""
        return self.slab.gram()

    def squares(self) -> float:
        """See `Slab.squares`."""
        return self.slab.squares()

    def to_array(self) -> Array:
        """See `Slab.to_array`."""
        return self.slab.to_array()


class Rounded:
    """Another standardisation, with the slabs that it makes rounded."""

    def __init__(self, inner: Standardization) -> None:
        self._inner = inner

    @property
    def lookers(self) -> Sequence[Looker]:
        """See `Standardization.lookers`."""
        return self._inner.lookers

    def begin_panel(self, rows: slice) -> None:
        """See `Standardization.begin_panel`."""
        self._inner.begin_panel(rows)

    def slab(self, entries: Entries, lookers: Sequence[Looker] = ()) -> Slab:
        """See `Standardization.slab`."""
        made = self._inner.slab(entries, lookers)
        return RoundedSlab(made, bfloat16.rounded(made.to_array()))
