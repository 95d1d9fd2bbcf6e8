"""What a path leads to: a folder, or a file of a kind that its first bytes tell, and a place inside it.

A place inside a file is written behind its name, as in a folder: ``a.zarr.zip/t2m``, ``era5.nc/surface/t2m``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bigsvd.errors import SourceError, StorageError

Kind = Literal["folder", "zip", "npy", "hdf5", "bed"]

_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # an empty one
    (b"\x93NUMPY", "npy"),
    (b"l\x1b\x01", "bed"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
)
_OF_ONE_ARRAY = ("npy", "bed")
_NETCDF_3 = b"CDF"
# HDF5's signature may stand behind a block of the user's, at any power of two from here on (Format
# Specification 3.0, section II.A).
_USER_BLOCK = 512
_SUFFIXES: dict[str, Kind] = {
    ".zip": "zip", ".npy": "npy", ".bed": "bed", ".h5": "hdf5", ".hdf5": "hdf5", ".nc": "hdf5",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A file or folder, what it is, and the path inside it; empty for all of it."""

    path: Path
    kind: Kind
    inner: str = ""


def place_of(name: str) -> Place:
    """Where a path leads.

    Raises:
        SourceError: to nothing, or to a file of another kind.
        StorageError: the file cannot be read.

    """
    path = Path(name)
    if path.is_dir():
        return Place(path, "folder")
    for file in (path, *path.parents):
        if file.is_file():
            return _placed(file, path.relative_to(file).as_posix().removeprefix("."))
    raise SourceError(f"{name} does not exist", "check the path")


def _placed(file: Path, inner: str) -> Place:
    kind = _kind_of(file)
    if inner and kind in _OF_ONE_ARRAY:
        raise SourceError(f"{file} is an .{kind} file, which holds no {inner!r}", "give the file")
    return Place(file, kind, inner)


def _kind_of(file: Path) -> Kind:
    """The kind of a file, by its first bytes; by its name where it is cut or damaged."""
    try:
        with file.open("rb") as opened:
            begin = opened.read(8)
            for signature, kind in _SIGNATURES:
                if begin.startswith(signature):
                    return kind
            opened.seek(_USER_BLOCK)
            if opened.read(8) == _SIGNATURES[-1][0]:
                return "hdf5"
    except OSError as error:
        raise StorageError(f"{file} cannot be read ({error})", "grant access to it") from error
    if begin.startswith(_NETCDF_3):
        raise SourceError(
            f"{file} is a netCDF file of the classic format", "convert it, such as by nccopy -k nc4 OLD NEW"
        )
    known = _SUFFIXES.get(file.suffix.lower())
    if known is None:
        raise SourceError(
            f"{file} is a file, not a Zarr array",
            "give the folder or .zip of a Zarr array, an .npy or .bed file, or "
            " a dataset in an HDF5 or netCDF-4 file",
        )
    raise SourceError(f"{file} does not begin as a {file.suffix.lower()} file does", "copy it again")
