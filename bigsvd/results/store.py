"""The factor store on disk: sealed by its manifest, opened, every byte of it under a checksum.

A Zarr v3 group with `U` (m, k), `s` (k,), `Vt` (k, n), optional `mean`, `scale`, `weights` (n,),
`row_weights` (m,) and, of predicted factors, `uncertainty` (m,), crc32c on every chunk. The group's
attributes hold request, plan, certificate, provenance and the manifest; they are written last, and a group
without them is not a factor store. Students (`distill.student`) are sealed and opened alike: see `Kind`.
"""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.storage import LocalStore

from bigsvd.chunks.guard import GuardStore
from bigsvd.errors import BigsvdError, FactorStoreError, StorageError, first_line
from bigsvd.nodes import METADATA, PlainArray, open_array
from bigsvd.paths import resolved
from bigsvd.results.folders import (
    ATTRIBUTE,
    FACTORS,
    KIND,
    REPLACED,
    STORE_ARRAYS,
    STUDENT,
    attributes_of,
    kind_of,
    metadata_of,
    scratch_path,
)
from bigsvd.scratch import RESULT, Scratch, storage_errors

FORMAT_VERSION = 3  # of what older readers must not take for a certified SVD
_WITH_WEIGHTS = 2
_WITHOUT_WEIGHTS = 1  # the format of a store that has none, which older readers know too
FOLDER = RESULT
_CHECKSUM = "crc32c"
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Kind:
    """What a sealed store holds.

    Attributes:
        name: in its attributes. noun: how a message calls it. formats: those that this version reads.
        remedy: what to give instead of anything else.

    """

    name: str
    noun: str
    formats: tuple[int, ...]
    remedy: str

    @property
    def read(self) -> str:
        """The formats that this version reads, in words."""
        *others, last = map(str, self.formats)
        return f"formats {', '.join(others)} and {last}" if others else f"format {last}"

    def of(self, found: str) -> str:
        """What a store that was found to hold this is called."""
        return {FACTORS: "a factor store", STUDENT: "a student"}.get(found, f"a store of {found!r}")


FACTOR_STORE = Kind(
    FACTORS, "factor store", (_WITHOUT_WEIGHTS, _WITH_WEIGHTS, FORMAT_VERSION), "give the OUT of `bigsvd svd`"
)


def chunk_lines(k: int, length: int, dtype: str) -> int:
    """Rows of U (columns of Vt) in one chunk: about a megabyte, so that a region touches few chunks."""
    return max(1, min(length, _CHUNK_BYTES // (k * np.dtype(dtype).itemsize)))


@contextmanager
def damage_errors(path: Path) -> Iterator[None]:
    """Turn what a checksum codec raises into `FactorStoreError`."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise FactorStoreError(f"{path} is damaged ({error})", "restore it or compute it again") from error


@contextmanager
def opening_errors(path: str | Path) -> Iterator[None]:
    """Turn what a damaged or unreadable store raises when it is opened into an error that names it."""
    try:
        yield
    except FactorStoreError:
        raise
    except Exception as error:  # damaged metadata raises anything from JSONDecodeError to KeyError
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> BigsvdError:
    """What is said of a store that raised `error` when it was read: the disk's fault, or the store's."""
    by_system = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR)
    if by_system:
        return StorageError(f"{path} cannot be read ({error})", "grant access to it, or look after its disk")
    return FactorStoreError(f"{path} is damaged ({first_line(error)})", "restore it or compute it again")


def open_store(
    path: str | Path, parts: Callable[[Path], Callable[[str], Any]], kind: Kind = FACTOR_STORE
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes and the arrays of the store at `path`.

    `parts`: how arrays of a folder are opened by their names, such as `by_zarr`.

    Raises:
        FactorStoreError: nothing there, no manifest, or not a store of this kind and format.

    """
    folder = resolved(path)
    replaced = scratch_path(folder) / REPLACED
    if not folder.exists() and replaced.exists():
        folder = replaced  # a run was killed between the two renames of a system without atomic exchange
    attributes = _manifest(folder, path, kind)
    open_part = parts(folder)
    arrays = {name: open_part(name) for name in attributes["manifest"]}
    _check_shapes(arrays, attributes["manifest"])
    return attributes, arrays


def mark_of(path: Path) -> str:
    """What tells the store at a path from all others that may lie there; empty where none is."""
    try:
        return sha256((path / METADATA).read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _manifest(folder: Path, path: str | Path, kind: Kind) -> dict[str, Any]:
    """The attributes of a store of this kind and format that are what was published; `path` is its name."""
    attributes = attributes_of(folder).get(ATTRIBUTE)
    if not isinstance(attributes, dict):
        raise _no_store(folder, path, kind)
    held = attributes.get(KIND, FACTORS)
    if held != kind.name:
        raise FactorStoreError(f"{path} is {kind.of(held)}, not a {kind.noun}", kind.remedy)
    found = attributes.get("format_version")
    if found not in kind.formats:
        raise FactorStoreError(
            f"{path} is a {kind.noun} of format {found}, this bigsvd {version('bigsvd')} reads {kind.read}",
            "use the version of bigsvd that wrote it, or compute it again",
        )
    if attributes.get(_CHECKSUM) != _checksum(attributes):
        raise FactorStoreError(
            f"{path} is damaged: {path}/zarr.json has checksum {_checksum(attributes)}, it says "
            f"{attributes.get(_CHECKSUM)}",
            "restore it or compute it again",
        )
    return attributes


def _no_store(folder: Path, path: str | Path, wanted: Kind) -> FactorStoreError:
    """What is there instead of a store of that kind, and what to give."""
    kind, remedy = kind_of(folder), wanted.remedy
    held = "factors" if wanted.name == FACTORS else wanted.noun
    if "://" in str(path):
        return FactorStoreError(f"{path} is a URL, which holds no {held} that can be opened here", remedy)
    if not folder.exists() and scratch_path(folder).exists():
        return FactorStoreError(
            f"{path} holds no {held} yet: {scratch_path(folder)} is of a run that has not ended",
            "run the same `bigsvd` command again to finish it",
        )
    if kind in ("nothing", "an empty folder"):
        return FactorStoreError(f"{path} holds no {held}: {kind} is there", f"check the path; {remedy}")
    if (folder / "zarr.json").exists() and not metadata_of(folder):
        return FactorStoreError(
            f"{path} is damaged: its zarr.json is no JSON object", "restore it or compute it again"
        )
    if wanted.name == FACTORS and all((folder / name).is_dir() for name in ("U", "s", "Vt")):
        return FactorStoreError(
            f"{path} is {kind} with U, s and Vt but no bigsvd manifest of format {FORMAT_VERSION}", remedy
        )
    return FactorStoreError(f"{path} is {kind}, not a {wanted.noun}", remedy)


def _as_stored(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, read and written alike whatever `zarr.config` says in this process.

    Entries come in C order, on which the last bits of products depend; every chunk is written; one that is
    not there reads as the fill value (which Zarr >= 3.3 can be told to refuse).
    """
    wanted: dict[str, Any] = {"order": "C", "write_empty_chunks": True, "read_missing_chunks": True}
    known: Any = {name: wanted[name] for name in wanted if name in zarr.config.get("array")}
    return array.with_config(known)


def by_zarr(folder: Path) -> Callable[[str], zarr.Array[Any]]:
    """Opens arrays for whoever wants to read them; chunks that are gone are refused."""
    store = GuardStore(LocalStore(folder, read_only=True), FactorStoreError)

    def open_part(name: str) -> zarr.Array[Any]:
        return _as_stored(zarr.open_array(store, path=name, mode="r", zarr_format=3))

    return open_part


def by_files(folder: Path) -> Callable[[str], PlainArray]:
    """Opens arrays that this process has just written, to read them once: as plain files, which is faster."""
    return lambda name: open_array(folder / name)


def _check_shapes(arrays: dict[str, Any], manifest: dict[str, Any]) -> None:
    for name, array in arrays.items():
        expected = manifest[name]
        if list(array.shape) != expected["shape"] or array.dtype.name != expected["dtype"]:
            raise FactorStoreError(
                f"{name} is {array.shape} {array.dtype}, "
                f"its manifest says {expected['shape']} {expected['dtype']}",
                "restore it or compute it again",
            )


def digest(array: Any) -> int:
    """crc32c of the decoded entries, chunk by chunk in row-major order."""
    crc = 0
    grid = [range(0, length, chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    for corner in product(*grid):
        key = tuple(slice(start, start + chunk) for start, chunk in zip(corner, array.chunks, strict=True))
        crc = google_crc32c.extend(crc, np.ascontiguousarray(array[key]))
    return crc


def seal(scratch: Scratch, attributes: dict[str, Any]) -> None:
    """Write the manifest of the factors in scratch: they become a factor store."""
    names = [name for name in STORE_ARRAYS if scratch.has(f"{FOLDER}/{name}")]
    format_version = _WITHOUT_WEIGHTS
    if "uncertainty" in names:
        format_version = FORMAT_VERSION
    elif {"weights", "row_weights"} & {*names}:
        format_version = _WITH_WEIGHTS
    seal_arrays(scratch, names, {"format_version": format_version, **attributes})


def seal_arrays(scratch: Scratch, names: Sequence[str], attributes: dict[str, Any]) -> None:
    """Write the manifest of these arrays in scratch, with `attributes` beside it: they become a store."""
    with storage_errors(f"writing {scratch.path}/{FOLDER}"):
        arrays = {name: scratch.open(f"{FOLDER}/{name}") for name in names}
        manifest = {
            name: {"shape": list(array.shape), "dtype": array.dtype.name, "crc32c": digest(array)}
            for name, array in arrays.items()
        }
        body = {"versions": versions(), "manifest": manifest, **attributes}
        scratch.seal(FOLDER, {ATTRIBUTE: body | {_CHECKSUM: _checksum(body)}})


def _checksum(attributes: dict[str, Any]) -> int:
    """crc32c of the attributes other than the checksum itself, as JSON with sorted names."""
    body = {name: value for name, value in attributes.items() if name != _CHECKSUM}
    return int(google_crc32c.value(json.dumps(body, sort_keys=True).encode()))


@cache
def versions() -> dict[str, str]:
    """What computed the result; which files tell that is looked up once a process."""
    names = ("bigsvd", "numpy", "zarr", "dask", "distributed")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
