"""Ranges in the queries of URLs: "start:stop", within what there is."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Query

from bigsvd.errors import RequestError

_SPAN = re.compile(r"([0-9]{0,18}):([0-9]{0,18})|([0-9]{1,18})")

Span = Annotated[
    str,
    Query(pattern=f"^({_SPAN.pattern})$", description="start:stop, or one index; a side may be left out."),
]


def span_of(name: str, text: str, length: int) -> slice:
    """The range that a text means on an axis of that length.

    Raises:
        RequestError: it is none, reaches beyond the axis, or holds nothing.

    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise RequestError(f"{name}={text!r} is not a range", f"give start:stop within 0:{length}")
    if found[3] is not None:
        start, stop = int(found[3]), int(found[3]) + 1
    else:
        start, stop = int(found[1] or 0), int(found[2] or length)
    if not 0 <= start < stop <= length:
        raise RequestError(
            f"{name}={text!r} is not within 0:{length}, or holds nothing",
            f"give start:stop within 0:{length}",
        )
    return slice(start, stop)
