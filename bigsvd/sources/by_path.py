"""Opens what lies at a path of this machine: Zarr in a folder or a Zip file, .npy, HDF5 and netCDF-4."""

from __future__ import annotations

from zarr.storage import LocalStore

from bigsvd.sources.base import Axes, Source
from bigsvd.sources.files import place_of
from bigsvd.sources.hdf5 import Hdf5Source
from bigsvd.sources.npy import NpySource
from bigsvd.sources.zarr_dense import ZarrSource
from bigsvd.sources.zipped import ZippedStore


def open_local(name: str, *, fill_missing: bool, decode: bool, axes: Axes) -> Source:
    """The source at a path; see `place_of` for how a place inside a file is written.

    Raises:
        SourceError: nothing is there, something else is, or several matrices could be meant.
        MetadataError, ShapeError, DtypeError: the array is no matrix of real numbers.

    """
    place = place_of(name)
    if place.kind == "npy":
        return NpySource(str(place.path), axes)
    if place.kind == "hdf5":
        return Hdf5Source(str(place.path), place.inner, decode=decode, axes=axes)
    if place.kind == "zip":
        zipped = ZippedStore(place.path.resolve())
        inner = f"{zipped.root}/{place.inner}".strip("/")
        return ZarrSource(name, zipped, inner, fill_missing=fill_missing, decode=decode, axes=axes)
    store = LocalStore(place.path.resolve(), read_only=True)
    return ZarrSource(name, store, "", fill_missing=fill_missing, decode=decode, axes=axes)
