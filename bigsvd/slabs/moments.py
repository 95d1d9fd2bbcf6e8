"""`ColumnMoments`: sums over the lines of slabs, which give the means and divisors of features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device, Gaps
from bigsvd.slabs.transform import ALLELES, NO_LINES, GivenLines, MeansAndDivisors, Transform

_CONSTANT_EPS = 64 * np.finfo(np.float64).eps
_FLOAT32_WHOLE = 2.0**24  # up to here float32 holds every whole number
_FAR_SHIFT = 1e4
# Squares of residues below 2^-480 are subnormal or 0 in float64: a sum of them says nothing about the spread.
_LEAST_SQUARES = 2.0**-960


def first_observed(device: Device, values: Array, gaps: Gaps | None) -> np.ndarray:
    """The first entry of each row that is not missing, (r,) float64; 0 where all are.

    As a shift it makes a constant row exactly 0. Its distance from the mean is at most √c deviations, so that
    variances of c entries lose a part c·eps to cancellation at the most.
    """
    xp, cols = device.xp, values.shape[1]
    found = np.array(device.to_host(values[:, 0]), dtype=np.float64)
    if gaps is None:
        return found
    late = np.flatnonzero(device.to_host(gaps.mask[:, 0]))
    if late.size:
        masks = xp.take(gaps.mask, device.to_device(late), axis=0)
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

    def learn(self, device: Device, values: Array, gaps: Gaps | None, *, at: slice) -> None:
        """Add widened entries of the rows `at`; the first that is observed in a row is its shift."""
        new = self.observed[at] == 0
        if new.any():
            self.high[at] = np.where(new, first_observed(device, values, gaps), self.high[at])
        self.add(device, values, gaps, at=at)

    def add(self, device: Device, values: Array, gaps: Gaps | None, *, at: slice) -> None:
        """Add widened entries whose lines are the entries `at` of this."""
        xp = device.xp
        axis = 1 - self.axis
        self.observed[at] += float(values.shape[axis])
        if gaps is not None:
            self.observed[at] -= self._line_sums(device, xp.astype(gaps.mask, xp.float32))
        if self.whole and self._add_whole(device, values, gaps, at):
            return
        residue = self._residue(device, values, gaps, at)
        self.sum[at] += self._line_sums(device, residue)
        residue *= residue
        squares = self._line_sums(device, residue)
        self.squares[at] += squares
        if values.dtype == xp.float64 and np.any(squares < _LEAST_SQUARES):  # float32 has no such residues
            sizes = self._line_sums(device, xp.abs(self._residue(device, values, gaps, at)))
            self.faint[at] += np.where(squares < _LEAST_SQUARES, sizes, 0.0)

    def _residue(self, device: Device, values: Array, gaps: Gaps | None, at: slice) -> Array:
        """What entries differ by from the shifts of their lines, float64, in memory of its own."""
        xp = device.xp
        residue = xp.astype(values, xp.float64, copy=True)
        residue -= self._shift(device, at, xp.float64)
        if gaps is not None:
            residue = device.filled(residue, gaps, 0.0)
        return residue

    def _add_whole(self, device: Device, values: Array, gaps: Gaps | None, at: slice) -> bool:
        """Add whole numbers by BLAS in float32, unless a sum of squares may be more than that holds."""
        xp = device.xp
        residue = values - self._shift(device, at, xp.float32)
        if gaps is not None:
            residue = device.filled(residue, gaps, 0.0)
        largest = float(xp.maximum(xp.max(residue), -xp.min(residue)))
        if largest**2 * values.shape[1 - self.axis] >= _FLOAT32_WHOLE:
            return False
        self.sum[at] += self._line_sums(device, residue)
        residue *= residue
        self.squares[at] += self._line_sums(device, residue)
        return True

    def _shift(self, device: Device, at: slice, dtype: Any) -> Array:
        """The shifts of some lines, to be subtracted from a slab of them."""
        xp = device.xp
        return xp.expand_dims(xp.astype(device.to_device(self.high[at]), dtype), axis=1 - self.axis)

    def _line_sums(self, device: Device, array: Array) -> np.ndarray:
        """The sums along the lines of a slab, by BLAS; of whole numbers in float32 they are exact to 2^24."""
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

    def divisor(self, transform: Transform) -> np.ndarray:
        """What each line is divided by, `unit` where that would be 0.

        Deviations are of all entries, filled ones at the mean, or of the observed ones. Of alleles that are
        counted 0, 1 and 2 it is a function of their frequency p, half the mean: √(p(1−p)) (Patterson, Price
        & Reich 2006, eq. 3) or √(2p(1−p)).
        """
        unit = transform.unit
        if transform.scale in ALLELES:
            p = (self.high + self.low) / (2 * unit)
            variance = ALLELES[transform.scale] * np.maximum(p * (1 - p), 0.0)
            return np.where((variance > 0) & (self.observed > 0), np.sqrt(variance) * unit, unit)
        entries = self.observed if transform.scale == "std-observed" else self.length
        deviation = np.sqrt(self.centered_squares / np.maximum(entries - transform.ddof, 1))
        return np.where(self.constant, unit, deviation)

    @property
    def deviation(self) -> np.ndarray:
        """Population standard deviation (ddof 0)."""
        return np.asarray(np.sqrt(self.centered_squares / self.length))

    @property
    def constant(self) -> np.ndarray:
        """Which lines are constant up to rounding."""
        return np.asarray(self.deviation <= _CONSTANT_EPS * np.abs(self.high + self.low))

    def set_apart(self, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
        """Which lines are constant, and of which nothing was observed; these are none if left out."""
        empty = self.observed == 0
        return self.constant & ~(empty & transform.leaves_out), empty

    @property
    def unresolved(self) -> np.ndarray:
        """Which lines are not constant, but vary by so little that float64 cannot hold the squares."""
        varies = self.faint > _CONSTANT_EPS * self.observed * np.abs(self.high + self.low)
        return np.asarray(varies & (self.squares < _LEAST_SQUARES))

    def unfit(self, transform: Transform) -> np.ndarray:
        """Which lines cannot be scaled by their deviations, being unresolved."""
        by_deviation = transform.scale and not transform.counts_alleles
        return self.unresolved if by_deviation else np.zeros(self.high.shape, dtype=bool)

    @property
    def far_shift(self) -> bool:
        """Whether a shift is so far from its mean that the squares have lost their digits to cancellation."""
        far = self.observed * self.low**2 > _FAR_SHIFT * self.centered_squares
        return bool(np.any(far & (np.abs(self.low) > 1e-10 * np.abs(self.high + self.low))))

    def squared_norm(
        self, transform: Transform, given: GivenLines = NO_LINES, weighted: WeightedSums | None = None
    ) -> float:
        """‖·‖²_F of the lines once they are standardised, with missing entries at the mean.

        `weighted` are the sums by the squares of what the entries of each line are multiplied by, if they
        are.
        """
        squares, cross, count = self.centered_squares, np.zeros_like(self.high), float(self.length)
        if weighted is not None:
            squares, cross = weighted.squares_around(self.low), weighted.sums_around(self.low)
            count = weighted.total
        squares = np.where(self.constant, 0.0, squares)
        if not transform.center:
            off = 0.0 if given.offset is None else given.offset
            rest = (self.high - off) + self.low
            if transform.leaves_out:
                rest = np.where(self.observed > 0, rest, 0.0)
            squares = squares + 2 * rest * cross + count * rest**2
        gain = given.gain(self.divisor(transform) if transform.scale else 1.0)
        return float((squares * gain**2).sum())

    def lines(self, transform: Transform, given: GivenLines = NO_LINES) -> MeansAndDivisors:
        """The exact mean, and what the line is divided by if it is.

        Of a line that is left out, the offset: gaps that are filled with it are then 0.
        """
        high = self.high
        if given.offset is not None and transform.leaves_out:
            high = np.where(self.observed > 0, high, given.offset)
        return MeansAndDivisors(high, self.low, self.divisor(transform))


@dataclass
class WeightedSums:
    """Sums of lines by weights ω of their entries: Σω, Σω(x−h), Σω(x−h)² of observed ones; `total` of all."""

    high: np.ndarray
    total: float
    values: np.ndarray

    @classmethod
    def nothing(cls, high: np.ndarray) -> WeightedSums:
        """Before any entry was seen; in one lane `total` is not known, and not needed."""
        return cls(high, 0.0, np.zeros((3, high.size)))

    def add(self, device: Device, values: Array, gaps: Gaps | None, weights: np.ndarray, at: slice) -> None:
        """Add widened entries (r, c), whose columns are the lines `at`; weights (r,)."""
        xp = device.xp
        residue = xp.astype(values, xp.float64, copy=True)
        residue -= xp.expand_dims(device.to_device(self.high[at]), axis=0)
        omega = device.to_device(weights)
        self.values[0, at] += weights.sum()
        if gaps is not None:
            residue = device.filled(residue, gaps, 0.0)
            self.values[0, at] -= device.to_host(omega @ xp.astype(gaps.mask, xp.float64))
        self.values[1, at] += device.to_host(omega @ residue)
        residue *= residue
        self.values[2, at] += device.to_host(omega @ residue)

    def sums_around(self, low: np.ndarray) -> np.ndarray:
        """Σω(x−μ) for μ = h + low, of the observed entries."""
        return np.asarray(self.values[1] - low * self.values[0])

    def squares_around(self, low: np.ndarray) -> np.ndarray:
        """Σω(x−μ)² for μ = h + low, of the observed entries."""
        rest = self.sums_around(low) + self.values[1]
        return np.asarray(np.maximum(self.values[2] - low * rest, 0.0))
