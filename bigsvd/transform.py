"""The matrix as decomposed, one slab at a time: prescaled, missing entries filled, centred and scaled.

A slab is some whole rows of the streamed matrix B, or a tile of them. Its lines (columns of A) are the
columns of B, or, when Aᵀ is streamed, the rows of B: then mean and scale of a line are known exactly from the
row itself. In the other case the first pass works with estimates and collects `Moments`, which make them
exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bigsvd.device import Array, Device

EXACT_INTEGERS = 2**53
_CONSTANT_EPS = 64 * np.finfo(np.float64).eps
_FLOAT32_EXPONENT = 126  # 2^±126 are the extreme normal powers of two
_FAR_SHIFT = 1e4


@dataclass(frozen=True)
class Lines:
    """Mean, in two parts so that a large one is removed to the last bit, and divisor; (c,) float64."""

    high: np.ndarray
    low: np.ndarray
    divisor: np.ndarray

    @classmethod
    def neutral(cls, count: int) -> Lines:
        """Mean 0 and divisor 1."""
        return cls(np.zeros(count), np.zeros(count), np.ones(count))

    @property
    def mean(self) -> np.ndarray:
        """High + low."""
        return np.asarray(self.high + self.low)

    def stacked(self) -> np.ndarray:
        """(3, c): the form kept in scratch."""
        return np.stack([self.high, self.low, self.divisor])


@dataclass(frozen=True)
class Transform:
    """What is done to every entry: (2^exponent·a − mean)/divisor, with missing entries filled.

    Attributes:
        missing: "none", "zero" or "mean"; missing_value: which entries are missing (NaN where None).
        center, scale: whether the mean is subtracted and the divisor divides.

    """

    exponent: int = 0
    missing: str = "none"
    missing_value: float | None = None
    center: bool = False
    scale: bool = False

    @property
    def by_line(self) -> bool:
        """Whether means or divisors are needed at all."""
        return self.center or self.scale or self.missing == "mean"

    @property
    def result_exponent(self) -> int:
        """B as multiplied is 2^this times the matrix asked for; dividing columns removes the prescaling."""
        return 0 if self.scale else self.exponent

    @property
    def unit(self) -> float:
        """1 in the prescaled units of the entries: what a constant column is divided by."""
        return float(2.0**self.exponent)

    def missing_mask(self, xp: Any, raw: Array) -> Array | None:
        """Which entries of a raw slab are missing; None where none can be."""
        if self.missing == "none":
            return None
        if self.missing_value is None or np.isnan(self.missing_value):
            return xp.isnan(raw) if xp.isdtype(raw.dtype, "real floating") else None
        if xp.isdtype(raw.dtype, "real floating"):
            return raw == self.missing_value
        representable = float(self.missing_value).is_integer() and not xp.isdtype(raw.dtype, "bool")
        return raw == int(self.missing_value) if representable else None

    def widen(self, device: Device, raw: Array, stored: np.dtype[Any]) -> tuple[Array, Array | None]:
        """A `raw` slab on the device × 2^exponent, missing entries 0, and their mask.

        float64 where differences of large numbers follow, or the dtype in which it is `stored` or the
        exponent needs it, else float32.
        """
        xp = device.xp
        mask = self.missing_mask(xp, raw)
        narrow = stored.itemsize <= 2 or stored == np.float32
        fits = abs(self.exponent) <= _FLOAT32_EXPONENT
        dtype = xp.float32 if narrow and fits and not self.by_line else xp.float64
        values = xp.astype(raw, dtype, copy=False)
        if mask is not None:
            values = xp.where(mask, xp.zeros_like(values), values)
        if self.exponent:
            values = values * 2.0**self.exponent
        return values, mask if self.missing == "mean" else None

    def apply(self, device: Device, values: Array, mask: Array | None, lines: Lines, *, rows: bool) -> Array:
        """(values − mean)/divisor with missing entries at the mean; `rows`: lines are the slab's rows."""
        xp = device.xp

        def spread(line: np.ndarray) -> Array:
            array = device.to_device(line)
            return array[:, None] if rows else array[None, :]

        if mask is not None:
            values = xp.where(mask, spread(lines.mean), values)
        if self.center:
            values = (values - spread(lines.high)) - spread(lines.low)
        if self.scale:
            values = values / spread(lines.divisor)
        return values


def guess_of_rows(device: Device, values: Array) -> np.ndarray:
    """A shift for each row of a slab, (r,) float64: its mean, exactly its value where the row is constant."""
    xp = device.xp
    low, high = xp.min(values, axis=1), xp.max(values, axis=1)
    mean = xp.mean(values, axis=1)
    return np.asarray(device.to_host(xp.minimum(xp.maximum(mean, low), high)), dtype=np.float64)


@dataclass
class LineSums:
    """Shifted sums of lines over several slabs or tiles: n, Σ(x−h), Σ(x−h)² of observed entries."""

    high: np.ndarray
    length: int
    observed: np.ndarray = field(init=False)
    sum: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.observed = np.zeros_like(self.high)
        self.sum = np.zeros_like(self.high)
        self.squares = np.zeros_like(self.high)

    def add(self, device: Device, values: Array, mask: Array | None, *, rows: bool, at: slice) -> None:
        """Add a widened slab whose lines are the entries `at` of this."""
        xp = device.xp
        axis = 1 if rows else 0
        high = device.to_device(self.high[at])
        residue = xp.astype(values, xp.float64, copy=False) - (high[:, None] if rows else high[None, :])
        count = float(values.shape[axis])
        if mask is not None:
            residue = xp.where(mask, xp.zeros_like(residue), residue)
            self.observed[at] += count - device.to_host(xp.sum(xp.astype(mask, xp.float64), axis=axis))
        else:
            self.observed[at] += count
        self.sum[at] += device.to_host(xp.sum(residue, axis=axis))
        self.squares[at] += device.to_host(xp.sum(residue * residue, axis=axis))

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
    def far_shift(self) -> bool:
        """Whether a shift is so far from its mean that the squares have lost their digits to cancellation."""
        far = self.observed * self.low**2 > _FAR_SHIFT * self.centered_squares
        return bool(np.any(far & (np.abs(self.low) > 1e-10 * np.abs(self.high + self.low))))

    def lines(self, unit: float) -> Lines:
        """The exact mean, and the deviation as divisor, `unit` where the line is constant."""
        return Lines(self.high, self.low, np.where(self.constant, unit, self.deviation))


@dataclass
class Moments:
    """What the first pass learns about the matrix besides its products; merges by `add`.

    Attributes:
        squares: ‖·‖²_F of the slabs as multiplied. peak: largest |entry| × 2^exponent before shifting.
        nonfinite: counts of NaN, +Inf, −Inf. first: (row, column) in A of the first, row by row.
        missing: entries filled. inexact: integers beyond 2^53. constant: lines that are constant.

    """

    squares: float = 0.0
    peak: float = 0.0
    nonfinite: tuple[int, int, int] = (0, 0, 0)
    first: tuple[int, int] | None = None
    missing: int = 0
    inexact: int = 0
    constant: int = 0

    def add(self, other: Moments) -> None:
        """Merge; order matters only for rounding of `squares`."""
        self.squares += other.squares
        self.peak = max(self.peak, other.peak)
        a, b = self.nonfinite, other.nonfinite
        self.nonfinite = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
        self.first = min((p for p in (self.first, other.first) if p is not None), default=None)
        self.missing += other.missing
        self.inexact += other.inexact
        self.constant += other.constant

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Moments:
        """The inverse of `to_dict`."""
        first = values["first"]
        return cls(
            **{**values, "nonfinite": tuple(values["nonfinite"]), "first": tuple(first) if first else None}
        )


def inspect(
    device: Device,
    raw: Array,
    stored: np.dtype[Any],
    values: Array,
    mask_count: int,
    origin: tuple[int, int],
    *,
    transposed: bool,
) -> Moments:
    """`peak`, and where it is not finite a census of what is not, of one widened slab at `origin` of B.

    `raw` is the same slab as it is `stored`.
    """
    xp = device.xp
    peak = float(xp.maximum(xp.max(values), -xp.min(values)))
    found = Moments(peak=peak if np.isfinite(peak) else 0.0, missing=mask_count)
    if stored.kind in "iu" and stored.itemsize == 8 and peak >= EXACT_INTEGERS:
        beyond = raw > EXACT_INTEGERS
        beyond = beyond | (raw < -EXACT_INTEGERS) if stored.kind == "i" else beyond
        found.inexact = int(xp.sum(xp.astype(beyond, xp.int64)))
    if not np.isfinite(peak):
        host = device.to_host(values)
        counts = (np.isnan(host).sum(), np.isposinf(host).sum(), np.isneginf(host).sum())
        found.nonfinite = (int(counts[0]), int(counts[1]), int(counts[2]))
        rows, cols = np.nonzero(~np.isfinite(host))
        if transposed:
            rows, cols = cols + origin[1], rows + origin[0]
        else:
            rows, cols = rows + origin[0], cols + origin[1]
        first = np.lexsort((cols, rows))[0]
        found.first = (int(rows[first]), int(cols[first]))
    return found
