"""The files and folders of this machine in which a Zarr store keeps its data, as far as that is known."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore, WrapperStore, ZipStore


def places_of(store: Any, path: str, name: str) -> tuple[Path, ...]:
    """The place of the node at `path` of a store, and the local files that a URL `name` holds.

    Neither fsspec nor obstore is imported here; their stores are recognised by their attributes. A store of
    fsspec has a file system (`fs`), which may be the local one. A local store of obstore has a folder, its
    `prefix`.
    """
    while isinstance(store, WrapperStore):
        store = store._store  # noqa: SLF001 - what it wraps has no public name
    found = [Path(part.split("://", 1)[-1]) for part in _local_parts(name)]
    if isinstance(store, LocalStore):
        found.append(Path(store.root) / path)
    elif isinstance(store, ZipStore):
        found.append(Path(store.path))
    elif type(getattr(store, "store", None)).__module__.startswith("obstore"):
        prefix = getattr(store.store, "prefix", None)
        if prefix and type(store.store).__name__ == "LocalStore":
            found.append(Path(prefix) / path)
    elif hasattr(store, "fs"):
        system = getattr(store.fs, "sync_fs", store.fs)
        if "file" in _protocols(system):
            found.append(Path(store.path) / path)
    return tuple(found)


def absent_files(folder: Path, keys: Iterable[str]) -> list[str]:
    """Those of the keys that are no files in a folder, or below it; each folder is listed once."""
    absent = []
    for parent, some in groupby(keys, key=lambda key: key.rpartition("/")[0]):
        there = _listed(folder / parent)
        absent += [key for key in some if there is not None and key.rpartition("/")[2] not in there]
    return absent


def _listed(folder: Path) -> set[str] | None:
    """The names in a folder, none where it does not exist; None where it may not be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError:
        return None


def _protocols(system: Any) -> tuple[str, ...]:
    protocol = getattr(system, "protocol", ())
    if isinstance(protocol, str):
        return (protocol,)
    return tuple(protocol)


def _local_parts(name: str) -> list[str]:
    """The parts of a URL, which may be chained as `zip://::file:///a.zip`, that name local files."""
    if "://" not in name:
        return []
    parts = name.split("::")
    return [
        part
        for part in parts
        if part.startswith(("file://", "local://")) or ("/" in part and "://" not in part)
    ]
