"""`Standardizer`: (values − mean)/divisor of a slab on its device, with missing entries at the mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device, Gaps
from bigsvd.slabs.transform import NO_LINES, GivenLines, MeansAndDivisors, Transform

_FLOAT32_FAR = 2.0**100  # means and divisors beyond this, or its inverse, are left to float64

Step = Callable[[Device, Array, Gaps | None, Array], Array]


def _subtract(device: Device, values: Array, gaps: Gaps | None, line: Array) -> Array:
    del device, gaps
    values -= line
    return values


def _multiply(device: Device, values: Array, gaps: Gaps | None, line: Array) -> Array:
    del device, gaps
    values *= line
    return values


def _fill(device: Device, values: Array, gaps: Gaps | None, line: Array) -> Array:
    if gaps is None:
        return values
    return device.filled(values, gaps, line)


def _clear(device: Device, values: Array, gaps: Gaps | None, line: Array) -> Array:
    del line
    if gaps is None:
        return values
    return device.filled(values, gaps, 0.0)


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
        across: by what the entries of each line are multiplied at last, (r, 1) or (1, c); None for 1.

    """

    device: Device
    work: Any
    axis: int
    steps: tuple[tuple[Step, Array], ...]
    across: Array | None = None

    @classmethod
    def of(
        cls,
        device: Device,
        transform: Transform,
        lines: MeansAndDivisors,
        stored: np.dtype[Any],
        dtype: str,
        given: GivenLines = NO_LINES,
    ) -> Standardizer:
        """For entries `stored` so and products in `dtype`."""
        work: np.dtype[Any] = np.dtype(np.float64)
        if dtype == "float32" and transform.holds_exactly(stored) and _fit_float32(lines, given):
            work = np.dtype(np.float32)
        found = [*_shifting(transform, lines, given, work)]
        if transform.scale or given.factor is not None:
            gain = given.gain(lines.divisor if transform.scale else 1.0)
            found.append((_multiply, np.broadcast_to(gain, lines.high.shape)))
        steps = [(step, _line(device, line, work, 1 - transform.axis)) for step, line in found]
        return cls(device, getattr(device.xp, work.name), transform.axis, tuple(steps))

    def crossed(self, across: np.ndarray | None) -> Standardizer:
        """The same where the entries of each line are multiplied besides, by `across` (r,) if by anything."""
        device = self.device
        if across is None:
            return self
        line = device.xp.astype(device.to_device(across), self.work)
        return replace(self, across=device.xp.expand_dims(line, axis=self.axis))

    @property
    def shift(self) -> Array | float:
        """What is subtracted in all."""
        return sum(line for step, line in self.steps if step is _subtract)

    @property
    def gain(self) -> Array | float:
        """By what is multiplied, but for what is across."""
        return math.prod(line for step, line in self.steps if step is _multiply)

    @property
    def crossing(self) -> Array | float:
        """By what is multiplied across the lines."""
        return 1.0 if self.across is None else self.across

    @property
    def fills(self) -> bool:
        """Whether gaps may hold any finite number of the precision, or NaN, before it is applied."""
        narrow = self.work == self.device.xp.float32
        return narrow and any(step in (_fill, _clear) for step, _ in self.steps)

    def part(self, rows: slice, cols: slice) -> Standardizer:
        """That of a piece of the slab."""
        along_rows, along_cols = (rows, slice(None)), (slice(None), cols)
        here, there = (along_rows, along_cols)[self.axis], (along_cols, along_rows)[self.axis]
        across = None if self.across is None else self.across[there]
        return replace(self, steps=tuple((step, line[here]) for step, line in self.steps), across=across)

    def apply(self, values: Array, gaps: Gaps | None) -> Array:
        """The standardised entries; `values` may be changed."""
        values = self.device.xp.astype(values, self.work, copy=False)
        for step, line in self.steps:
            values = step(self.device, values, gaps, line)
        if self.across is not None:
            values *= self.across
        return values


def _line(device: Device, line: np.ndarray, work: np.dtype[Any], axis: int) -> Array:
    """A line on the device, with an axis across it."""
    return device.xp.expand_dims(device.to_device(line.astype(work)), axis=axis)


def _shifting(
    transform: Transform, lines: MeansAndDivisors, given: GivenLines, work: np.dtype[Any]
) -> Iterator[tuple[Step, np.ndarray]]:
    """The steps that subtract and fill.

    What is subtracted is a number of the precision `work`, then the rest of the mean or the offset.
    """
    if transform.center:
        first = _held(lines.high, lines.mean, work)
        yield _subtract, first
        yield _subtract, (lines.high - first) + lines.low
        # Missing entries are then at the mean, which high + low rounded to one number is not.
        yield _clear, first
    elif given.offset is not None:
        first = _held(given.offset, given.offset, work)
        yield _subtract, first
        yield _subtract, given.offset - first
        if transform.drops:
            yield _clear, first
    if transform.fills_with_mean and not transform.center:
        off = 0.0 if given.offset is None else given.offset
        yield _fill, (lines.high - off) + lines.low


def _held(wide: np.ndarray, value: np.ndarray, work: np.dtype[Any]) -> np.ndarray:
    """The value rounded to float32 where that is the precision, as float64; else the `wide` part of it."""
    return value.astype(work).astype(np.float64) if work == np.float32 else wide


def _fit_float32(lines: MeansAndDivisors, given: GivenLines) -> bool:
    """Whether means, divisors and what was given are far from where float32 overflows or loses digits."""
    off, factor = (np.zeros(1) if part is None else part for part in (given.offset, given.factor))
    used = np.abs(factor[factor != 0])
    return bool(
        np.all(np.abs(lines.mean) < _FLOAT32_FAR)
        and np.all(np.abs(off) < _FLOAT32_FAR)
        and np.all(_far_from_limits(lines.divisor))
        and np.all(_far_from_limits(used))
    )


def _far_from_limits(size: np.ndarray) -> np.ndarray:
    return np.asarray((size > 1 / _FLOAT32_FAR) & (size < _FLOAT32_FAR))
