"""Finds the matrices in a Zarr group, so that the refusal of the group can name one."""

from __future__ import annotations

import math
import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.errors import ZarrUserWarning

from bigsvd.errors import SourceError
from bigsvd.sources.base import flattening
from bigsvd.sources.blocks import SPARSE_CURE

# The number of members of a group whose metadata are read; each takes a request if they are not consolidated.
# Chosen, not measured.
_MOST_LOOKED_AT = 100
_MOST_NAMED = 6  # the number of arrays that a message names; chosen so that it stays readable
_SPARSE = ("csr_matrix", "csc_matrix", "coo_matrix")


@dataclass(frozen=True)
class _Member:
    """An array of a group, or a group that is a sparse matrix; `sparse` is the name of its format."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    sparse: str = ""

    @property
    def is_matrix(self) -> bool:
        """Whether bigsvd could decompose it."""
        return not self.sparse and len(self.shape) == 2 and 0 not in self.shape and self._is_real

    @property
    def _is_real(self) -> bool:
        try:
            return np.dtype(self.dtype).kind in "biuf"
        except TypeError:
            return False

    @property
    def described(self) -> str:
        """Its shape and element type."""
        return f"{'x'.join(map(str, self.shape))} {self.dtype}"


def group_refusal(name: str, store: Store, path: str) -> SourceError | None:
    """The error that says which arrays of this group could be decomposed; None if it is no group."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # of files that are no part of a group
            group = zarr.open_group(store, path=path, mode="r")
            members, unseen = _members(group)
            own = _sparse_kind(group)
    except Exception:  # noqa: BLE001 - garbage metadata raises anything; then it is no group
        return None
    if not members and not _declared(store, path):
        return None
    if own:
        return SourceError(f"{name} is a sparse {own}, and sparse is not read yet", SPARSE_CURE)
    return _refusal(name, members, unseen)


def _declared(store: Store, path: str) -> bool:
    """Whether there are metadata that say it is a group; Zarr takes any folder without metadata for one."""
    folder = ""
    if path:
        folder = f"{path}/"
    if sync(store.exists(f"{folder}.zgroup")):
        return True
    found = sync(store.get(f"{folder}zarr.json", default_buffer_prototype()))
    return found is not None and b"group" in found.to_bytes()


def _refusal(name: str, members: list[_Member], unseen: int) -> SourceError:
    """The error that names what was found: matrices first, the largest of them at the front."""
    members = sorted(members, key=lambda member: not member.is_matrix)
    arrays = [member for member in members if not member.sparse]
    sparse = [member for member in members if member.sparse]
    parts = []
    if arrays:
        parts.append(f"the arrays {_named(arrays)}")
    if sparse:
        parts.append(f"the sparse {_named(sparse)}, and sparse is not read yet")
    said = f"{name} is a Zarr group"
    if parts:
        said += f" with {' and '.join(parts)}"
    if unseen:
        said += f" ({unseen} further members were not looked at)"
    return SourceError(said, _cure(name.rstrip("/"), arrays, sparse))


def _cure(name: str, arrays: list[_Member], sparse: list[_Member]) -> str:
    """The advice which array to name, or what to do if none is a matrix."""
    if arrays and arrays[0].is_matrix:
        return f"name one of them, such as {name}/{arrays[0].path} ({arrays[0].described})"
    if sparse:
        return SPARSE_CURE
    if not arrays:
        return "check the path: it holds no array"
    first = arrays[0]
    none = f"none is a matrix of real numbers; {name}/{first.path} is {first.described}"
    if len(first.shape) > 2:
        return f"{none}: {flattening(first.shape)}"
    return none


def _named(members: list[_Member]) -> str:
    named = ", ".join(member.path for member in members[:_MOST_NAMED])
    rest = len(members) - _MOST_NAMED
    if rest > 0:
        return f"{named} and {rest} more"
    return named


def _members(group: zarr.Group) -> tuple[list[_Member], int]:
    """The arrays in a group and below it, the largest first, and the number of members not looked at."""
    found: list[_Member] = []
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
                found.append(_Member(prefix + key, tuple(child.shape), str(child.dtype)))
            elif child is not None and (kind := _sparse_kind(child)):
                found.append(_Member(prefix + key, (), "", kind))
            elif child is not None:
                waiting.append((f"{prefix}{key}/", child))
    return sorted(found, key=lambda member: (-math.prod(member.shape), member.path)), unseen


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
