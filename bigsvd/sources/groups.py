"""Finds the arrays in a Zarr group: the only matrix among them is what is meant, several can be named."""

from __future__ import annotations

import warnings
from collections import deque
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.errors import ZarrUserWarning

from bigsvd.errors import SourceError
from bigsvd.sources.members import Member, Members
from bigsvd.sources.zarr_packing import dimensions_of

# The number of members of a group whose metadata are read; each takes a request if they are not consolidated.
# Chosen, not measured.
_MOST_LOOKED_AT = 100
_SPARSE = ("csr_matrix", "csc_matrix", "coo_matrix")


class SparseGroupError(SourceError):
    """A sparse matrix where an array was looked for; who reads sparse matrices opens it.

    Attributes:
        name, path, kind: of its group.

    """

    def __init__(self, name: str, path: str, member: Member) -> None:
        self.name = f"{name.rstrip('/')}/{member.path}".rstrip("/")
        self.path = f"{path}/{member.path}".strip("/")
        self.kind = member.sparse
        super().__init__(f"{self.name} is a sparse {member.sparse}", "give it as the matrix to decompose")


def members_of(store: Store, path: str) -> Members | None:
    """The arrays of a group; None if it is no group.

    A sparse matrix, which is a group, is its own only member.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # of files that are no part of a group
            group = zarr.open_group(store, path=path, mode="r")
            members = _members(group)
            own = _sparse_kind(group)
    except Exception:  # noqa: BLE001 - garbage metadata raises anything; then it is no group
        return None
    if not members.found and not _declared(store, path):
        return None
    if own:
        return Members((Member("", (), "", own),))
    return members


def _declared(store: Store, path: str) -> bool:
    """Whether there are metadata that say it is a group; Zarr takes any folder without metadata for one."""
    folder = ""
    if path:
        folder = f"{path}/"
    if sync(store.exists(f"{folder}.zgroup")):
        return True
    found = sync(store.get(f"{folder}zarr.json", default_buffer_prototype()))
    return found is not None and b"group" in found.to_bytes()


def _members(group: zarr.Group) -> Members:
    """The arrays in a group and below it."""
    found: list[Member] = []
    waiting = deque([("", group)])
    looked_at, unseen = 0, 0
    while waiting:
        prefix, parent = waiting.popleft()
        names = _names(parent)
        room = max(0, _MOST_LOOKED_AT - looked_at)
        unseen += max(0, len(names) - room)
        for key in names[:room]:
            looked_at += 1
            child = _member(parent, key)
            if isinstance(child, zarr.Array):
                bounds, dims = str(child.attrs.get("bounds", "")), dimensions_of(child)
                shape = tuple(child.shape)
                found.append(Member(prefix + key, shape, str(child.dtype), bounds=bounds, dims=dims))
            elif child is not None and (kind := _sparse_kind(child)):
                found.append(Member(prefix + key, (), "", kind))
            elif child is not None:
                waiting.append((f"{prefix}{key}/", child))
    return Members.of(found, unseen)


def _names(group: zarr.Group) -> list[str]:
    """The sorted names in a group, from consolidated metadata if it has them, otherwise from a listing."""
    consolidated = getattr(group.metadata, "consolidated_metadata", None)
    if consolidated is not None:
        return sorted({key.split("/")[0] for key in consolidated.metadata})
    return sorted(sync(_listed(group.store, group.path)))


async def _listed(store: Store, path: str) -> list[str]:
    keys = [key.rstrip("/") async for key in store.list_dir(path)]
    return [key for key in keys if not key.startswith(".") and key != "zarr.json"]


def _member(group: zarr.Group, key: str) -> Any:
    """The array or group of that name; None if it is neither."""
    try:
        return group[key]
    except Exception:  # noqa: BLE001 - files beside the arrays, or metadata that are damaged
        return None


def _sparse_kind(group: Any) -> str:
    kind = str(group.attrs.get("encoding-type", ""))
    if kind in _SPARSE:
        return kind
    return ""
