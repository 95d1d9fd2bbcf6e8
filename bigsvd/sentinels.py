"""Values that stand for a missing entry, compared in the element type in which the entries are stored."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Any, TypeAlias

import numpy as np

Number: TypeAlias = int | float


def held(value: Number, stored: np.dtype[Any]) -> Number | None:
    """The value rounded as an array of type `stored` would hold it; None if no entry can have that value."""
    if stored.kind == "f":
        return _held_by_floats(value, stored)
    if stored.kind not in "iu" or not math.isfinite(value) or value != int(value):
        return None
    limits = np.iinfo(stored)
    if not limits.min <= value <= limits.max:
        return None
    return int(value)


def _held_by_floats(value: Number, stored: np.dtype[Any]) -> Number | None:
    try:
        with np.errstate(over="ignore"):
            rounded = float(np.asarray(float(value)).astype(stored))
    except OverflowError:  # an integer beyond the range of float64
        return None
    if math.isinf(rounded) and math.isfinite(value):
        return None
    return rounded


def matches(xp: Any, raw: Any, stored: np.dtype[Any], sentinels: Sequence[Number]) -> Any:
    """A mask of the entries of `raw`, stored as `stored`, that are sentinels; None if no entry can be one.

    The array may be of any array namespace `xp`. NaN matches NaN.
    """
    values = _all_held(tuple(sentinels), stored)
    if not values:
        return None
    return reduce(operator.or_, (_equal(xp, raw, value) for value in values))


@lru_cache
def _all_held(sentinels: tuple[Number, ...], stored: np.dtype[Any]) -> list[Number]:
    """Those that entries can have, as they have them; asked for again and again, of each piece of a slab."""
    return [value for sentinel in sentinels if (value := held(sentinel, stored)) is not None]


def outside(raw: Any, least: Number | None, most: Number | None) -> Any:
    """A mask of the entries of `raw` that are below `least` or above `most`; None if there is no limit.

    NaN is neither.
    """
    below = None if least is None else raw < least
    above = None if most is None else raw > most
    if below is None:
        return above
    if above is None:
        return below
    return below | above


def _equal(xp: Any, raw: Any, value: Number) -> Any:
    """Which entries are this value, where NaN is equal to NaN."""
    if math.isnan(value):
        return xp.isnan(raw)
    return raw == value


def number_to_json(value: Number) -> Number | str:
    """The number itself if JSON has it, otherwise its name: "nan", "inf" or "-inf"."""
    if math.isfinite(value):
        return value
    return str(float(value))


def number_from_json(value: Any) -> Any:
    """The inverse of `number_to_json`; any other value is returned as it is, and its reader refuses it."""
    if value in ("nan", "inf", "-inf"):
        return float(value)
    return value
