"""Answers of which a client asks for a part, or only whether it is still what it has: RFC 9110, 13 and 14."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.responses import Response

from bigsvd.service.http.pieces import InPieces

_RANGE = re.compile(r"bytes=\s*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\s*")
_TAG = re.compile(r'(?:W/)?("[^"]*")')


@dataclass(frozen=True)
class Value:
    """Bytes that are made when they are asked for.

    Attributes:
        size: how many. tag: strong ETag, which other bytes do not have. media_type: what they are.

    """

    size: int
    tag: str
    media_type: str
    make: Callable[[], bytes | memoryview]


def answered(value: Value, asked: Mapping[str, str], headers: Mapping[str, str], *, body: bool) -> Response:
    """The answer to GET, or to HEAD without the `body`; bytes are made only where they are sent.

    Status 200, 206 for one range, 304 where the client has these bytes, 416 for a range behind the end.
    Several ranges are answered by all of it, as RFC 9110 allows.
    """
    common = {**headers, "ETag": value.tag, "Accept-Ranges": "bytes"}
    if _has(value.tag, asked.get("if-none-match", "")):
        return Response(status_code=304, headers=common)
    part, is_part = _part(value, asked)
    if not part:
        return Response(status_code=416, headers=common | {"Content-Range": f"bytes */{value.size}"})
    status = 200
    if is_part:
        status = 206
        common["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{value.size}"
    if not body:
        common["Content-Length"] = str(len(part))
        return Response(status_code=status, headers=common, media_type=value.media_type)
    content = value.make()[part.start : part.stop]
    return InPieces(content, status, common, value.media_type)


def _has(tag: str, listed: str) -> bool:
    """Whether a list of tags has this one; weak ones of the same text are the same here."""
    return listed.strip() == "*" or tag in _TAG.findall(listed)


def _part(value: Value, asked: Mapping[str, str]) -> tuple[range, bool]:
    """Which bytes are asked for, none where they lie behind the end; and whether that is a part of them.

    A range that is none, or of other bytes than these, is not heeded.
    """
    whole = range(value.size)
    found = _RANGE.fullmatch(asked.get("range", ""))
    if found is None or asked.get("if-range", value.tag).strip() != value.tag:
        return whole, False
    first, last, suffix = found.groups()
    if suffix is not None:
        return whole[max(0, value.size - int(suffix)) :], True
    if last and int(last) < int(first):
        return whole, False
    return whole[int(first) : int(last or value.size) + 1], True
