"""How the attributes and the fill value of a Zarr array say what its entries stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from zarr.core.metadata import ArrayV2Metadata

from bigsvd.facts import AS_STORED, Packing
from bigsvd.sources.packing import dtype_of, packing_of

_DIMENSIONS = "_ARRAY_DIMENSIONS"  # the attribute that shows that xarray wrote an array of format 2


def packing_of_zarr(
    name: str, array: zarr.Array[Any], *, decode: bool = True
) -> tuple[np.dtype[Any], Packing]:
    """The type as which entries are to be read, in native byte order, and what they stand for.

    Raises:
        MetadataError: an attribute has a value that is not understood.

    """
    stored = array.dtype.newbyteorder("=")
    if not decode:
        return stored, AS_STORED
    attributes = array.attrs.asdict()
    return dtype_of(attributes, stored), packing_of(name, attributes, stored, _own_fill(array, attributes))


def _own_fill(array: zarr.Array[Any], attributes: dict[str, Any]) -> list[int | float]:
    """The array's own fill value in a list, if it is what xarray has made of `_FillValue`, as in format 2.

    There a 0 counts only if the array is packed: 0 is Zarr's default, and other programs write it without
    meaning that zeros are missing.
    """
    own = array.metadata.fill_value
    if not isinstance(array.metadata, ArrayV2Metadata) or _DIMENSIONS not in attributes or own is None:
        return []
    own = np.asarray(own).item()
    packed = "scale_factor" in attributes or "add_offset" in attributes
    if own == 0 and not packed:
        return []
    return [own]


def dimensions_of(array: zarr.Array[Any]) -> tuple[str, ...]:
    """The names of an array's axes, from its metadata in format 3 or from xarray's attribute; empty if none.

    An axis that has no name is called by the empty text.
    """
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(_DIMENSIONS)
    if not isinstance(names, (list, tuple)) or len(names) != len(array.shape):
        return ()
    return tuple(name if isinstance(name, str) else "" for name in names)
