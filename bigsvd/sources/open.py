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
from bigsvd.sources.base import Axes, Reading, Source
from bigsvd.sources.blocks import is_sparse
from bigsvd.sources.by_path import open_local
from bigsvd.sources.dask_array import DaskSource
from bigsvd.sources.door import library, not_readable, refuse_what_is_no_array
from bigsvd.sources.hdf5 import Hdf5Source, reopenable
from bigsvd.sources.oriented import oriented
from bigsvd.sources.selected import selected
from bigsvd.sources.sparse_group import open_stored
from bigsvd.sources.summed import SummedSource
from bigsvd.sources.urls import open_url
from bigsvd.units import source_name, without_credentials

# Options of a request that say how entries are read, wherever samples and features lie.
READING = ("missing", "decode", "missing_chunks", "storage_options")


def open_source(
    data: Any,
    *,
    missing_chunks: str = "error",
    decode: bool = True,
    missing: str = "none",
    samples: str = "rows",
    dim: str | int | None = None,
    sum: str | int | None = None,  # noqa: A002 - the contract's word
    rows: Any = None,
    cols: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Source:
    """A `Source` for a path, URL, Zarr array, group or store, h5py dataset, NumPy, xarray or Dask array.

    `decode` says whether the CF attributes of a Zarr array or dataset are applied, see `packing_of`.
    Others are options of the request too: unless `missing` is "none", masked entries are read as NaN;
    `samples`, `dim` and `sum` say what the axes are, see `Axes`, and `rows` and `cols` which of the
    matrix are taken, see `selected`. `storage_options` are for stores of URLs, see `open_url`; they may be
    secret, and are stored nowhere.

    Raises:
        SourceError: nothing is there, or a group instead of an array.
        MetadataError, ShapeError, DtypeError: the array is no matrix of real numbers.
        RequestError: it has no axis of that name.

    """
    how = Reading(Axes(samples, dim, sum), decode, missing, missing_chunks == "fill")
    if isinstance(data, Source):
        opened = data
    else:
        opened = _opened(data, how, storage_options)
        opened = opened if sum is None else SummedSource(opened)
        _refuse_alleles_one_by_one(opened, how)
    return oriented(selected(opened, rows, cols, storage_options), how.axes)


def _refuse_alleles_one_by_one(source: Source, how: Reading) -> None:
    """`RequestError` for alleles of genotypes that are stacked, where nothing says that -1 is no number."""
    facts = source.facts
    if facts.stacks_alleles and how.missing == "none":
        raise RequestError(
            f"{facts.name} has the alleles of genotypes along its last axis, {facts.dims[-1]}, and missing "
            f"ones of {facts.dtype} are negative numbers",
            f"sum them to dosages by sum={facts.dims[-1]}, or decompose each by missing='mean', "
            "missing_value=-1",
        )


def _opened(data: Any, how: Reading, storage_options: Mapping[str, Any] | None) -> Source:
    """The source as it lies, stacked to a matrix."""
    if storage_options and not _is_url(data):
        raise RequestError("storage options are for a URL, which this source is not", "drop them")
    if isinstance(data, (str, Path)):
        return _open_path(str(data), how, storage_options or {})
    if isinstance(data, (zarr.Array, zarr.Group)):
        return open_stored(without_credentials(str(data.store_path)), data.store, data.path, how)
    if isinstance(data, Store):
        return open_stored(without_credentials(str(data)), data, "", how)
    if library(data) == "h5py" and reopenable(data):
        return Hdf5Source(data.file.filename, data.name, decode=how.decode, axes=how.axes)
    return _open_array_like(data, how)


def _open_array_like(data: Any, how: Reading, dims: tuple[str, ...] = ()) -> Source:
    """An array of another library, recognised by its type's module, so that the library is not imported."""
    refuse_what_is_no_array(data)
    if library(data) == "xarray":
        return _open_xarray(data, how)
    if library(data) == "dask":
        return DaskSource(data, how.missing, how.axes, dims)
    if maps_whole_file(data):
        return MemmapSource(data, how.missing, how.axes, dims)
    if isinstance(data, np.ndarray):
        return ArraySource(data, how.missing, how.axes, dims)
    if is_sparse(data):
        sliced = data if data.format in ("csr", "csc") else data.tocsr()
        return ForeignSource(sliced, how.missing, how.axes, dims)
    if all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")):
        return ForeignSource(data, how.missing, how.axes, dims)
    raise not_readable(data)


def _open_xarray(data: Any, how: Reading) -> Source:
    """A DataArray or Variable: the array that it wraps, or itself if classes of xarray read it lazily."""
    dims = tuple(map(str, data.dims))
    inner = getattr(getattr(data, "variable", data), "_data", None)
    in_memory = getattr(getattr(data, "variable", data), "_in_memory", False)
    if in_memory or (inner is not None and library(inner) != "xarray"):
        return _open_array_like(data.data, how, dims)
    return ForeignSource(XarrayMatrix(data), how.missing, how.axes, dims)


def _is_url(data: Any) -> bool:
    return isinstance(data, str) and "://" in data and not data.startswith("file://")


def _open_path(name: str, how: Reading, options: Mapping[str, Any]) -> Source:
    if _is_url(name):
        store = open_url(name, options)
        return open_stored(store.name, store, "", how)
    return open_local(source_name(name), how)
