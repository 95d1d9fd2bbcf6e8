"""Opens any input as a `Source`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore

from bigsvd.errors import SourceError
from bigsvd.sources.arrays import ArraySource, ForeignSource, MemmapSource, XarrayMatrix, maps_whole_file
from bigsvd.sources.base import Source
from bigsvd.sources.dask_array import DaskSource
from bigsvd.sources.door import library, not_readable, refuse_what_is_no_array
from bigsvd.sources.groups import group_refusal
from bigsvd.sources.zarr_dense import ZarrSource


def open_source(
    data: Any, *, missing_chunks: str = "error", decode: bool = True, missing: str = "none"
) -> Source:
    """A `Source` for a path, URL, Zarr array or store, NumPy, xarray or Dask array.

    `decode`: whether the CF attributes of a Zarr array are applied, see `packing_of`. `missing` is the
    request's: unless it is "none", masked entries are read as NaN.

    Raises:
        SourceError: nothing is there, or a group instead of an array.
        MetadataError, ShapeError, DtypeError: what is there is no real matrix.

    """
    fill = missing_chunks == "fill"
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, Path)):
        return _open_path(str(data), fill, decode)
    if isinstance(data, zarr.Array):
        return ZarrSource(str(data.store_path), data.store, data.path, fill_missing=fill, decode=decode)
    if isinstance(data, Store):
        return ZarrSource(str(data), data, "", fill_missing=fill, decode=decode)
    if isinstance(data, zarr.Group):
        raise group_refusal(str(data.store_path), data.store, data.path) or not_readable(data)
    return _open_array_like(data, missing)


def _open_array_like(data: Any, missing: str) -> Source:
    """An array of another library, known by the module of its type, so that none of them is imported here."""
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
    """A DataArray or Variable: what it wraps, or itself where that is read lazily, by classes of xarray."""
    inner = getattr(getattr(data, "variable", data), "_data", None)
    in_memory = getattr(getattr(data, "variable", data), "_in_memory", False)
    if in_memory or (inner is not None and library(inner) != "xarray"):
        return _open_array_like(data.data, missing)
    return ForeignSource(XarrayMatrix(data), missing)


def _open_path(name: str, fill: bool, decode: bool) -> Source:
    if "://" in name:
        from zarr.storage import FsspecStore  # noqa: PLC0415 - fsspec is in the cloud extra

        try:
            return ZarrSource(
                name, FsspecStore.from_url(name, read_only=True), "", fill_missing=fill, decode=decode
            )
        except (ImportError, ValueError) as error:
            raise SourceError(
                f"{name} cannot be opened ({error})", "install the cloud extra, check the URL"
            ) from error
    path = Path(name)
    if not path.exists():
        raise SourceError(f"{name} does not exist", "check the path")
    if not path.is_dir():
        raise SourceError(f"{name} is a file, not a Zarr array", "give the folder of a Zarr array")
    return ZarrSource(name, LocalStore(path.resolve(), read_only=True), "", fill_missing=fill, decode=decode)
