"""How the attributes of a Zarr array say that its entries are packed, as xarray writes them.

CF conventions 1.11, sections 2.5.1 (missing data) and 8.1 (packed data).
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import Any

import zarr
from zarr.core.metadata import ArrayV2Metadata

from bigsvd.errors import MetadataError
from bigsvd.facts import Packing
from bigsvd.request import plain
from bigsvd.sentinels import Number, held

_REMEDY = "open it by xarray and hand over its DataArray, or use decode=False for entries as they are stored"
_DIMENSIONS = "_ARRAY_DIMENSIONS"  # the attribute that shows that xarray wrote an array of format 2
_KINDS = {("true", "i"): "unsigned", ("false", "u"): "signed"}  # by `_Unsigned` and the kind of the dtype


def packing_of(name: str, array: zarr.Array[Any]) -> Packing:
    """The packing that `scale_factor`, `add_offset`, `_FillValue` and `missing_value` describe.

    In format 2 xarray stores `_FillValue` as the array's own fill value instead. There a 0 counts only if the
    array is packed: 0 is Zarr's default, and other programs write it without meaning that zeros are missing.

    Raises:
        MetadataError: an attribute has a value that is not understood here.

    """
    attributes = array.attrs.asdict()
    unsigned = str(attributes.get("_Unsigned", "")).lower()
    kind = _KINDS.get((unsigned, array.dtype.kind))
    if kind is not None:
        raise MetadataError(f"{name} holds {kind} integers as {array.dtype} (_Unsigned)", _REMEDY)
    scale = _number(name, attributes, "scale_factor", 1.0)
    offset = _number(name, attributes, "add_offset", 0.0)
    fills = [*_fills(name, array, attributes), *_own_fill(array, attributes)]
    known = [held(value, array.dtype) for value in fills if not math.isnan(value)]
    return Packing(scale, offset, tuple(dict.fromkeys(value for value in known if value is not None)))


def _own_fill(array: zarr.Array[Any], attributes: dict[str, Any]) -> list[Number]:
    """The array's own fill value in a list, if xarray would take it for `_FillValue`."""
    own = plain(array.metadata.fill_value)
    if not isinstance(array.metadata, ArrayV2Metadata) or _DIMENSIONS not in attributes or own is None:
        return []
    packed = "scale_factor" in attributes or "add_offset" in attributes
    if own == 0 and not packed:
        return []
    return [own]


def _number(name: str, attributes: dict[str, Any], key: str, default: float) -> float:
    """The number of one attribute, which may stand alone or as the only one in a list."""
    value = attributes.get(key, default)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise MetadataError(f"{name} has the attribute {key}={value!r}, which is no number", _REMEDY)
    if key == "scale_factor" and value == 0:
        raise MetadataError(
            f"{name} has the attribute scale_factor=0, which makes all entries equal", _REMEDY
        )
    return float(value)


def _fills(name: str, array: zarr.Array[Any], attributes: dict[str, Any]) -> list[Number]:
    found: list[Number] = []
    for key in ("_FillValue", "missing_value"):
        values = attributes.get(key, [])
        if not isinstance(values, list):
            values = [values]
        found += [_fill(name, array, key, value) for value in values]
    return found


def _fill(name: str, array: zarr.Array[Any], key: str, value: Any) -> Number:
    """One value that means missing; in format 3 xarray writes a float as base64 of its eight bytes."""
    if value is None:
        return math.nan
    if isinstance(value, str) and array.dtype.kind == "f":
        try:
            return float(struct.unpack("<d", base64.standard_b64decode(value))[0])
        except (binascii.Error, struct.error):
            if value in ("NaN", "Infinity", "-Infinity"):
                return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MetadataError(f"{name} has the attribute {key}={value!r}, which is no number", _REMEDY)
    return value
