"""`Standardizer`: (values − mean)/divisor of a slab on its device, with missing entries at the mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device
from bigsvd.slabs.transform import MeansAndDivisors, Transform

_FLOAT32_FAR = 2.0**100  # means and divisors beyond this, or its inverse, are left to float64

Step = Callable[[Device, Array, Array | None, Array], Array]


def _subtract(device: Device, values: Array, mask: Array | None, line: Array) -> Array:
    del device, mask
    values -= line
    return values


def _multiply(device: Device, values: Array, mask: Array | None, line: Array) -> Array:
    del device, mask
    values *= line
    return values


def _fill(device: Device, values: Array, mask: Array | None, line: Array) -> Array:
    if mask is None:
        return values
    return device.filled(values, mask, line)


def _clear(device: Device, values: Array, mask: Array | None, line: Array) -> Array:
    del line
    if mask is None:
        return values
    return device.filled(values, mask, 0.0)


@dataclass(frozen=True, eq=False)
class Standardizer:
    """(values − mean)/divisor for the lines of a slab, with missing entries at the mean, on a device.

    Where entries are float32 exactly, so is the difference from a float32 number near them, up to the
    rounding of what is left (Sterbenz 1974): a mean in two parts is then removed in float32 as accurately as
    in float64, however large it is.

    Attributes:
        work: the precision in which this is done.
        axis: as in `Transform`.
        steps: what is done to the entries, one after the other, and with which line, each (1, c) or (r, 1).

    """

    device: Device
    work: Any
    axis: int
    steps: tuple[tuple[Step, Array], ...]

    @classmethod
    def of(
        cls, device: Device, transform: Transform, lines: MeansAndDivisors, stored: np.dtype[Any], dtype: str
    ) -> Standardizer:
        """For entries `stored` so and products in `dtype`."""
        work: np.dtype[Any] = np.dtype(np.float64)
        first = lines.high
        if dtype == "float32" and transform.holds_exactly(stored) and _fit_float32(lines):
            work = np.dtype(np.float32)
            first = lines.mean.astype(work).astype(np.float64)
        found: list[tuple[Step, np.ndarray]] = []
        if transform.center:
            second = (lines.high - first) + lines.low
            # Missing entries are then at the mean, which high + low rounded to one number is not.
            found += [(_subtract, first), (_subtract, second), (_clear, second)]
        elif transform.fills_with_mean:
            found.append((_fill, lines.mean))
        if transform.scale:
            found.append((_multiply, 1 / lines.divisor))
        xp, across = device.xp, 1 - transform.axis
        steps = [
            (step, xp.expand_dims(device.to_device(line.astype(work)), axis=across)) for step, line in found
        ]
        return cls(device, getattr(xp, work.name), transform.axis, tuple(steps))

    def part(self, rows: slice, cols: slice) -> Standardizer:
        """That of a piece of the slab."""
        here = ((rows, slice(None)), (slice(None), cols))[self.axis]
        return replace(self, steps=tuple((step, line[here]) for step, line in self.steps))

    def apply(self, values: Array, mask: Array | None) -> Array:
        """The standardised entries; `values` may be changed."""
        values = self.device.xp.astype(values, self.work, copy=False)
        for step, line in self.steps:
            values = step(self.device, values, mask, line)
        return values


def _fit_float32(lines: MeansAndDivisors) -> bool:
    """Whether means and divisors are far from where float32 overflows or loses digits."""
    size = np.abs(lines.mean)
    return bool(
        np.all(size < _FLOAT32_FAR)
        and np.all((lines.divisor > 1 / _FLOAT32_FAR) & (lines.divisor < _FLOAT32_FAR))
    )
