"""How deep lists and objects may lie in each other: their readers call themselves for each level."""

from __future__ import annotations

from collections.abc import Iterator

from bigsvd.errors import RequestError

_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def check_nesting(body: bytes, most: int) -> None:
    """`RequestError` where lists and objects lie in each other more than `most` deep, or are not closed.

    Text in quotes is taken out, then all but brackets, of one kind, and then pair after pair: a level at a
    time, each in a time that grows with the size alone. What else is no JSON is left to whoever reads it.
    """
    left = b"".join(_outside_quotes(body)).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(most):
        left = left.replace(b"[]", b"")
    if left:
        raise RequestError(
            f"the body's lists and objects lie more than {most} levels deep, or are not closed (body_levels)",
            "send such as {...} with plain values",
        )


def _outside_quotes(body: bytes) -> Iterator[bytes]:
    """The parts of a JSON text that are not in quotes."""
    for place, part in enumerate(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')):
        if place % 2 == 0:
            yield part
