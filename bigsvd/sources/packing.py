"""How the attributes of an array say that its entries are packed or have no value, as xarray writes them.

CF conventions 1.11, sections 2.5.1 (missing data) and 8.1 (packed data); the NetCDF User's Guide, appendix
on attribute conventions (`valid_range`, `_Unsigned`).
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from bigsvd.errors import MetadataError
from bigsvd.facts import Packing
from bigsvd.sentinels import Number, held

_REMEDY = "open it by xarray and hand over its DataArray, or use decode=False for entries as they are stored"
_UNSIGNED = {("true", "i"): "u", ("false", "u"): "i"}  # by `_Unsigned` and the kind of the stored type
_NEARLY = 1e-6  # a limit so near to a whole stored value, relatively, is that value, written in decimals

Attributes = Mapping[str, Any]


def dtype_of(attributes: Attributes, stored: np.dtype[Any]) -> np.dtype[Any]:
    """The type as which stored bytes are to be read: `_Unsigned` tells integers that their format lacked.

    NetCDF-3 has no unsigned integers, and OPeNDAP no signed bytes: programs store the same bits as the type
    that there is.
    """
    unsigned = _lone(attributes.get("_Unsigned", ""))
    kind = _UNSIGNED.get((str(unsigned).lower(), stored.kind))
    if kind is None:
        return stored
    return np.dtype(f"{kind}{stored.itemsize}")


def packing_of(name: str, attributes: Attributes, stored: np.dtype[Any], own: Iterable[Number]) -> Packing:
    """What `scale_factor`, `add_offset`, `_FillValue`, `missing_value` and `valid_…` say of an array.

    `stored`: the type of its entries in the file. `own`: further values that mean missing. The result is in
    terms of `dtype_of` that.

    Raises:
        MetadataError: an attribute has a value that is not understood here.

    """
    given = _Given(name, attributes, stored)
    scale, offset = given.number("scale_factor", 1.0), given.number("add_offset", 0.0)
    if scale == 0:
        raise given.refusal("scale_factor", "which makes all entries equal")
    fills = [value for key in ("_FillValue", "missing_value") for value in given.fills(key)]
    known = (given.held(value) for value in (*fills, *own) if not math.isnan(value))
    packing = Packing(scale, offset, tuple(dict.fromkeys(value for value in known if value is not None)))
    least, most = given.limits(packing)
    return Packing(scale, offset, packing.fills, least, most)


def decoded(raw: np.ndarray, packing: Packing) -> np.ndarray:
    """The numbers that a few entries stand for, NaN where there is none; themselves if they are numbers."""
    if not packing.packed and not packing.marks_gaps:
        return raw
    numbers = raw * packing.scale + packing.offset
    gaps = packing.gaps_in(np, raw, raw.dtype)
    return numbers if gaps is None else np.where(gaps, np.nan, numbers)


class _Given:
    """The attributes of an array, read as numbers."""

    def __init__(self, name: str, attributes: Attributes, stored: np.dtype[Any]) -> None:
        self._name = name
        self._attributes = attributes
        self._stored = stored
        self._dtype = dtype_of(attributes, stored)

    def refusal(self, key: str, why: str) -> MetadataError:
        """The error that says why an attribute cannot be applied."""
        return MetadataError(
            f"{self._name} has the attribute {key}={self._attributes[key]!r}, {why}", _REMEDY
        )

    def number(self, key: str, default: float) -> float:
        """The number of one attribute, which may stand alone or as the only one in a list."""
        if key not in self._attributes:
            return default
        value = _lone(self._attributes[key])
        if not _is_number(value) or not math.isfinite(value):
            raise self.refusal(key, "which is no number")
        return float(value)

    def fills(self, key: str) -> list[Number]:
        """The values of an attribute that mean missing; NaN, which means it anyway, for none."""
        values = self._attributes.get(key, [])
        if not isinstance(values, (list, tuple)):
            values = [values]
        return [self._fill(key, value) for value in values]

    def _fill(self, key: str, value: Any) -> Number:
        """In format 3 of Zarr xarray writes a float as base64 of its eight bytes."""
        if value is None:
            return math.nan
        if isinstance(value, str) and self._stored.kind == "f":
            try:
                return float(struct.unpack("<d", base64.standard_b64decode(value))[0])
            except (binascii.Error, struct.error):
                if value in ("NaN", "Infinity", "-Infinity"):
                    return float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refusal(key, "which is no number")
        return value

    def held(self, value: Number) -> Number | None:
        """The value as entries hold it: bits of the stored type are read as those of `dtype_of` it."""
        found = held(value, self._dtype)
        if found is None and self._dtype != self._stored:
            bits = held(value, self._stored)
            if bits is not None:
                return int(np.asarray(bits, self._stored).view(self._dtype))
        return found

    def limits(self, packing: Packing) -> tuple[Number | None, Number | None]:
        """The least and the most that an entry with a value can be, as stored; None where all can be.

        Limits of packed integers are packed too, unless they are written with a decimal point: a type as wide
        as that of `scale_factor` means that they are of what is unpacked.
        """
        low, high = self._valid()
        floats = any(isinstance(limit, float) and math.isfinite(limit) for limit in (low, high))
        if floats and packing.packed and self._dtype.kind in "iu":
            low, high = sorted((limit - packing.offset) / packing.scale for limit in (low, high))
        if self._dtype.kind not in "iu":
            return self._rounded(low), self._rounded(high)
        least, most = self._whole(low, math.ceil), self._whole(high, math.floor)
        lowest, highest = np.iinfo(self._dtype).min, np.iinfo(self._dtype).max
        if least > highest or most < lowest or least > most:
            raise MetadataError(f"{self._name} has valid_ attributes that no entry can fulfil", _REMEDY)
        return (int(least) if least > lowest else None, int(most) if most < highest else None)

    def _valid(self) -> tuple[Number, Number]:
        """`valid_range`, or `valid_min` and `valid_max`; infinite where they are not given."""
        pair = self._attributes.get("valid_range")
        if pair is None:
            return self._end("valid_min", -math.inf), self._end("valid_max", math.inf)
        for key in ("valid_min", "valid_max"):
            if key in self._attributes:
                raise self.refusal(key, "beside a valid_range")
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(map(_is_number, pair)):
            raise self.refusal("valid_range", "which is no pair of numbers")
        return pair[0], pair[1]

    def _end(self, key: str, default: float) -> Number:
        value = _lone(self._attributes.get(key, default))
        if not _is_number(value):
            raise self.refusal(key, "which is no number")
        number: Number = value
        return number

    def _rounded(self, limit: Number) -> Number | None:
        """A limit of floating-point entries, as one of them would hold it."""
        return None if math.isinf(limit) else held(limit, self._dtype)

    def _whole(self, limit: Number, inwards: Callable[[float], int]) -> Number:
        """A limit of integers: a whole number, of bits as `held` reads them, or infinite."""
        if math.isinf(limit):
            return limit
        whole = round(limit)
        if abs(limit - whole) > _NEARLY * max(1.0, abs(limit)):
            whole = inwards(limit)
        bits = self.held(whole)
        return whole if bits is None else bits


def _lone(value: Any) -> Any:
    """The only value of a list, or what is no such list."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return value[0]
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
