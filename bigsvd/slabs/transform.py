"""The matrix as decomposed, one slab at a time: prescaled, missing entries filled, centred and scaled.

A slab is some whole rows of the streamed matrix B, or a tile of them. Its lines are the columns of A: the
columns of B, or the rows of B, where mean and scale of a line are known exactly from the row itself. In the
other case the first pass works with estimates and collects `ColumnMoments`, which make them
exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device
from bigsvd.facts import AS_STORED, Packing, SourceFacts
from bigsvd.request import Request
from bigsvd.sentinels import Number, matches

_CONSTANT_EPS = 64 * np.finfo(np.float64).eps
_FLOAT32_EXPONENT = 126  # 2^±126 are the extreme normal powers of two
_FAR_SHIFT = 1e4
# Squares of residues below 2^-480 are subnormal or 0 in float64: a sum of them says nothing about the spread.
_LEAST_SQUARES = 2.0**-960


@dataclass(frozen=True)
class MeansAndDivisors:
    """Mean, in two parts so that a large one is removed to the last bit, and divisor; (c,) float64."""

    high: np.ndarray
    low: np.ndarray
    divisor: np.ndarray

    @classmethod
    def neutral(cls, count: int) -> MeansAndDivisors:
        """Mean 0 and divisor 1."""
        return cls(np.zeros(count), np.zeros(count), np.ones(count))

    @property
    def mean(self) -> np.ndarray:
        """High + low."""
        return np.asarray(self.high + self.low)

    def part(self, some: slice) -> MeansAndDivisors:
        """Those of some lines."""
        return MeansAndDivisors(self.high[some], self.low[some], self.divisor[some])

    def stacked(self) -> np.ndarray:
        """(3, c): the form kept in scratch."""
        return np.stack([self.high, self.low, self.divisor])


@dataclass(frozen=True)
class Transform:
    """What is done to every entry: (2^exponent·a − mean)/divisor, with missing entries filled.

    Attributes:
        missing: "none", "zero" or "mean".
        sentinels: the stored values that mean missing where `missing` is not "none"; NaN is one of them.
        center, scale: whether the mean is subtracted and the divisor divides.
        packing: how stored entries stand for the numbers a, and which of them are gaps.
        axis: the axis of B that numbers the lines: 1 where they are its columns, 0 where they are its rows.

    """

    exponent: int = 0
    missing: str = "none"
    sentinels: tuple[Number, ...] = ()
    center: bool = False
    scale: bool = False
    packing: Packing = AS_STORED
    axis: int = 1

    @classmethod
    def of(cls, request: Request, facts: SourceFacts, axis: int) -> Transform:
        """What a request asks for, of a source with these facts; not prescaled."""
        sentinels = request.sentinels
        if request.missing != "none" and facts.marks_gaps and not any(map(math.isnan, sentinels)):
            sentinels = (*sentinels, float("nan"))
        return cls(0, request.missing, sentinels, request.center, request.scale, facts.packing, axis)

    @property
    def standardized(self) -> bool:
        """Whether means or divisors are needed at all."""
        return self.center or self.scale or self.missing == "mean"

    @property
    def by_columns(self) -> bool:
        """Whether these are along the columns of B, and so known only when all rows have been seen."""
        return self.standardized and self.axis == 1

    @property
    def by_rows(self) -> bool:
        """Whether these are along the rows of B, and so known as soon as a row is."""
        return self.standardized and self.axis == 0

    @property
    def exact(self) -> bool:
        """Whether entries become float64 first, however they are stored."""
        return self.standardized or self.packing.packed

    @property
    def result_exponent(self) -> int:
        """B as multiplied is 2^this times the matrix asked for; dividing columns removes the prescaling."""
        return 0 if self.scale else self.exponent

    @property
    def unit(self) -> float:
        """1 in the prescaled units of the entries: what a constant column is divided by."""
        return float(2.0**self.exponent)

    @property
    def fills_with_mean(self) -> bool:
        """Whether missing entries take the mean of their line."""
        return self.missing == "mean"

    def widen(self, device: Device, raw: Array, stored: np.dtype[Any]) -> tuple[Array, Array | None]:
        """A `raw` slab on the device as numbers × 2^exponent, missing entries 0; and which are missing.

        The mask is None where none can be missing. Gaps that nothing was asked to fill become NaN, which the
        first pass refuses. float64 where differences of large numbers follow, or the dtype in which it is
        `stored`, its packing or the exponent needs it, else float32.
        """
        xp = device.xp
        mask = self._mask(xp, raw, stored)
        narrow = stored.itemsize <= 2 or stored == np.float32
        fits = abs(self.exponent) <= _FLOAT32_EXPONENT
        exact = self.exact or not (narrow and fits)
        values = xp.astype(raw, xp.float64 if exact else xp.float32, copy=False)
        if self.packing.packed:
            values = values * self.packing.scale + self.packing.offset
        if mask is not None:
            fill = xp.zeros_like(values) if self.missing != "none" else xp.full_like(values, np.nan)
            values = xp.where(mask, fill, values)
        if self.exponent:
            values = values * 2.0**self.exponent
        return values, mask if self.missing != "none" else None

    def _mask(self, xp: Any, raw: Array, stored: np.dtype[Any]) -> Array | None:
        """Which entries of a raw slab are missing or gaps; None where none can be."""
        sentinels: tuple[Number, ...] = self.packing.fills
        if self.missing != "none":
            sentinels = (*sentinels, *self.sentinels)
        return matches(xp, raw, stored, sentinels)

    def apply(self, device: Device, values: Array, mask: Array | None, lines: MeansAndDivisors) -> Array:
        """(values − mean)/divisor with missing entries at the mean."""
        xp = device.xp

        def spread(line: np.ndarray) -> Array:
            return xp.expand_dims(device.to_device(line), axis=1 - self.axis)

        if self.center:
            values = (values - spread(lines.high)) - spread(lines.low)
        if mask is not None:  # exactly at the mean, which high + low rounded to one number is not
            values = xp.where(mask, xp.zeros_like(values) if self.center else spread(lines.mean), values)
        if self.scale:
            values = values / spread(lines.divisor)
        return values


def guess_of_rows(device: Device, values: Array, mask: Array | None) -> np.ndarray:
    """A shift for each row of a slab, (r,) float64: the mean of its observed entries; 0 where there is none.

    Where the row is constant it is exactly that constant, so that what is left is exactly 0.
    """
    xp = device.xp
    if mask is None:
        low, high = xp.min(values, axis=1), xp.max(values, axis=1)
        mean = xp.mean(values, axis=1)
    else:  # a missing entry is 0 in `values`, which must not be taken for a number
        low = xp.min(xp.where(mask, xp.full_like(values, np.inf), values), axis=1)
        high = xp.max(xp.where(mask, xp.full_like(values, -np.inf), values), axis=1)
        missing = xp.sum(xp.astype(mask, values.dtype), axis=1)
        observed = float(values.shape[1]) - missing
        mean = xp.sum(values, axis=1) / xp.where(observed > 0, observed, xp.ones_like(observed))
    guess = xp.minimum(xp.maximum(mean, low), high)
    guess = xp.where(xp.isfinite(guess), guess, xp.zeros_like(guess))
    return np.asarray(device.to_host(guess), dtype=np.float64)


@dataclass
class ColumnMoments:
    """Shifted sums of lines over several slabs or tiles: n, Σ(x−h), Σ(x−h)² of observed entries.

    `faint` is Σ|x−h| over those slabs in which squares were too small for float64; `length` and `axis` are
    the entries of a line, and the axis of a slab that numbers the lines.
    """

    high: np.ndarray
    length: int
    axis: int = 1
    observed: np.ndarray = field(init=False)
    sum: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)
    faint: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.observed = np.zeros_like(self.high)
        self.sum = np.zeros_like(self.high)
        self.squares = np.zeros_like(self.high)
        self.faint = np.zeros_like(self.high)

    @classmethod
    def from_stacked(cls, high: np.ndarray, length: int, sums: np.ndarray) -> ColumnMoments:
        """The inverse of `stacked`."""
        found = cls(high, length)
        found.observed, found.sum, found.squares, found.faint = sums
        return found

    def stacked(self) -> np.ndarray:
        """(4, c), which may be added to those of other slabs with the same shift."""
        return np.stack([self.observed, self.sum, self.squares, self.faint])

    def shift_unobserved(self, high: np.ndarray) -> None:
        """Give those lines of which nothing was observed so far another shift."""
        self.high = np.where(self.observed == 0, high, self.high)

    def add(self, device: Device, values: Array, mask: Array | None, *, at: slice) -> None:
        """Add a widened slab whose lines are the entries `at` of this."""
        xp = device.xp
        axis = 1 - self.axis
        high = xp.expand_dims(device.to_device(self.high[at]), axis=axis)
        residue = xp.astype(values, xp.float64, copy=False) - high
        count = float(values.shape[axis])
        if mask is not None:
            residue = xp.where(mask, xp.zeros_like(residue), residue)
            self.observed[at] += count - device.to_host(xp.sum(xp.astype(mask, xp.float64), axis=axis))
        else:
            self.observed[at] += count
        self.sum[at] += device.to_host(xp.sum(residue, axis=axis))
        squares = device.to_host(xp.sum(residue * residue, axis=axis))
        self.squares[at] += squares
        if np.any(squares < _LEAST_SQUARES):
            size = device.to_host(xp.sum(xp.abs(residue), axis=axis))
            self.faint[at] += np.where(squares < _LEAST_SQUARES, size, 0.0)

    @property
    def low(self) -> np.ndarray:
        """Mean − high of the observed entries; 0 where nothing was observed."""
        return np.asarray(self.sum / np.maximum(self.observed, 1.0))

    @property
    def centered_squares(self) -> np.ndarray:
        """Σ(x−mean)² of the observed entries; filled ones add nothing."""
        return np.asarray(np.maximum(self.squares - self.observed * self.low**2, 0.0))

    @property
    def deviation(self) -> np.ndarray:
        """Population standard deviation (ddof 0)."""
        return np.asarray(np.sqrt(self.centered_squares / self.length))

    @property
    def constant(self) -> np.ndarray:
        """Which lines are constant up to rounding."""
        return np.asarray(self.deviation <= _CONSTANT_EPS * np.abs(self.high + self.low))

    @property
    def unresolved(self) -> np.ndarray:
        """Which lines are not constant, but vary by so little that float64 cannot hold the squares."""
        varies = self.faint > _CONSTANT_EPS * self.observed * np.abs(self.high + self.low)
        return np.asarray(varies & (self.squares < _LEAST_SQUARES))

    @property
    def far_shift(self) -> bool:
        """Whether a shift is so far from its mean that the squares have lost their digits to cancellation."""
        far = self.observed * self.low**2 > _FAR_SHIFT * self.centered_squares
        return bool(np.any(far & (np.abs(self.low) > 1e-10 * np.abs(self.high + self.low))))

    def lines(self, unit: float) -> MeansAndDivisors:
        """The exact mean, and the deviation as divisor, `unit` where the line is constant."""
        return MeansAndDivisors(self.high, self.low, np.where(self.constant, unit, self.deviation))
