"""What the first pass learns about the entries besides its products: counts, extremes, what is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.devices.base import Array, Gaps
from bigsvd.slabs.entries import Entries, Piece

EXACT_INTEGERS = 2**53
_FEW = 10  # indices that are kept
_ALLELE_SLACK = 1e-6  # of estimated numbers of alleles, which were rounded


@dataclass
class Census:
    """What the first pass learns about the matrix besides its products; merges by `add`.

    Attributes:
        squares: ‖·‖²_F of the slabs as multiplied. peak: largest |entry| × 2^exponent before shifting.
        nonfinite: counts of NaN, +Inf, −Inf. first: (sample, feature) of the first, sample by sample.
        missing: entries filled, or of lines that are left out; first_missing: (sample, feature) of the first
        where lines are dropped. partial: features that have both missing entries and others where these are
        refused, first_partial the first of them. observed: the others, counted another way.
        inexact: integers beyond 2^53. constant: features that are constant, `empty` those that have no
        observed entry; both with the first few by index.
        unfit: features that cannot be scaled as asked, `first_unfit` the first of them; doubts: what a second
        look at some found wrong. Both count only once entries are finite and prescaled.
        no_alleles: entries that are no number of alleles, where all are to be; first_no_allele: (sample,
        feature) of the first.

    """

    squares: float = 0.0
    peak: float = 0.0
    nonfinite: tuple[int, int, int] = (0, 0, 0)
    first: tuple[int, int] | None = None
    missing: int = 0
    first_missing: tuple[int, int] | None = None
    partial: int = 0
    first_partial: int | None = None
    observed: int = 0
    inexact: int = 0
    constant: int = 0
    constant_columns: tuple[int, ...] = ()
    empty: int = 0
    empty_columns: tuple[int, ...] = ()
    unfit: int = 0
    first_unfit: int | None = None
    doubts: tuple[str, ...] = ()
    no_alleles: int = 0
    first_no_allele: tuple[int, int] | None = None

    def add(self, other: Census) -> None:
        """Merge; order matters only for rounding of `squares`."""
        self.squares += other.squares
        self.peak = max(self.peak, other.peak)
        a, b = self.nonfinite, other.nonfinite
        self.nonfinite = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
        self.first = _lesser(self.first, other.first)
        self.missing += other.missing
        self.first_missing = _lesser(self.first_missing, other.first_missing)
        self.partial += other.partial
        self.first_partial = _lesser(self.first_partial, other.first_partial)
        self.observed += other.observed
        self.inexact += other.inexact
        self.constant += other.constant
        self.constant_columns = _fewest(self.constant_columns, other.constant_columns)
        self.empty += other.empty
        self.empty_columns = _fewest(self.empty_columns, other.empty_columns)
        self.unfit += other.unfit
        self.first_unfit = _lesser(self.first_unfit, other.first_unfit)
        self.doubts = (*self.doubts, *other.doubts)[:_FEW]
        self.no_alleles += other.no_alleles
        self.first_no_allele = _lesser(self.first_no_allele, other.first_no_allele)

    def add_unfit(self, unfit: np.ndarray, offset: int = 0) -> None:
        """Count features, from that of index `offset` on, that cannot be scaled as asked."""
        places = np.flatnonzero(unfit)
        if places.size:
            self.unfit += int(places.size)
            self.first_unfit = _lesser(self.first_unfit, int(places[0]) + offset)

    def add_gaps(self, gaps: np.ndarray, length: int, offset: int = 0) -> np.ndarray:
        """Count features with some of so many entries missing; which of them are missing throughout (c,)."""
        gone: np.ndarray = np.asarray(gaps == length)
        places = np.flatnonzero((gaps > 0) & ~gone)
        if places.size:
            self.partial += int(places.size)
            self.first_partial = _lesser(self.first_partial, int(places[0]) + offset)
        return gone

    def add_lines(self, constant: np.ndarray, empty: np.ndarray, offset: int = 0) -> None:
        """Count features, from that of index `offset` on, that are constant or have nothing observed."""
        flat, gone = np.flatnonzero(constant), np.flatnonzero(empty)
        self.constant += flat.size
        self.constant_columns = _fewest(self.constant_columns, (flat[:_FEW] + offset).tolist())
        self.empty += gone.size
        self.empty_columns = _fewest(self.empty_columns, (gone[:_FEW] + offset).tolist())

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Census:
        """The inverse of `to_dict`."""
        lists = (
            "nonfinite", "constant_columns", "empty_columns", "doubts", "first", "first_missing",
            "first_no_allele",
        )  # fmt: skip
        tuples = {name: tuple(values[name]) for name in lists if values[name] is not None}
        return cls(**{**values, **tuples})


def _lesser(one: Any, other: Any) -> Any:
    """The lesser of two places, either of which may be None."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _fewest(some: Sequence[int], others: Sequence[int]) -> tuple[int, ...]:
    """The lowest few of both."""
    return tuple(sorted({*some, *others})[:_FEW])


def census_of(entries: Entries, piece: Piece) -> Census:
    """Extremes and counts of a piece of entries of B; where they are not finite, what is not."""
    xp, stored = entries.device.xp, entries.stored
    peak = piece.peak
    found = Census(peak=peak if np.isfinite(peak) else 0.0)
    if piece.gaps is not None:
        found.missing = piece.gaps.count
        if entries.transform.drops:
            found.first_missing = _first(entries, piece, entries.device.to_host(piece.gaps.mask))
    large = peak >= EXACT_INTEGERS or bool(entries.transform.functions)  # which make other numbers of them
    if stored.kind in "iu" and stored.itemsize == 8 and large:
        found.inexact = _inexact(xp, entries.raw[piece.rows, piece.cols], stored, piece.gaps)
    if not np.isfinite(peak):
        _count_nonfinite(found, entries, piece)
    elif entries.transform.counts_alleles:
        _count_no_alleles(found, entries, piece)
    return found


def _count_no_alleles(found: Census, entries: Entries, piece: Piece) -> None:
    """Count what cannot be a number of alleles of two, nor one estimated."""
    xp, unit = entries.device.xp, entries.transform.unit
    wrong = (piece.values < -_ALLELE_SLACK * unit) | (piece.values > (2 + _ALLELE_SLACK) * unit)
    found.no_alleles = int(xp.count_nonzero(wrong))
    if found.no_alleles:
        found.first_no_allele = _first(entries, piece, entries.device.to_host(wrong))


def observed_in(entries: Entries, piece: Piece) -> int:
    """How many entries of a piece are not missing, counted on the host."""
    count = int(piece.values.shape[0] * piece.values.shape[1])
    if piece.gaps is None:
        return count
    return count - int(np.count_nonzero(entries.device.to_host(piece.gaps.mask)))


def _inexact(xp: Any, raw: Array, stored: np.dtype[Any], gaps: Gaps | None) -> int:
    """How many integers float64 may not hold exactly; missing entries are no numbers."""
    beyond = raw > EXACT_INTEGERS
    if stored.kind == "i":
        beyond = beyond | (raw < -EXACT_INTEGERS)
    if gaps is not None:
        beyond = beyond & ~gaps.mask
    return int(xp.count_nonzero(beyond))


def _count_nonfinite(found: Census, entries: Entries, piece: Piece) -> None:
    host = entries.device.to_host(piece.values)
    counts = (np.isnan(host).sum(), np.isposinf(host).sum(), np.isneginf(host).sum())
    found.nonfinite = (int(counts[0]), int(counts[1]), int(counts[2]))
    found.first = _first(entries, piece, ~np.isfinite(host))


def _first(entries: Entries, piece: Piece, marked: np.ndarray) -> tuple[int, int]:
    """The place in A, (sample, feature), of the first entry of a piece that is marked, sample by sample."""
    axis = entries.transform.axis
    sample = int(np.argmax(marked.any(axis=axis)))
    feature = int(np.argmax(np.take(marked, sample, axis=1 - axis)))
    place = entries.place(piece)
    return sample + place[1 - axis].start, feature + place[axis].start
