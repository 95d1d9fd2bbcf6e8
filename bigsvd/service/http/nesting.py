"""How deep lists and objects may lie in each other: their readers call themselves for each level."""

from __future__ import annotations

import numpy as np

from bigsvd.errors import RequestError

_QUOTE = ord(b'"')
_PIECE_BYTES = 2**20  # of a text, that are looked at together
_STEPS = np.zeros(256, dtype=np.int8)  # into a list or an object, or out of it, by letter
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def check_nesting(body: bytes, most: int) -> None:
    """`RequestError` where lists and objects lie in each other more than `most` deep, or are not closed.

    Brackets outside of quotes are counted, in a time that grows with the size alone, whatever the text, and
    with no more memory than its own. What has no more brackets than that, or else is no JSON, is left to
    whoever reads it.
    """
    if body.count(b"[") + body.count(b"{") + body.count(b"]") + body.count(b"}") <= most:
        return
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    depth, quoted = 0, np.uint8(0)
    for start in range(0, len(text), _PIECE_BYTES):
        letters = np.frombuffer(text[start : start + _PIECE_BYTES], dtype=np.uint8)
        inside = (
            np.cumsum(letters == _QUOTE, dtype=np.uint8) + quoted
        ) & 1  # it may overflow: its last bit counts
        depths = depth + np.cumsum(np.where(inside, 0, _STEPS[letters]), dtype=np.int64)
        if depths.max() > most or depths.min() < 0:
            raise _too_deep(most)
        depth, quoted = int(depths[-1]), inside[-1]
    if depth:
        raise _too_deep(most)


def _too_deep(most: int) -> RequestError:
    return RequestError(
        f"the body's lists and objects lie more than {most} levels deep, or are not closed (body_levels)",
        "send such as {...} with plain values",
    )
