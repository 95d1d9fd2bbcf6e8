"""Values that stand for a missing entry, compared in the element type in which the entries are stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Number: TypeAlias = int | float


def held(value: Number, stored: np.dtype[Any]) -> Number | None:
    """The value as an array of type `stored` holds it: rounded to its precision; None where it cannot."""
    if stored.kind == "f":
        return _held_by_floats(value, stored)
    if stored.kind not in "iu" or not math.isfinite(value) or value != int(value):
        return None
    limits = np.iinfo(stored)
    return int(value) if limits.min <= value <= limits.max else None


def _held_by_floats(value: Number, stored: np.dtype[Any]) -> Number | None:
    try:
        with np.errstate(over="ignore"):
            rounded = float(np.asarray(float(value)).astype(stored))
    except OverflowError:  # an integer beyond the range of float64
        return None
    return None if math.isinf(rounded) and math.isfinite(value) else rounded


def matches(xp: Any, raw: Any, stored: np.dtype[Any], sentinels: Sequence[Number]) -> Any:
    """Which entries of `raw`, stored as `stored`, are one of the sentinels; None where none can be.

    The array may be of any array namespace `xp`. NaN matches NaN.
    """
    mask = None
    for sentinel in sentinels:
        value = held(sentinel, stored)
        if value is None:
            continue
        found = xp.isnan(raw) if math.isnan(value) else raw == value
        mask = found if mask is None else mask | found
    return mask


def number_to_json(value: Number) -> Number | str:
    """A number that JSON knows, else its name: "nan", "inf" or "-inf"."""
    return value if math.isfinite(value) else str(float(value))


def number_from_json(value: Any) -> Any:
    """The inverse of `number_to_json`; anything else as it is, for its reader to refuse."""
    return float(value) if value in ("nan", "inf", "-inf") else value
