"""`Functions`: what is done to every entry of A before anything else, by names, so that a plan stays JSON.

They are applied in their order to the numbers that stored entries stand for; means, deviations and factors
are then those of f(A). A function of a number that it is not defined for gives NaN or an infinity, which the
first pass refuses, as it does where the data themselves have them: no function makes a finite number of
either. Entries that are missing stay so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bigsvd.errors import RequestError

Array = Any
_SUMS = "normalize_total"


def _log1p(xp: Any, values: Array) -> Array:
    return xp.log1p(values)


def _sqrt(xp: Any, values: Array) -> Array:
    return xp.sqrt(values)


def _asinh(xp: Any, values: Array) -> Array:
    return xp.asinh(values)


def _anscombe(xp: Any, values: Array) -> Array:
    """2·√(x + 3/8): counts of a Poisson distribution then vary by about 1 (Anscombe 1948)."""
    return 2 * xp.sqrt(values + 0.375)


def _clip(xp: Any, values: Array, *limits: float) -> Array:
    """At most the last of the limits, and no less than the first of two; an infinity stays."""
    least = (-math.inf, *limits)[-2]
    return xp.where(xp.isinf(values), values, xp.clip(values, least, limits[-1]))


def _binarize(xp: Any, values: Array, threshold: float) -> Array:
    """1 above the threshold, else 0; NaN, which is neither, and an infinity stay."""
    return xp.where(xp.isfinite(values), xp.astype(values > threshold, values.dtype), values)


def _normalize_total(xp: Any, values: Array, target: float, totals: Array) -> Array:
    """The target times the share that each entry has of its sample's total; NaN where one is negative.

    Those of a sample whose total is 0 are 0; they are NaN where float64 does not hold the total.
    """
    gain = target / xp.where(totals == 0, xp.ones_like(totals), totals)
    gain = xp.where(totals < math.inf, gain, xp.full_like(gain, math.nan))
    return xp.where((values >= 0) & (values < math.inf), values * gain, xp.full_like(values, math.nan))


@dataclass(frozen=True)
class Kind:
    """One function that has a name.

    Attributes:
        apply: what it makes of entries, given the array namespace and its numbers.
        counts: how many numbers it may be given. form: how it is written.
        domain: what it is not defined for, in words.

    """

    apply: Callable[..., Array]
    counts: tuple[int, ...]
    form: str
    domain: str = ""


KINDS = {
    _SUMS: Kind(
        _normalize_total, (1,), "normalize_total:TARGET", "negative numbers or totals beyond float64"
    ),
    "log1p": Kind(_log1p, (0,), "log1p", "numbers of -1 or less"),
    "sqrt": Kind(_sqrt, (0,), "sqrt", "negative numbers"),
    "asinh": Kind(_asinh, (0,), "asinh"),
    "anscombe": Kind(_anscombe, (0,), "anscombe", "numbers below -3/8"),
    "clip": Kind(_clip, (1, 2), "clip:MAX or clip:MIN:MAX"),
    "binarize": Kind(_binarize, (1,), "binarize:THRESHOLD"),
}


@dataclass(frozen=True)
class Function:
    """A function of one entry, or of one entry and the total of its sample, with its numbers."""

    name: str
    numbers: tuple[float, ...] = ()

    def __str__(self) -> str:
        """As it is written in a request."""
        return ":".join([self.name, *(repr(number).removesuffix(".0") for number in self.numbers)])

    @property
    def by_totals(self) -> bool:
        """Whether it needs the totals of samples."""
        return self.name == _SUMS

    @property
    def keeps_zeros(self) -> bool:
        """Whether it is 0 of 0, so that what is sparse stays so."""
        if self.name == "clip":
            return (-math.inf, *self.numbers)[-2] <= 0 <= self.numbers[-1]
        if self.name == "binarize":
            return self.numbers[0] >= 0
        return self.name != "anscombe"

    @property
    def domain(self) -> str:
        """What it is not defined for, in words; empty where it is for all numbers."""
        return KINDS[self.name].domain

    def apply(self, xp: Any, values: Array, totals: Array) -> Array:
        """What it makes of entries of an array namespace `xp`; `totals` of samples broadcast to them."""
        if self.by_totals:
            return KINDS[self.name].apply(xp, values, *self.numbers, totals)
        return KINDS[self.name].apply(xp, values, *self.numbers)


@dataclass(frozen=True)
class Functions:
    """Functions that are applied one after the other; none of them leaves entries as they are."""

    each: tuple[Function, ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str]) -> Functions:
        """By their texts, such as ``"clip:10"``; `RequestError` for what is none."""
        found = cls(tuple(map(_parsed, texts)))
        if sum(function.by_totals for function in found.each) > 1:
            raise RequestError(f"functions has {_SUMS} twice", "give it once: the last alone has an effect")
        return found

    def __bool__(self) -> bool:
        return bool(self.each)

    def __str__(self) -> str:
        return ", ".join(map(str, self.each))

    @property
    def by_totals(self) -> bool:
        """Whether one of them needs the totals of samples, of what those before it make."""
        return any(function.by_totals for function in self.each)

    @property
    def before_totals(self) -> Functions:
        """Those before the one that needs them."""
        return Functions(self.each[: [function.by_totals for function in self.each].index(True)])

    @property
    def keeps_zeros(self) -> bool:
        """Whether all are 0 of 0."""
        return all(function.keeps_zeros for function in self.each)

    @property
    def undefined(self) -> str:
        """What gives NaN or an infinity, in words; empty where nothing does."""
        return " and ".join(f"{each.name} of {each.domain}" for each in self.each if each.domain)

    def apply(self, xp: Any, values: Array, totals: Array = None) -> Array:
        """What they make of entries, floats of a namespace `xp`; `totals` of samples broadcast to them."""
        for function in self.each:
            values = function.apply(xp, values, totals)
        return values

    def of_whole_samples(self, xp: Any, values: Array, missing: Array) -> Array:
        """The same of all entries (r, c) of some samples, a row for each; `missing` ones add to no total."""
        totals = None
        if self.by_totals:
            parts = self.before_totals.apply(xp, values)
            totals = xp.expand_dims(totals_of(xp, xp.where(missing, xp.zeros_like(parts), parts), 1), axis=1)
        return self.apply(xp, values, totals)


AS_THEY_ARE = Functions()


def totals_of(xp: Any, values: Array, axis: int) -> Array:
    """Sums along an axis, float64 at least; what is not finite, and so refused in its place, adds nothing."""
    return xp.sum(xp.where(xp.isfinite(values), values, xp.zeros_like(values)), axis=axis)


def _parsed(text: str) -> Function:
    """One function by its text."""
    name, *numbers = text.strip().split(":")
    if name not in KINDS:
        raise RequestError(f"functions={text!r} is not known", f"use some of {', '.join(KINDS)}")
    try:
        found = Function(name, tuple(map(float, numbers)))
    except ValueError:
        found = Function(name, (math.nan,))
    right = len(found.numbers) in KINDS[name].counts and all(map(math.isfinite, found.numbers))
    positive = not found.by_totals or found.numbers > (0.0,)
    if not (right and positive and list(found.numbers) == sorted(found.numbers)):
        raise RequestError(f"functions={text!r} cannot be read", f"write it as {KINDS[name].form}")
    return found
