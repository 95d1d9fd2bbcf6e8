"""What lies in a folder, and whether all of it was written by bigsvd, which alone it may delete.

The names that bigsvd writes are few: metadata, chunks of arrays, and what a killed write of Zarr leaves.
Anything else, a link included, is somebody's own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bigsvd.nodes import METADATA
from bigsvd.paths import resolved
from bigsvd.scratch import MARK, RESULT, is_mine

ATTRIBUTE = "bigsvd"  # of a group: what makes it a factor store
REPLACED = "replaced"  # in scratch: the old result, between the two renames of a system that cannot exchange
KIND = "kind"  # in that attribute: what the store holds; factors where it is not said
FACTORS, STUDENT = "factors", "student"
STORE_ARRAYS = (
    "U", "s", "Vt", "mean", "scale", "weights", "row_weights", "rows", "cols", "missing", "uncertainty",
)  # fmt: skip
STUDENT_ARRAYS = ("V", "noise")  # besides some of those
_ARRAYS = frozenset({*STORE_ARRAYS, *STUDENT_ARRAYS})
_OF_STAGE = re.compile(r"(mixture|network)\.[A-Za-z0-9_.-]+")  # a student's, of one of its stages
_CHUNKS = "c"
_IN_ROOM = re.compile(r"((zarr|c)\.)?[0-9a-f]{32}(\.partial)?")  # what a run moves to or from its own folder
_UNFINISHED = re.compile(r"(zarr|c|[0-9]+)\.[0-9a-f]{32}\.partial")  # a file that Zarr was writing


def scratch_path(out: Path) -> Path:
    """Where the scratch of an output lies: beside what a link leads to, so that a rename publishes."""
    target = resolved(out)
    return target.parent / f"{target.name}.scratch"


def metadata_of(folder: Path) -> dict[str, Any]:
    """What a folder's `zarr.json` says; nothing where there is none or it is no JSON object."""
    try:
        found = json.loads((folder / METADATA).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def attributes_of(folder: Path) -> dict[str, Any]:
    """The Zarr attributes of a folder, format 3; nothing where there are none."""
    found = metadata_of(folder).get("attributes")
    return found if isinstance(found, dict) else {}


def is_zarr_array(folder: Path) -> bool:
    """Whether a folder is a Zarr array, of either format."""
    return metadata_of(folder).get("node_type") == "array" or (folder / ".zarray").is_file()


def is_scratch(folder: Path) -> bool:
    """Whether a folder is the scratch of a run."""
    return (folder / MARK).is_dir()


def store_kind(folder: Path) -> str:
    """What the store in a folder holds, "factors" or "student"; empty where there is no store."""
    attributes = attributes_of(folder)
    if ATTRIBUTE not in attributes:
        return ""
    found = attributes[ATTRIBUTE]
    return str(found.get(KIND, FACTORS)) if isinstance(found, dict) else FACTORS


def kind_of(path: Path) -> str:
    """What is there, as a noun: "a Zarr array", "an empty folder"."""
    if not path.exists():
        return "nothing"
    if not path.is_dir():
        return "a file"
    if is_scratch(path):
        return "the scratch of a run"
    return _kind_of_zarr(path) or ("a folder of other things" if any(path.iterdir()) else "an empty folder")


def _kind_of_zarr(folder: Path) -> str:
    """What a folder is to Zarr; empty if it is no part of it."""
    attributes = attributes_of(folder)
    if is_zarr_array(folder):
        return "a Zarr array"
    if ATTRIBUTE in attributes:
        return "a student" if store_kind(folder) == STUDENT else "a factor store"
    if attributes.get("encoding-type") == "anndata" or all(
        (folder / name).is_dir() for name in ("obs", "var")
    ):
        return "an AnnData store"
    if metadata_of(folder) or (folder / ".zgroup").exists():
        return "a Zarr group"
    return "a folder with damaged Zarr metadata" if (folder / METADATA).exists() else ""


def foreign_in_store(store: Path, *, unfinished: bool = False) -> Path | None:
    """The first thing in a factor store that is no part of one; None if there is none.

    One that is `unfinished` may lack its manifest, or have a torn one, and hold arrays under the names they
    are written by.
    """
    torn = unfinished and not metadata_of(store)
    if (store / METADATA).exists() and ATTRIBUTE not in attributes_of(store) and not torn:
        return store / METADATA
    return next(_foreign(store, _is_unfinished_array if unfinished else _is_array_of_store), None)


def _is_array_of_store(name: str) -> bool:
    return name in _ARRAYS or _OF_STAGE.fullmatch(name) is not None


def _is_unfinished_array(name: str) -> bool:
    return _is_array_of_store(name.removesuffix(".partial"))


def foreign_in_scratch(scratch: Path) -> Path | None:
    """The first thing in a scratch folder that no run has written there; None if there is none.

    What vanishes meanwhile is a run's own, which is still at work there.
    """
    try:
        found = _first_foreign_in_scratch(scratch)
    except FileNotFoundError:
        return None
    return found if found is not None and os.path.lexists(found) else None


def _first_foreign_in_scratch(scratch: Path) -> Path | None:
    if scratch.is_symlink() or not scratch.is_dir():
        return scratch
    for entry in sorted(scratch.iterdir()):
        if entry.name == MARK:
            found = next((path for run in entry.iterdir() for path in _foreign_in_room(run)), None)
        elif entry.name in (RESULT, REPLACED):
            found = foreign_in_store(entry, unfinished=True)
        else:
            found = next(_foreign_in_tree(entry), None)
        if found is not None:
            return found
    return None


def _foreign_in_room(room: Path) -> Iterator[Path]:
    """What is foreign in a run's own folder in the mark, or that itself if it is none."""
    if room.is_symlink() or not room.is_dir():
        yield room
        return
    for entry in room.iterdir():
        if entry.name == RESULT:
            yield from filter(None, [foreign_in_store(entry, unfinished=True)])
        elif not _IN_ROOM.fullmatch(entry.name):
            yield entry


def _foreign_in_tree(node: Path) -> Iterator[Path]:
    """What is foreign in an array, a record, or a folder of such, in scratch.

    Metadata that say nothing, as a power cut leaves them, are nobody else's.
    """
    said_by_others = metadata_of(node) and not is_mine(attributes_of(node))
    if node.is_symlink() or not node.is_dir() or said_by_others:
        yield node
    else:
        below = [entry.name for entry in _entries(node) if entry.is_dir(follow_symlinks=False)]
        nodes = [name for name in below if name != _CHUNKS]
        for name in nodes:
            yield from _foreign_in_tree(node / name)
        yield from _foreign(node, nodes.__contains__, into=False)


def _foreign(node: Path, is_array: Callable[[str], bool], *, into: bool = True) -> Iterator[Path]:
    """What is neither metadata nor chunks nor a folder that is an array by its name, nor foreign to these."""
    for entry in _entries(node):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if entry.name == _CHUNKS:
                yield from _foreign_in_chunks(path)
            elif not is_array(entry.name):
                yield path
            elif into:
                yield from _foreign(path, _is_no_array)
        elif not _is_file_of_node(entry):
            yield path


def _is_no_array(_: str) -> bool:
    return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _is_file_of_node(entry: os.DirEntry[str]) -> bool:
    named = entry.name in (METADATA, _CHUNKS) or _UNFINISHED.fullmatch(entry.name) is not None
    return named and entry.is_file(follow_symlinks=False)


def _foreign_in_chunks(folder: Path) -> Iterator[Path]:
    for entry in _entries(folder):
        number = re.fullmatch(r"[0-9]+", entry.name) is not None
        if number and entry.is_dir(follow_symlinks=False):
            yield from _foreign_in_chunks(Path(entry.path))
        elif not (number or _UNFINISHED.fullmatch(entry.name)) or not entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
