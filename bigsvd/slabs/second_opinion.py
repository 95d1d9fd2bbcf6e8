"""A second opinion on means, divisors and missing counts: of some features, by another way than the run's.

The run shifts, sums and corrects in float64 on its device, from a mask that it makes slab by slab. Here the
stored entries of a few features, as they pass by, are decoded, searched for missing ones and averaged anew:
by two passes over each piece in extended precision (NumPy's longdouble; 64-bit mantissa on x86, float64
elsewhere), pieces merged as by Chan, Golub & LeVeque 1979, eq. 2.1. No read of the data is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigsvd.errors import VerifyError
from bigsvd.sentinels import Number
from bigsvd.slabs.entries import Entries
from bigsvd.slabs.transform import ALLELES, MeansAndDivisors, Transform

_DRAWN = 8  # features chosen at random, beside those that are hardest
_EXTREME = 2  # features of each kind of extreme that join those drawn at random
# What the run's sums may be off by: of a deviation, and of a mean in units of deviation and of rounding.
_DIVISOR_SLACK = 1e-8
_MEAN_SLACK = 1e-9
_MEAN_ROUNDINGS = 16
_CONSTANT_ROUNDINGS = 64
_BORDER = 4.0  # around the limit of what is constant, where either answer is right
_EPS = float(np.finfo(np.float64).eps)


# A first pass may meet what overflows or is no number: it is then repeated, prescaled, or refuses the data.
_quiet = np.errstate(over="ignore", under="ignore", invalid="ignore")


@dataclass(frozen=True, eq=False)
class Opinion:
    """What is known of some features, each (c,), from their entries as they are stored.

    Attributes:
        entries, missing: how many there are, and how many of them are missing.
        claimed: how many of them the run's own mask says are missing.
        counted: how many enter mean and spread: missing ones do where they are taken as 0.
        mean, spread: mean and Σ(x−mean)² of these, longdouble, in the run's prescaled units, in which squares
            neither overflow nor vanish.

    """

    columns: tuple[int, ...]
    entries: np.ndarray
    missing: np.ndarray
    claimed: np.ndarray
    counted: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def nothing(cls, columns: Sequence[int]) -> Opinion:
        """Before any entry was seen."""
        counts, zeros = np.zeros(len(columns), np.int64), np.zeros(len(columns), np.longdouble)
        return cls(tuple(columns), counts, counts, counts, counts, zeros, zeros)

    @classmethod
    @_quiet
    def of(
        cls,
        columns: Sequence[int],
        raw: np.ndarray,
        claimed: np.ndarray,
        transform: Transform,
        totals: np.ndarray | None = None,
    ) -> Opinion:
        """Of the entries `raw` (r, c) as they are stored, a column for each of `columns`.

        `totals` (r,) of whole samples are taken as the run has them: they are of all columns.
        """
        lines = np.ascontiguousarray(raw.T)  # sums along memory are fastest
        values, gone = _decoded(lines, transform, totals)
        missing = np.count_nonzero(gone, axis=1)
        entries = np.full(len(columns), raw.shape[0], np.int64)
        values[gone] = 0
        if transform.missing == "zero":
            gone = np.zeros_like(gone)
        counted = entries - np.count_nonzero(gone, axis=1)
        mean = values.sum(axis=1) / np.maximum(counted, 1)
        values -= mean[:, np.newaxis]
        values[gone] = 0
        rest = values.sum(axis=1) / np.maximum(counted, 1)  # what rounding has left of the mean
        spread = np.maximum(np.vecdot(values, values) - counted * rest * rest, 0)
        return cls(tuple(columns), entries, missing, claimed, counted, mean + rest, spread)

    @_quiet
    def merged(self, other: Opinion) -> Opinion:
        """Of the entries of both; they are of the same columns, or one of none."""
        if not self.columns or not other.columns:
            return self if self.columns else other
        counted = self.counted + other.counted
        share = other.counted / np.maximum(counted, 1).astype(np.longdouble)
        step = other.mean - self.mean
        return Opinion(
            self.columns,
            self.entries + other.entries,
            self.missing + other.missing,
            self.claimed + other.claimed,
            counted,
            self.mean + step * share,
            self.spread + other.spread + step * step * share * self.counted,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values; a longdouble as the two float64 whose sum it is."""
        counts = {name: getattr(self, name).tolist() for name in _COUNTS}
        sums = {name: _split(getattr(self, name)) for name in _SUMS}
        return {"columns": list(self.columns), **counts, **sums}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Opinion:
        """The inverse of `to_dict`."""
        counts = {name: np.array(values[name], np.int64) for name in _COUNTS}
        sums = {name: np.array(values[name], np.longdouble).sum(axis=0) for name in _SUMS}
        return cls(columns=tuple(values["columns"]), **counts, **sums)

    def __eq__(self, other: object) -> bool:
        """Same columns, counts and sums."""
        return isinstance(other, Opinion) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.columns)

    @property
    def deviation(self) -> np.ndarray:
        """Population standard deviation of each column with missing entries at its mean (ddof 0)."""
        return np.asarray(np.sqrt(self.spread / np.maximum(self.entries, 1)))

    def divisors(self, transform: Transform) -> np.ndarray:
        """What each column is to be divided by, 0 where it has no deviation."""
        if transform.scale in ALLELES:
            p = np.ldexp(self.mean, -1 - transform.exponent)
            return np.asarray(np.sqrt(np.maximum(ALLELES[transform.scale] * p * (1 - p), 0)) * transform.unit)
        entries = self.counted if transform.scale == "std-observed" else self.entries
        return np.asarray(np.sqrt(self.spread / np.maximum(entries - transform.ddof, 1)))

    def limit(self, i: int, transform: Transform) -> float:
        """Up to which divisor column i may count as one that has no deviation."""
        if transform.scale in ALLELES:  # a function of the mean, whose rounding shows where p is 0 or 1
            return float(np.sqrt(_CONSTANT_ROUNDINGS * _EPS) * transform.unit / _BORDER)
        return float(_CONSTANT_ROUNDINGS * _EPS * abs(self.mean[i]))


_COUNTS = ("entries", "missing", "claimed", "counted")
_SUMS = ("mean", "spread")


@_quiet
def _split(values: np.ndarray) -> list[list[float]]:
    high = values.astype(np.float64)
    low = np.where(np.isfinite(high), values - high, 0).astype(np.float64)
    return [high.tolist(), low.tolist()]


def _decoded(
    raw: np.ndarray, transform: Transform, totals: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """What functions make of the numbers that entries stand for, prescaled, longdouble; which are missing.

    The numbers are the float64 that packed entries are decoded to, as a decoded copy has them: beside a small
    deviation its rounding shows.
    """
    packing = transform.packing
    numbers = raw.astype(np.float64)  # integers beyond 2^53 are rounded, and counted
    if packing.packed:
        numbers *= packing.scale
        numbers += packing.offset
    values = transform.functions.apply(np, numbers, totals).astype(np.longdouble)
    if transform.exponent:
        values = np.ldexp(values, transform.exponent)
    gone = _among(raw, packing.fills)
    if packing.least is not None:
        gone |= raw < packing.least
    if packing.most is not None:
        gone |= raw > packing.most
    if transform.missing != "none":
        gone = gone | _among(raw, transform.sentinels)
    return values, gone


def _among(raw: np.ndarray, sentinels: Sequence[Number]) -> np.ndarray:
    """Which entries are one of the sentinels, each rounded to the type of the entries."""
    found = np.zeros(raw.shape, dtype=bool)
    for sentinel in sentinels:
        if math.isnan(sentinel):
            found |= raw != raw  # noqa: PLR0124 - true of NaN alone, and of no integer
        else:
            found |= raw == sentinel
    return found


class Witness:
    """Collects the opinion on some features while slabs of B stream by in one lane."""

    def __init__(self, columns: Sequence[int], transform: Transform) -> None:
        self.opinion = Opinion.nothing(columns)
        self._transform = transform

    def look(self, entries: Entries) -> None:
        """Take in what of these entries is of its features."""
        whole, along = self.opinion, entries.features
        here = [i for i, column in enumerate(whole.columns) if along.start <= column < along.stop]
        if not here:
            return
        places = np.array([whole.columns[i] - along.start for i in here])
        found = self._of(entries, places, [whole.columns[i] for i in here])
        spread_out = Opinion.nothing(whole.columns)
        for name in (*_COUNTS, *_SUMS):
            values = getattr(spread_out, name).copy()
            values[here] = getattr(found, name)
            spread_out = replace(spread_out, **{name: values})
        self.opinion = whole.merged(spread_out)

    def recheck(self, entries: Entries, lines: MeansAndDivisors, constant: np.ndarray) -> list[str]:
        """What is wrong with those rows of B, being features, that a fault would show in first.

        `entries` are whole rows, `lines` the run's for them. Where entries are not finite, or not yet
        prescaled, the outcome means nothing.
        """
        relative = _relative(lines.mean, lines.divisor)
        places = {int(np.argmin(relative)), int(np.argmin(np.where(constant, np.inf, relative)))}
        chosen = np.array(sorted(places | {int(np.argmax(constant))}))
        found = self._of(entries, chosen, (chosen + entries.rows.start).tolist())
        return disagreements(found, lines.mean[chosen], lines.divisor[chosen], self._transform)

    def _of(self, entries: Entries, places: np.ndarray, columns: Sequence[int]) -> Opinion:
        device, axis = entries.device, self._transform.axis
        # One after the other: NumPy's `take` first copies all of an array that lies in memory by columns.
        lines = [entries.raw[(slice(None),) * axis + (int(place), ...)] for place in places]
        raw = device.xp.stack(lines, axis=axis)
        mask, claimed = None, np.zeros(len(columns), np.int64)
        if self._transform.missing != "none":
            mask = self._transform.mask(device.xp, raw, entries.stored)
        if mask is not None:
            claimed = np.count_nonzero(np.moveaxis(device.to_host(mask), axis, 1), axis=0)
        host = np.moveaxis(device.to_host(raw), axis, 1)
        return Opinion.of(columns, host, claimed, self._transform, entries.totals)


def chosen_columns(count: int, seed: int, mean: np.ndarray | None, divisor: np.ndarray | None) -> list[int]:
    """Columns of `count` to be looked at: some at random, and those that a fault would show in first.

    These have the least and the greatest divisor, and the least divisor for their mean, where that is known.
    """
    drawn = np.random.default_rng([seed, 4]).choice(count, size=min(_DRAWN, count), replace=False)
    chosen = set(drawn.tolist())
    if mean is not None and divisor is not None:
        relative = _relative(mean, divisor)
        for order in (np.argsort(divisor), np.argsort(relative)):
            chosen |= set(order[:_EXTREME].tolist()) | set(order[-_EXTREME:].tolist())
    return sorted(chosen)


def _relative(mean: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """Divisors for their mean, from 0 to 1."""
    return np.asarray(divisor / (np.abs(mean) + divisor))


def disagreements(
    opinion: Opinion, mean: np.ndarray | None, divisor: np.ndarray | None, transform: Transform
) -> list[str]:
    """Where means or divisors (c,) of the opinion's columns are not what it found; all prescaled.

    Divisors are not looked at where the transform does not divide.
    """
    findings = []
    divisors = opinion.divisors(transform)
    for i, column in enumerate(opinion.columns):
        own, spread = float(opinion.mean[i]), float(opinion.deviation[i])
        slack = _MEAN_SLACK * spread + _MEAN_ROUNDINGS * _EPS * abs(own)
        if mean is not None and opinion.counted[i] and not abs(mean[i] - own) <= slack:  # of nothing is none
            said, found = (float(np.ldexp(value, -transform.exponent)) for value in (mean[i], own))
            findings.append(f"the mean of column {column} is {said!r}, recomputed it is {found!r}")
        if divisor is None or not transform.scale:
            continue
        if not _right_divisor(
            float(divisor[i]), float(divisors[i]), opinion.limit(i, transform), transform.unit
        ):
            said, found = (float(np.ldexp(value, -transform.exponent)) for value in (divisor[i], divisors[i]))
            findings.append(f"the divisor of column {column} is {said!r}, recomputed it is {found!r}")
    return findings


def _right_divisor(divisor: float, own: float, limit: float, unit: float) -> bool:
    """Whether it is what was found, or `unit` where that is 0 up to rounding, of at most `limit`."""
    constant = own <= _BORDER * limit
    varies = own * _BORDER > limit
    near = abs(divisor - own) <= _DIVISOR_SLACK * own
    return (constant and divisor == unit) or (varies and near)


def miscounts(opinion: Opinion, missing: int, observed: int, entries: int) -> list[str]:
    """Where the run's count of missing ones of all `entries`, or of those of a column, is not what it is.

    `observed` is the number of the others, counted another way.
    """
    findings = []
    if missing + observed != entries:
        findings.append(
            f"{missing} entries were counted as missing and {observed} as observed, of {entries} in all"
        )
    findings += [
        f"{opinion.claimed[i]} entries of column {opinion.columns[i]} were counted as missing, "
        f"recounted they are {opinion.missing[i]}"
        for i in np.flatnonzero(opinion.claimed != opinion.missing)
    ]
    return findings


def refuse(findings: list[str]) -> None:
    """`VerifyError` for the first of the findings."""
    if findings:
        raise VerifyError(
            f"the run's statistics of the data do not hold ({findings[0]})",
            "report this: it is a defect of bigsvd",
        )
