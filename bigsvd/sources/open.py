"""Opens any input as a `Source`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from bigsvd.errors import RequestError
from bigsvd.sources.arrays import ArraySource, ForeignSource, MemmapSource, XarrayMatrix, maps_whole_file
from bigsvd.sources.base import Source
from bigsvd.sources.by_path import open_local
from bigsvd.sources.dask_array import DaskSource
from bigsvd.sources.door import library, not_readable, refuse_what_is_no_array
from bigsvd.sources.hdf5 import Hdf5Source, reopenable
from bigsvd.sources.oriented import oriented
from bigsvd.sources.urls import open_url
from bigsvd.sources.zarr_dense import ZarrSource
from bigsvd.units import source_name, without_credentials


def open_source(
    data: Any,
    *,
    missing_chunks: str = "error",
    decode: bool = True,
    missing: str = "none",
    samples: str = "rows",
    storage_options: Mapping[str, Any] | None = None,
) -> Source:
    """A `Source` for a path, URL, Zarr array, group or store, h5py dataset, NumPy, xarray or Dask array.

    `decode` says whether the CF attributes of a Zarr array or dataset are applied, see `packing_of`.
    `missing` and `samples` are the request's options: unless `missing` is "none", masked entries are read as
    NaN; `samples` names the axis that numbers the samples. `storage_options` are for the store of a URL, see
    `open_url`; they may be secret, and are stored nowhere.

    Raises:
        SourceError: nothing is there, or a group instead of an array.
        MetadataError, ShapeError, DtypeError: the array is no matrix of real numbers.
        RequestError: it has no axis of the name `samples`.

    """
    fill = missing_chunks == "fill"
    return oriented(_opened(data, fill, decode, missing, storage_options), samples)


def _opened(
    data: Any, fill: bool, decode: bool, missing: str, storage_options: Mapping[str, Any] | None
) -> Source:
    """The source as it lies."""
    if storage_options and not _is_url(data):
        raise RequestError("storage options are for a URL, which this source is not", "drop them")
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, Path)):
        return _open_path(str(data), fill, decode, storage_options or {})
    if isinstance(data, (zarr.Array, zarr.Group)):
        name = without_credentials(str(data.store_path))
        return ZarrSource(name, data.store, data.path, fill_missing=fill, decode=decode)
    if isinstance(data, Store):
        return ZarrSource(without_credentials(str(data)), data, "", fill_missing=fill, decode=decode)
    if library(data) == "h5py" and reopenable(data):
        return Hdf5Source(data.file.filename, data.name, decode=decode)
    return _open_array_like(data, missing)


def _open_array_like(data: Any, missing: str) -> Source:
    """An array of another library, recognised by its type's module, so that the library is not imported."""
    refuse_what_is_no_array(data)
    if library(data) == "xarray":
        return _open_xarray(data, missing)
    if library(data) == "dask":
        return DaskSource(data, missing)
    if maps_whole_file(data):
        return MemmapSource(data, missing)
    if isinstance(data, np.ndarray):
        return ArraySource(data, missing)
    if all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")):
        return ForeignSource(data, missing)
    raise not_readable(data)


def _open_xarray(data: Any, missing: str) -> Source:
    """A DataArray or Variable: the array that it wraps, or itself if classes of xarray read it lazily."""
    inner = getattr(getattr(data, "variable", data), "_data", None)
    in_memory = getattr(getattr(data, "variable", data), "_in_memory", False)
    if in_memory or (inner is not None and library(inner) != "xarray"):
        return _open_array_like(data.data, missing)
    return ForeignSource(XarrayMatrix(data), missing)


def _is_url(data: Any) -> bool:
    return isinstance(data, str) and "://" in data and not data.startswith("file://")


def _open_path(name: str, fill: bool, decode: bool, options: Mapping[str, Any]) -> Source:
    if _is_url(name):
        store = open_url(name, options)
        return ZarrSource(store.name, store, "", fill_missing=fill, decode=decode)
    return open_local(source_name(name), fill_missing=fill, decode=decode)
