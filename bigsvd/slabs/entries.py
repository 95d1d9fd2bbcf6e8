"""`Entries`: some rows and columns of B on a device as numbers, before they are standardised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device
from bigsvd.slabs.transform import Transform


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of B where the device has them.

    Attributes:
        device, transform: where they are, and what makes numbers of what is stored.
        raw: (r, c) as they are `stored`.
        values: (r, c) the numbers, prescaled, 0 where one is missing.
        mask: (r, c) which are missing; None where none can be.
        rows, cols: their place in B.

    """

    device: Device
    transform: Transform
    raw: Array
    stored: np.dtype[Any]
    values: Array
    mask: Array | None
    rows: slice
    cols: slice

    @classmethod
    def of(
        cls,
        device: Device,
        transform: Transform,
        raw: Array,
        stored: np.dtype[Any],
        rows: slice,
        cols: slice,
    ) -> Entries:
        """Those that are `raw` on the device, at this place of B."""
        values, mask = transform.widen(device, raw, stored)
        return cls(device, transform, raw, stored, values, mask, rows, cols)

    @property
    def gaps(self) -> Array | None:
        """Which entries take the mean of their line."""
        return self.mask if self.transform.fills_with_mean else None

    @property
    def columns_of_A(self) -> slice:  # noqa: N802
        """The columns of A that these are of."""
        return (self.rows, self.cols)[self.transform.axis]

    def observed(self) -> int:
        """How many of them are not missing, counted on the host."""
        count = int(self.raw.shape[0] * self.raw.shape[1])
        if self.mask is None:
            return count
        return count - int(np.count_nonzero(self.device.to_host(self.mask)))
