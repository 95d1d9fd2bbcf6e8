"""`Transform`: what is done to every entry of the matrix; `MeansAndDivisors` and `Given`, by which.

A slab is some whole rows of the streamed matrix B, or a tile of them. Its lines are the features of A: the
columns of B, or the rows of B, where mean and scale of a line are known exactly from the row itself. In the
other case the first pass works with estimates and collects `moments.ColumnMoments`, which make them exact.

In place of its mean a line may have a given offset; what is left of it, divided, is multiplied by a given
factor, its weight over a given divisor. Across the lines run the weights of A's rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Device, Gaps
from bigsvd.facts import AS_STORED, Packing, SourceFacts
from bigsvd.functions import AS_THEY_ARE, Functions
from bigsvd.request import Request
from bigsvd.sentinels import Number

ALLELES = {"patterson": 1.0, "binom2": 2.0}  # by which p(1−p) is multiplied
GIVEN = "given"  # the folder of scratch for the vectors that were given
_VECTORS = ("offset", "factor", "across")
THROUGHOUT = "throughout"  # of `Transform.missing`
_FLOAT32_EXPONENT = 126  # 2^±126 are the extreme normal powers of two


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
    """What is done to every entry: (2^exponent·f(a) − mean)/divisor, with missing entries filled.

    What is `given` then comes in: an offset in place of the mean, a factor 2^boost·f of each line, and one of
    each entry of a line; see `Given`.

    Attributes:
        missing: "none", "zero", "mean", or "throughout": gaps of lines that have other entries are for the
            first pass to refuse, which makes this "none" where there are no gaps at all.
        sentinels: the stored values that mean missing where `missing` is not "none"; NaN is one of them.
        center: whether the mean is subtracted.
        scale: by what of its own a line is divided, one of `request.SCALES`, or "".
        ddof: by how much the entries that deviations are averaged over are fewer.
        packing: how stored entries stand for the numbers a, and which of them are gaps.
        axis: the axis of B that numbers the lines: 1 where they are its columns, 0 where they are its rows.
        given: the names of vectors that were given. level: the entries across were divided by 2^this.
        boost: keeps products in range.
        functions: f. totals_apart: whether a pass of its own has left the totals of samples in scratch, since
            panels do not hold whole ones.

    """

    exponent: int = 0
    missing: str = "none"
    sentinels: tuple[Number, ...] = ()
    center: bool = False
    scale: str = ""
    packing: Packing = AS_STORED
    axis: int = 1
    ddof: int = 0
    given: tuple[str, ...] = ()
    level: int = 0
    boost: int = 0
    functions: Functions = AS_THEY_ARE
    totals_apart: bool = False

    @classmethod
    def of(cls, request: Request, facts: SourceFacts) -> Transform:
        """What a request asks for, of a source of B with these facts; not prescaled."""
        missing, sentinels = request.missing, request.sentinels
        drops = missing == "none" and (facts.marks_gaps or np.dtype(facts.dtype).kind == "f")
        fills = missing != "none" and facts.marks_gaps and not any(map(math.isnan, sentinels))
        if drops or fills:
            sentinels = (*sentinels, float("nan"))
        return cls(
            0, THROUGHOUT if drops else missing, sentinels, request.center, request.own_scale, facts.packing,
            facts.features_axis, request.ddof, functions=Functions.of(request.functions),
        )  # fmt: skip

    @property
    def standardized(self) -> bool:
        """Whether means or divisors of the lines themselves are needed at all."""
        return self.center or bool(self.scale) or self.missing == "mean"

    @property
    def scales_by_given(self) -> bool:
        """Whether something given is subtracted or multiplied by."""
        return bool(self.given) or self.boost != 0

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
        What functions make of numbers is of float64.
        """
        narrow = stored.itemsize <= 2 or stored == np.float32
        changed = self.packing.packed or bool(self.functions)
        return narrow and not changed and 0 <= self.exponent <= _FLOAT32_EXPONENT

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
        """Whether entries are numbers as they are stored: not packed, changed or searched for gaps."""
        filled = self.missing not in ("none", THROUGHOUT)
        changed = bool(self.functions) or self.exponent != 0
        return not (self.packing.packed or self.packing.marks_gaps or changed or filled)

    @property
    def drops(self) -> bool:
        """Whether gaps are refused but in lines that are missing throughout."""
        return self.missing == THROUGHOUT

    @property
    def leaves_out(self) -> bool:
        """Whether lines that are missing throughout are no part of the matrix, and 0 in B.

        Of nothing there is no mean to fill them with; 0 stands for missing entries whatever else there is.
        """
        return self.drops or self.fills_with_mean

    @property
    def counts_alleles(self) -> bool:
        """Whether entries are to be numbers of alleles, 0 to 2."""
        return self.scale in ALLELES

    @property
    def settled(self) -> Transform:
        """The same where no entry is missing, once a first pass has found so: then none is looked for."""
        if not self.drops:
            return self
        return replace(self, missing="none")

    @property
    def awaits_nan(self) -> bool:
        """Whether only NaN are gaps, and are looked for only where a maximum shows that there are some."""
        return self.drops and not self.packing.marks_gaps

    @property
    def result_exponent(self) -> int:
        """B as multiplied is 2^this times the matrix asked for; dividing columns removes the prescaling."""
        return (0 if self.scale else self.exponent) + self.boost - self.level

    @property
    def unit(self) -> float:
        """1 in the prescaled units of the entries: what is divided by where a column has no deviation."""
        return float(2.0**self.exponent)

    @property
    def fills_with_mean(self) -> bool:
        """Whether missing entries take the mean of their line."""
        return self.missing == "mean"

    @property
    def hands_on_gaps(self) -> bool:
        """Whether standardising an entry has to know that it is missing."""
        return self.fills_with_mean or self.drops

    @property
    def before_totals(self) -> Transform:
        """What makes the numbers whose sums are the totals of samples; missing ones are 0."""
        missing = "none" if self.missing == "none" else "zero"
        return Transform(0, missing, self.sentinels, packing=self.packing, axis=self.axis,
                         functions=self.functions.before_totals)  # fmt: skip

    def widen(
        self,
        device: Device,
        raw: Array,
        stored: np.dtype[Any],
        totals: Array = None,
        into: Array = None,
        *,
        cleared: bool = True,
    ) -> tuple[Array, Gaps | None]:
        """Entries as numbers, f of them × 2^exponent, missing ones 0; and which are missing, if any.

        Where they need not be `cleared`, missing ones may hold what is stored. Gaps that nothing was asked to
        fill become NaN, which the first pass refuses. float32 where that holds the numbers exactly, else
        float64. In memory of their own, but for those that are to be taken as they are stored, and are in
        this precision already. NaN that are awaited are left; see `filled`. `totals`: of the samples that
        the entries are of, broadcast to them, where functions need them. `into`: memory of this shape in
        which they are made if it has their precision, and functions make no others of them.
        """
        gaps = None if self.awaits_nan else self._gaps(device, raw, stored)
        kept = not cleared and not self.functions and not self.exponent
        values = self._numbers(device, raw, stored, totals, None if kept else gaps, into)
        return values, gaps if self.missing != "none" else None

    def filled(
        self, device: Device, raw: Array, stored: np.dtype[Any], totals: Array = None, into: Array = None
    ) -> tuple[Array, Gaps | None]:
        """The same where some are NaN, in memory of their own."""
        gaps = self._gaps(device, raw, stored)
        return self._numbers(device, raw, stored, totals, gaps, into), gaps

    def _gaps(self, device: Device, raw: Array, stored: np.dtype[Any]) -> Gaps | None:
        """Which are missing; None where none is."""
        mask = self.mask(device.xp, raw, stored)
        return None if mask is None else device.gaps(mask)

    def _numbers(
        self,
        device: Device,
        raw: Array,
        stored: np.dtype[Any],
        totals: Array,
        gaps: Gaps | None,
        into: Array | None,
    ) -> Array:
        xp = device.xp
        precision = xp.float32 if self.holds_exactly(stored) else xp.float64
        if into is not None and into.dtype == precision:
            into[...] = raw
            values = into
        else:
            changed = self.standardized or self.scales_by_given or not self.takes_as_stored
            values = xp.astype(raw, precision, copy=changed or gaps is not None)
        if self.packing.packed:
            values *= self.packing.scale
            values += self.packing.offset
        if self.functions:
            values = self.functions.apply(xp, values, totals)
        if gaps is not None:
            values = device.filled(values, gaps, self._gap_value)
        if self.exponent:
            values *= 2.0**self.exponent
        return values

    def mask(self, xp: Any, raw: Array, stored: np.dtype[Any]) -> Array | None:
        """Which entries of a raw slab are missing or gaps; None where none can be."""
        more = self.sentinels if self.missing != "none" else ()
        return self.packing.gaps_in(xp, raw, stored, more)


@dataclass(frozen=True, eq=False)
class GivenLines:
    """What was given for some lines, (c,) float64 each, in the units of prescaled entries.

    Attributes:
        offset: what is subtracted; None where it is the mean, or nothing.
        factor: by what lines are multiplied at last; None where they are not.

    """

    offset: np.ndarray | None = None
    factor: np.ndarray | None = None

    def gain(self, divisor: np.ndarray | float) -> np.ndarray:
        """By what is left of a line is multiplied in all, its divisor being known (c,)."""
        return np.asarray((1.0 if self.factor is None else self.factor) / divisor)


@dataclass(frozen=True, eq=False)
class Given:
    """What was given for all of B: arrays in memory, or in scratch for lanes; None for what was not.

    Attributes:
        offset, factor: of the lines, not prescaled. across: 2^−`level` times that by which the entries
            of each line are multiplied, so that the largest lies in [1, 2).

    """

    offset: Any = None
    factor: Any = None
    across: Any = None
    level: int = 0

    @classmethod
    def of(cls, vectors: Mapping[str, np.ndarray]) -> Given:
        """By the names of a request: offset, scale and weights (n,), row_weights (m,)."""
        factor = vectors.get("weights")
        if "scale" in vectors:
            factor = (1.0 if factor is None else factor) / vectors["scale"]
        across, level = vectors.get("row_weights"), 0
        if across is not None and np.any(across):
            level = int(np.frexp(across.max())[1]) - 1
            across = np.ldexp(across, -level)
        return cls(vectors.get("offset"), factor, across, level)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of its vectors that were given."""
        return tuple(name for name in _VECTORS if getattr(self, name) is not None)

    @property
    def largest_factor(self) -> float:
        """The largest; 1 where there is none, or none but 0."""
        if self.factor is None or not np.any(self.factor):
            return 1.0
        return float(np.max(self.factor))

    def squares_across(self, count: int) -> float:
        """The sum of the squares of what the entries of a line, so many of them, are multiplied by."""
        if self.across is None:
            return float(count)
        return float(self.across @ self.across)

    def lines(self, transform: Transform, some: slice) -> GivenLines:
        """What was given for some lines, in the units of the transform."""
        offset = factor = None
        if self.offset is not None:
            offset = np.ldexp(self.offset[some], transform.exponent)
        if self.factor is not None:
            factor = np.ldexp(self.factor[some], transform.boost)
        elif transform.boost:
            factor = np.asarray(2.0**transform.boost)
        return GivenLines(offset, factor)

    def across_part(self, some: slice) -> np.ndarray | None:
        """By what some entries of each line are multiplied, (r,); None where that is 1."""
        return None if self.across is None else np.asarray(self.across[some])


NOTHING = Given()
NO_LINES = GivenLines()
