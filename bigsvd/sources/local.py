"""Which files and folders of this machine a Zarr store keeps its data in, as far as that can be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zarr.storage import LocalStore, WrapperStore, ZipStore


def places_of(store: Any, path: str, name: str) -> tuple[Path, ...]:
    """Where the node at `path` of a store lies, and what a URL's `name` says of local files.

    Stores of other libraries are known by what they are called: fsspec's have a file system that may be the
    local one, obstore's a root.
    """
    while isinstance(store, WrapperStore):
        store = store._store  # noqa: SLF001 - what it wraps has no public name
    found = [Path(part.partition("://")[2] if "://" in part else part) for part in _local_parts(name)]
    if isinstance(store, LocalStore):
        found.append(Path(store.root) / path)
    elif isinstance(store, ZipStore):
        found.append(Path(store.path))
    elif type(getattr(store, "store", None)).__module__.startswith("obstore"):
        prefix = getattr(store.store, "prefix", None)
        found += [Path(prefix) / path] if prefix and type(store.store).__name__ == "LocalStore" else []
    elif hasattr(store, "fs"):
        system = getattr(store.fs, "sync_fs", store.fs)
        found += [Path(store.path) / path] if "file" in _protocols(system) else []
    return tuple(found)


def _protocols(system: Any) -> tuple[str, ...]:
    protocol = getattr(system, "protocol", ())
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


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
