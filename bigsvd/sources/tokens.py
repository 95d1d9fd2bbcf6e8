"""Objects that only this process has: its worker threads get a token instead of a copy."""

from __future__ import annotations

import uuid
import weakref
from typing import Any

from bigsvd.errors import SourceError

_KEPT: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def keep(value: Any) -> str:
    """The token of an object; the object is remembered only as long as somebody holds it."""
    for token, kept in list(_KEPT.items()):
        if kept is value:
            return token
    token = uuid.uuid4().hex  # not `id(value)`, which another process or a later object can have too
    _KEPT[token] = value
    return token


def kept(token: str) -> Any:
    """The object of a token; `SourceError` in a process that has no object of that token."""
    try:
        return _KEPT[token]
    except KeyError:
        raise SourceError(
            "an in-memory array cannot be reached from a worker in another process",
            "store it as Zarr, or run without a scheduler address",
        ) from None
