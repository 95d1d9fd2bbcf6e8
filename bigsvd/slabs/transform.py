"""The matrix as decomposed, one slab at a time: prescaled, missing entries filled, centred and scaled.

A slab is some whole rows of the streamed matrix B, or a tile of them. Its lines are the columns of A: the
columns of B, or the rows of B, where mean and scale of a line are known exactly from the row itself. In the
other case the first pass works with estimates and collects `ColumnMoments`, which make them
exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device
from bigsvd.facts import AS_STORED, Packing, SourceFacts
from bigsvd.request import Request
from bigsvd.sentinels import Number, matches

_CONSTANT_EPS = 64 * np.finfo(np.float64).eps
_FLOAT32_EXPONENT = 126  # 2^±126 are the extreme normal powers of two
_FLOAT32_WHOLE = 2.0**24  # up to here float32 holds every whole number
_FLOAT32_FAR = 2.0**100  # means and divisors beyond this, or its inverse, are left to float64
_FAR_SHIFT = 1e4
# Squares of residues below 2^-480 are subnormal or 0 in float64: a sum of them says nothing about the spread.
_LEAST_SQUARES = 2.0**-960


@dataclass(frozen=True)
class MeansAndDivisors:
    """Mean and divisor of some lines, (c,) float64.

    The mean is high + low: a number near it that sums were shifted by, and the rest. Subtracted one after the
    other they remove a large mean to the last bit of what is left.
    """

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

    def holds_exactly(self, stored: np.dtype[Any]) -> bool:
        """Whether float32 holds the numbers that entries of this type stand for, prescaled, exactly.

        Where huge ones are scaled down, small ones beside them would become subnormal and lose their digits.
        """
        narrow = stored.itemsize <= 2 or stored == np.float32
        return narrow and not self.packing.packed and 0 <= self.exponent <= _FLOAT32_EXPONENT

    def keeps_whole(self, stored: np.dtype[Any]) -> bool:
        """Whether entries of this type are whole numbers that float32 holds."""
        return stored.kind in "iub" and not self.exponent and self.holds_exactly(stored)

    def shifts(self, lines: MeansAndDivisors, stored: np.dtype[Any]) -> np.ndarray:
        """What sums over columns are shifted by: their means as known, rounded where entries are whole."""
        if self.keeps_whole(stored):
            return np.round(lines.high)
        return lines.high

    @property
    def _gap_value(self) -> float:
        """What stands for a gap until it is filled; NaN, which is refused, where nothing is to fill it."""
        if self.missing == "none":
            return math.nan
        return 0.0

    @property
    def takes_as_stored(self) -> bool:
        """Whether entries are numbers as they are stored: not packed, prescaled or searched for gaps."""
        return not (self.packing.packed or self.packing.fills or self.exponent or self.missing != "none")

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
        """Entries as numbers × 2^exponent in memory of their own, missing ones 0; and which are missing.

        The mask is None where none is missing. Gaps that nothing was asked to fill become NaN, which the
        first pass refuses. float32 where that holds the numbers exactly, else float64.
        """
        xp = device.xp
        mask = self.mask(xp, raw, stored)
        if mask is not None and not bool(xp.any(mask)):
            mask = None
        values = xp.astype(raw, xp.float32 if self.holds_exactly(stored) else xp.float64, copy=True)
        if self.packing.packed:
            values *= self.packing.scale
            values += self.packing.offset
        if mask is not None:
            values = device.filled(values, mask, self._gap_value)
        if self.exponent:
            values *= 2.0**self.exponent
        return values, mask if self.missing != "none" else None

    def mask(self, xp: Any, raw: Array, stored: np.dtype[Any]) -> Array | None:
        """Which entries of a raw slab are missing or gaps; None where none can be."""
        sentinels: tuple[Number, ...] = self.packing.fills
        if self.missing != "none":
            sentinels = (*sentinels, *self.sentinels)
        return matches(xp, raw, stored, sentinels)


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


def first_observed(device: Device, values: Array, mask: Array | None) -> np.ndarray:
    """The first entry of each row that is not missing, (r,) float64; 0 where all are.

    As a shift it makes a constant row exactly 0. Its distance from the mean is at most √c deviations, so that
    variances of c entries lose a part c·eps to cancellation at the most.
    """
    xp, cols = device.xp, values.shape[1]
    found = np.array(device.to_host(values[:, 0]), dtype=np.float64)
    if mask is None:
        return found
    late = np.flatnonzero(device.to_host(mask[:, 0]))
    if late.size:
        masks = xp.take(mask, device.to_device(late), axis=0)
        places = late * cols + device.to_host(xp.argmin(xp.astype(masks, xp.int8), axis=1))
        found[late] = device.to_host(xp.take(xp.reshape(values, (-1,)), device.to_device(places)))
    return found


@dataclass
class ColumnMoments:
    """Shifted sums of lines over several slabs or tiles: n, Σ(x−h), Σ(x−h)² of observed entries.

    `faint` is Σ|x−h| over those slabs in which squares were too small for float64; `length` and `axis` are
    the entries of a line, and the axis of a slab that numbers the lines. `whole`: entries and shifts are
    whole numbers that float32 holds.
    """

    high: np.ndarray
    length: int
    axis: int = 1
    whole: bool = False
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

    def learn(self, device: Device, values: Array, mask: Array | None, *, at: slice) -> None:
        """Add widened entries of the rows `at`; the first that is observed in a row is its shift."""
        new = self.observed[at] == 0
        if new.any():
            self.high[at] = np.where(new, first_observed(device, values, mask), self.high[at])
        self.add(device, values, mask, at=at)

    def add(self, device: Device, values: Array, mask: Array | None, *, at: slice) -> None:
        """Add widened entries whose lines are the entries `at` of this."""
        xp = device.xp
        axis = 1 - self.axis
        self.observed[at] += float(values.shape[axis])
        if mask is not None:
            self.observed[at] -= device.to_host(xp.sum(xp.astype(mask, xp.int64), axis=axis))
        if self.whole and self._add_whole(device, values, mask, at):
            return
        residue = xp.astype(values, xp.float64, copy=True)
        residue -= self._shift(device, at, xp.float64)
        if mask is not None:
            residue = device.filled(residue, mask, 0.0)
        self.sum[at] += device.to_host(xp.sum(residue, axis=axis))
        squares = device.to_host(xp.sum(residue * residue, axis=axis))
        self.squares[at] += squares
        if values.dtype == xp.float64 and np.any(squares < _LEAST_SQUARES):  # float32 has no such residues
            size = device.to_host(xp.sum(xp.abs(residue), axis=axis))
            self.faint[at] += np.where(squares < _LEAST_SQUARES, size, 0.0)

    def _add_whole(self, device: Device, values: Array, mask: Array | None, at: slice) -> bool:
        """Add whole numbers by BLAS in float32, unless a sum of squares may be more than that holds."""
        xp = device.xp
        residue = values - self._shift(device, at, xp.float32)
        if mask is not None:
            residue = device.filled(residue, mask, 0.0)
        largest = float(xp.maximum(xp.max(residue), -xp.min(residue)))
        if largest**2 * values.shape[1 - self.axis] >= _FLOAT32_WHOLE:
            return False
        self.sum[at] += self._exact_sums(device, residue)
        residue *= residue
        self.squares[at] += self._exact_sums(device, residue)
        return True

    def _shift(self, device: Device, at: slice, dtype: Any) -> Array:
        """The shifts of some lines, to be subtracted from a slab of them."""
        xp = device.xp
        return xp.expand_dims(xp.astype(device.to_device(self.high[at]), dtype), axis=1 - self.axis)

    def _exact_sums(self, device: Device, array: Array) -> np.ndarray:
        """The sums along the lines of a slab of whole numbers, by BLAS: exact up to 2^24."""
        xp, count = device.xp, array.shape[1 - self.axis]
        ones = xp.ones((count,), dtype=array.dtype)
        lines = (array, array.T)[self.axis]
        return np.asarray(device.to_host(lines @ ones), dtype=np.float64)

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

    def squared_norm(self, transform: Transform) -> float:
        """‖·‖²_F of the lines once they are standardised, with missing entries at the mean."""
        lines = self.lines(transform.unit)
        squares = np.where(self.constant, 0.0, self.centered_squares)
        if not transform.center:
            squares = squares + self.length * lines.mean**2
        if transform.scale:
            squares = squares / lines.divisor**2
        return float(squares.sum())

    def lines(self, unit: float) -> MeansAndDivisors:
        """The exact mean, and the deviation as divisor, `unit` where the line is constant."""
        return MeansAndDivisors(self.high, self.low, np.where(self.constant, unit, self.deviation))
