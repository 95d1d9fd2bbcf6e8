"""What lies below the roots: arrays that can be decomposed, results, folders; told by metadata alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from bigsvd.errors import PathError, RequestError
from bigsvd.jobs.files import read_json
from bigsvd.jobs.record import SUFFIX
from bigsvd.results.folders import ATTRIBUTE, attributes_of, is_scratch, metadata_of
from bigsvd.service.http.array_bodies import npy_header
from bigsvd.service.http.dependencies import READ, ServiceHere
from bigsvd.service.http.problems import told
from bigsvd.service.results.lookup import id_of_path

router = APIRouter(prefix="/v1/sources", tags=["sources"])

_MOST_ENTRIES = 5000  # of one folder that are looked at
_SUFFIXES = (".npy", ".zip", ".h5", ".hdf5", ".nc")
Kind = Literal["array", "group", "result", "file", "folder"]


class SourceAnswer(BaseModel):
    """Something below a root."""

    path: str = Field(description="What a request names it by.")
    name: str
    kind: Kind
    shape: list[int] | None = Field(description="Of arrays, and of the matrix of a result.")
    dtype: str | None
    bytes: int | None = Field(description="Uncompressed, of arrays.")
    result: str | None = Field(description="The id of a result, for /v1/results/{id}.")


class SourcesAnswer(BaseModel):
    """What a folder holds."""

    folder: str
    parent: str | None = Field(description="The folder around it; null at a root.")
    roots: list[str]
    entries: list[SourceAnswer]
    left_out: int = Field(description="Entries that were too many to look at.")


@router.get("", responses=told(404), dependencies=READ)
def listed(
    service: ServiceHere,
    folder: Annotated[str, Query(max_length=4000, description="Below a root; empty for the first.")] = "",
) -> SourcesAnswer:
    """What lies in a folder."""
    here = service.roots.folder(folder)
    roots = [root.resolve() for root in service.settings.roots]
    paths = _paths(folder, here)
    parent = None if here in roots else str(here.parent)
    found = [_looked_at(path) for path in paths[:_MOST_ENTRIES]]
    return SourcesAnswer(
        folder=str(here),
        parent=parent,
        roots=[str(root) for root in roots],
        entries=[entry for entry in found if entry is not None],
        left_out=max(0, len(paths) - _MOST_ENTRIES),
    )


def _paths(asked: str, folder: Path) -> list[Path]:
    """What is in a folder, sorted; `PathError` where it is none, or may not be looked into."""
    try:
        return sorted(map(Path, _names(folder)))
    except OSError as error:
        raise PathError(
            f"folder={asked!r} cannot be listed ({error.strerror})", "give one that /v1/sources lists"
        ) from error


def _looked_at(path: Path) -> SourceAnswer | None:
    """The same as `_entry`; None also of what belongs to somebody who lets nobody look, or is gone by now.

    And of metadata that lie in each other without end.
    """
    try:
        return _entry(path)
    except (OSError, RecursionError):
        return None


def _names(folder: Path) -> Iterator[str]:
    """What has a name of its own; links are left out, which may lead anywhere."""
    with os.scandir(folder) as entries:
        for entry in entries:
            hidden = entry.name.startswith(".") or entry.name.endswith((SUFFIX, ".scratch"))
            if not hidden and not entry.is_symlink():
                yield entry.path


def _entry(path: Path) -> SourceAnswer | None:
    """What is said of a path; None of files that are no source."""
    if path.is_dir():
        return None if is_scratch(path) else _of_folder(path)
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():  # a pipe is read for ever
        return None
    shape, dtype = _of_npy(path) if path.suffix.lower() == ".npy" else (None, None)
    return _answer(path, "file" if shape is None else "array", shape, dtype)


def _of_folder(path: Path) -> SourceAnswer:
    metadata = metadata_of(path)
    if metadata.get("node_type") == "array":
        return _answer(path, "array", metadata.get("shape"), metadata.get("data_type"))
    published = attributes_of(path).get(ATTRIBUTE)
    if isinstance(published, dict):
        return _of_result(path, published)
    old = read_json(path / ".zarray")
    if old:
        return _answer(path, "array", old.get("shape"), old.get("dtype"))
    is_group = bool(metadata) or (path / ".zgroup").exists()
    return _answer(path, "group" if is_group else "folder", None, None)


def _of_result(path: Path, published: dict[str, Any]) -> SourceAnswer:
    source = published.get("source")
    shape = source.get("shape") if isinstance(source, dict) else None
    found = _answer(path, "result", shape, None)
    return found.model_copy(update={"result": id_of_path(str(path))})


def _answer(path: Path, kind: Kind, shape: Any, dtype: Any) -> SourceAnswer:
    """The values of metadata that anybody may have written."""
    lengths = _lengths(shape)
    known = _dtype(dtype)
    size = None
    if lengths is not None and known is not None:
        size = known.itemsize * int(np.prod([1, *lengths], dtype=object))
    return SourceAnswer(
        path=str(path), name=path.name, kind=kind, shape=lengths, dtype=None if known is None else known.name,
        bytes=size, result=None,
    )  # fmt: skip


def _lengths(shape: Any) -> list[int] | None:
    whole = isinstance(shape, (list, tuple)) and all(
        isinstance(length, int) and length >= 0 for length in shape
    )
    return [int(length) for length in shape] if whole else None


def _dtype(name: Any) -> np.dtype[Any] | None:
    try:
        return np.dtype(name) if isinstance(name, str) else None
    except (TypeError, ValueError, SyntaxError):
        return None


def _of_npy(file: Path) -> tuple[tuple[int, ...] | None, str | None]:
    """What the header of an .npy file says."""
    try:
        with file.open("rb") as opened:
            shape, _, dtype = npy_header(opened)
    except (OSError, RequestError):
        return None, None
    return shape, dtype.str
