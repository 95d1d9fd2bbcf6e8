"""Objects that only this process has, handed to its worker threads by a token, never copied."""

from __future__ import annotations

import uuid
import weakref
from typing import Any

from bigsvd.errors import SourceError

_KEPT: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def keep(value: Any) -> str:
    """The token of an object, which is remembered only as long as somebody holds it."""
    for token, kept in list(_KEPT.items()):
        if kept is value:
            return token
    token = uuid.uuid4().hex  # not its id, which another process or a later object can have too
    _KEPT[token] = value
    return token


def kept(token: str) -> Any:
    """The object of a token; `SourceError` in a process that has none of that token."""
    try:
        return _KEPT[token]
    except KeyError:
        raise SourceError(
            "an in-memory array cannot be reached from a worker in another process",
            "store it as Zarr, or run without a scheduler address",
        ) from None
