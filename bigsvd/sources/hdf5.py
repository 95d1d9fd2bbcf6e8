"""A dataset of an HDF5 or netCDF-4 file as a source, read through h5py, one chunk after another.

Several processes can read a file at once. In one process the threads of h5py take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.counters import Counters
from bigsvd.errors import ChunkCorruptError, SourceError, StorageError, first_line
from bigsvd.facts import AS_STORED, Packing, SourceFacts
from bigsvd.sources.base import AS_A_MATRIX, Axes, Source, hashed, line_chunks, stamp_of
from bigsvd.sources.members import Member, Members
from bigsvd.sources.packing import decoded, dtype_of, packing_of
from bigsvd.sources.sizes import check_size
from bigsvd.sources.stacking import stacked

if TYPE_CHECKING:
    import h5py

_CACHE_BYTES = 2**20  # of decoded chunks, for each file; panels are whole chunks, which are read once


class Hdf5Source(Source):
    """A matrix in an HDF5 file, its CF attributes decoded as those of a Zarr array.

    `inner` is the path of the dataset in the file; empty where it is the only matrix.

    Raises:
        SourceError: h5py is not installed, the file is cut, nothing or something else is there, or a filter
            is not available.
        MetadataError, ShapeError, DtypeError: the dataset is no matrix of real numbers.

    """

    def __init__(self, path: str, inner: str = "", *, decode: bool = True, axes: Axes = AS_A_MATRIX) -> None:
        self._arguments = (path, inner, decode, axes)
        self.counters = Counters()
        self._dataset = found = _dataset(path, inner)
        name, attributes, dims = f"{path}{found.name}", _attributes(found), _dimensions(found)
        self._stacking = stacked(name, found.shape, found.dtype, axes, dims)
        shape = self._stacking.shape
        _check_filters(name, found)
        self._stored = found.dtype.newbyteorder("=")
        self._dtype, packing = _decoding(name, attributes, self._stored, decode=decode)
        unit = piece = line_chunks(shape, found.dtype.itemsize)
        if found.chunks:
            unit, piece = self._stacking.unit(found.chunks), self._stacking.piece(found.chunks)
        chunk_bytes = piece[0] * piece[1] * found.dtype.itemsize
        self.facts = SourceFacts(
            name=name,
            shape=shape,
            dtype=self._dtype.name,
            chunks=unit,
            fingerprint=hashed(f"{found.dtype.str} {found.shape} {piece} {sorted(attributes.items())}"),
            reader="direct" if self._stacking.keeps_order else "foreign",
            stored_bytes=chunk_bytes,
            piece=piece,
            spare_bytes=chunk_bytes + _CACHE_BYTES,
            packing=packing,
            dims=dims,
            array_shape=() if self._stacking.is_matrix else self._stacking.lengths,
            array_axis=self._stacking.axis,
            codec=found.compression or "",
        )

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return _reopened, self._arguments

    @property
    def places(self) -> tuple[Path, ...]:
        """The file, and others that it says its entries lie in."""
        file = Path(self._arguments[0])
        return (file, *(file.parent / name for name in _other_files(self._dataset)))

    def stamp(self, rows: slice, cols: slice) -> Hashable:
        """See `Source.stamp`: that of the file."""
        del rows, cols
        return stamp_of(Path(self._arguments[0]))

    def read(self, rows: slice, cols: slice, space: ReadBuffers | None = None) -> np.ndarray:
        """See `Source.read`."""
        box, memory = self._stacking.box(rows, cols), space or ReadBuffers()
        target, rectangle = self._stacking.room(
            rows, cols, lambda shape: memory.panel.take(shape, self._stored)
        )
        try:
            if self._stacking.keeps_order:
                self._dataset.read_direct(target, source_sel=box)
            else:
                target[...] = self._dataset[box]
        except (OSError, RuntimeError) as error:
            where = f"rows {rows.start}:{rows.stop}, columns {cols.start}:{cols.stop} of {self.facts.name}"
            if getattr(error, "errno", None):
                raise StorageError(
                    f"reading {where} failed ({error})", "check the disk and run again"
                ) from error
            raise ChunkCorruptError(
                f"{where} cannot be decoded ({first_line(error)})", "restore that file"
            ) from error
        return rectangle.view(self._dtype)


def _decoding(
    name: str, attributes: dict[str, Any], stored: np.dtype[Any], *, decode: bool
) -> tuple[np.dtype[Any], Packing]:
    """The type as which entries are read, and what they stand for."""
    if not decode:
        return stored, AS_STORED
    return dtype_of(attributes, stored), packing_of(name, attributes, stored, ())


def numbers_of_hdf5(path: str, inner: str, most: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """All entries of a dataset, decoded, gaps NaN; the names of its axes.

    `RequestError` where there are more than `most`. Other errors: see `Hdf5Source`.
    """
    found = _dataset(path, inner)
    name, stored = f"{path}{found.name}", found.dtype.newbyteorder("=")
    check_size(name, found.shape, most)
    _check_filters(name, found)
    dtype, packing = _decoding(name, _attributes(found), stored, decode=True)
    return decoded(np.asarray(found[...]).astype(stored).view(dtype), packing), _dimensions(found)


def reopenable(data: Any) -> bool:
    """Whether an object of h5py is of a file that can be opened again to the same content."""
    return bool(data.file.mode == "r" and Path(data.file.filename).is_file())


def _reopened(path: str, inner: str, decode: bool, axes: Axes) -> Source:
    return Hdf5Source(path, inner, decode=decode, axes=axes)


def _dataset(path: str, inner: str) -> h5py.Dataset:
    """The dataset at `inner`, or the only matrix of the file or group that is there."""
    file = _file(path)
    if inner and inner not in file:
        raise _members(file).refusal(path, f"an HDF5 file without {inner!r}, but")
    found = file[inner or "/"]
    if hasattr(found, "shape"):
        return found
    members = _members(found)
    if not members.only:
        raise members.refusal(f"{path}{found.name}".rstrip("/"), "an HDF5 group")
    return found[members.only]


def _other_files(dataset: h5py.Dataset) -> list[str]:
    """The files that hold entries of a dataset: raw ones, those of a virtual dataset, that of a link."""
    virtual = dataset.virtual_sources() if dataset.is_virtual else ()
    found = [*(part[0] for part in dataset.external or ()), *(part.file_name for part in virtual)]
    return [dataset.file.filename, *(_text(name) for name in found if name != ".")]


def _file(path: str) -> h5py.File:
    try:
        import h5py  # noqa: PLC0415 - in the hdf5 extra
    except ImportError as error:
        raise SourceError(
            f"{path} is an HDF5 file, which h5py reads ({error})", "install the hdf5 extra, or h5py"
        ) from error
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES, locking="best-effort")
    except PermissionError as error:
        raise StorageError(f"{path} may not be read ({error})", "grant access to it") from error
    except OSError as error:
        raise SourceError(
            f"{path} cannot be opened as HDF5 ({first_line(error)})",
            "copy it again, or close whoever writes it",
        ) from error


def _members(group: h5py.Group) -> Members:
    """The datasets in a group and below it; coordinates of netCDF have one axis, and are none of them."""
    found: list[Member] = []

    def look(path: str, item: Any) -> None:
        if hasattr(item, "shape") and item.shape is not None:
            bounds = _attributes(item).get("bounds", "")
            found.append(Member(path, tuple(item.shape), str(item.dtype), bounds=str(bounds)))

    group.visititems(look)
    return Members.of(found)


def _dimensions(dataset: h5py.Dataset) -> tuple[str, ...]:
    """The names of the axes: their labels, or those of the scales that netCDF attaches; empty if none."""
    scales = [[scale.name.rpartition("/")[2] for scale in axis.values()] for axis in dataset.dims]
    names = tuple(axis.label or "".join(scale[:1]) for axis, scale in zip(dataset.dims, scales, strict=True))
    return names if any(names) else ()


def _attributes(dataset: h5py.Dataset) -> dict[str, Any]:
    """The attributes as Python's values; references to other datasets, such as dimension scales, left out."""
    found = {}
    for name, value in dataset.attrs.items():
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufSU":
            found[name] = value.tolist()
        elif isinstance(value, (str, bytes)):
            found[name] = value
    return {name: _text(value) for name, value in found.items()}


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _check_filters(name: str, dataset: h5py.Dataset) -> None:
    """`SourceError` for a compression that this installation of HDF5 cannot undo."""
    from h5py import h5z  # noqa: PLC0415 - in the hdf5 extra

    settings = dataset.id.get_create_plist()
    for number in range(settings.get_nfilters()):
        code, _, _, label = settings.get_filter(number)
        if not h5z.filter_avail(code):
            raise SourceError(
                f"{name} is stored with the filter {_text(label) or code}, which is not installed",
                "install hdf5plugin and set HDF5_PLUGIN_PATH to its hdf5plugin.PLUGIN_PATH",
            )
