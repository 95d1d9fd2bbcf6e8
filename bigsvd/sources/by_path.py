"""Opens what lies at a path of this machine: Zarr in a folder or a Zip file, .npy, HDF5 and netCDF-4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from zarr.storage import LocalStore

from bigsvd.sources.base import Reading, Source
from bigsvd.sources.bed import BedSource
from bigsvd.sources.files import Place, place_of
from bigsvd.sources.hdf5 import Hdf5Source, numbers_of_hdf5
from bigsvd.sources.npy import NpySource
from bigsvd.sources.sizes import check_size
from bigsvd.sources.sparse_group import open_stored
from bigsvd.sources.zarr_dense import numbers_of_zarr
from bigsvd.sources.zipped import ZippedStore


def open_local(name: str, how: Reading) -> Source:
    """The source at a path; see `place_of` for how a place inside a file is written.

    Raises:
        SourceError: nothing is there, something else is, or several matrices could be meant.
        MetadataError, ShapeError, DtypeError: the array is no matrix of real numbers.

    """
    place = place_of(name)
    if place.kind == "npy":
        return NpySource(str(place.path), how.axes)
    if place.kind == "bed":
        return BedSource(str(place.path))
    if place.kind == "hdf5":
        return Hdf5Source(str(place.path), place.inner, decode=how.decode, axes=how.axes)
    if place.kind == "zip":
        zipped = ZippedStore(place.path.resolve())
        return open_stored(name, zipped, _inside(zipped, place), how)
    store = LocalStore(place.path.resolve(), read_only=True)
    return open_stored(name, store, "", how)


def leads_somewhere(name: str) -> bool:
    """Whether something is at a path, or a file that may hold it."""
    path = Path(name)
    return path.exists() or any(parent.is_file() for parent in path.parents)


def numbers_at(name: str, most: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """All entries of an array at a path, decoded, gaps NaN; the names of its axes if they have any.

    `RequestError` where there are more than `most`. Other errors are those of `open_local`, and whatever
    NumPy raises of an .npy file.
    """
    place = place_of(name)
    if place.kind == "npy":
        check_size(name, _shape_of_npy(place.path), most)
        return np.asarray(np.load(place.path, allow_pickle=False)), ()
    if place.kind == "hdf5":
        return numbers_of_hdf5(str(place.path), place.inner, most)
    if place.kind == "zip":
        zipped = ZippedStore(place.path.resolve())
        return numbers_of_zarr(name, zipped, _inside(zipped, place), most)
    return numbers_of_zarr(name, LocalStore(place.path.resolve(), read_only=True), "", most)


def _shape_of_npy(file: Path) -> tuple[int, ...]:
    """As its header says."""
    with file.open("rb") as opened:
        first = np.lib.format.read_magic(opened) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        return read(opened)[0]


def _inside(zipped: ZippedStore, place: Place) -> str:
    """Where in a Zip file a place is."""
    return f"{zipped.root}/{place.inner}".strip("/")
