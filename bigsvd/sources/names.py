"""What lines of a stored matrix are called: coordinates beside it, as of xarray, or indices of AnnData."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigsvd.facts import SourceFacts

_TABLES = ("obs", "var")  # of AnnData, by the axis of its matrix
_INDEX = "_index"  # the attribute that names a table's index
_DIGITS = ".6g"  # of a number that is a name: the same in float32 and float64


def names_along(facts: SourceFacts, axis: int) -> dict[str, list[str]]:
    """The names of the lines along an axis of a Zarr array on this machine, by dimension; those that it has.

    Where axes were stacked there are names for each of these.
    """
    folder = Path(facts.name)
    if not folder.is_dir():
        return {}
    lengths = facts.stacked_shape(axis)
    dims = dict(zip(facts.stacked_dims(axis), lengths, strict=False))
    places = {dim: folder.parent / dim for dim in dims if dim}
    table = _TABLES[axis]
    for index in _index_of(folder.parents, table):
        places[table], dims[table] = index, facts.shape[axis]
    found = {dim: _texts(place, dims[dim]) for dim, place in places.items()}
    return {dim: texts for dim, texts in found.items() if texts}


def _index_of(folders: Any, table: str) -> Iterator[Path]:
    """Where the index of a table of AnnData lies: beside X, or beside the folder of a layer."""
    for folder in [*folders][:2]:
        if (folder / table).is_dir():
            index = _attributes(folder / table).get(_INDEX)
            if isinstance(index, str):
                yield folder / table / index
                return


def _attributes(folder: Path) -> dict[str, Any]:
    try:
        return dict(zarr.open_group(folder, mode="r").attrs)
    except Exception:  # noqa: BLE001 - garbage metadata raises anything; what has none has no names
        return {}


def _texts(place: Path, length: int) -> list[str]:
    """The entries of an array of one axis as texts; none where it is no such, or of another length."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texts, which Zarr 3 has no final form of
            array = zarr.open_array(place, mode="r")
        values = np.asarray(array[:]) if array.shape == (length,) else np.zeros(0)
    except Exception:  # noqa: BLE001 - no names are no fault of the matrix
        return []
    if values.dtype.kind == "f":
        return [format(value, _DIGITS) for value in values.tolist()]
    return [str(value) for value in values.tolist()]
