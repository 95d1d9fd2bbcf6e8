"""Answers of many bytes, and those that come meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from starlette.types import Message

from bigsvd.service.http.pieces import InPieces

PIECE_BYTES = 2**19


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_others_have_their_turn_while_a_long_answer_is_sent(size: int) -> None:
    content = np.random.default_rng(0).bytes(size)
    sent: list[Message] = []
    turns = [0]

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise NotImplementedError

    async def others() -> None:
        while not sent or sent[-1].get("more_body", True):
            turns[0] += 1
            await asyncio.sleep(0)

    async def all_of_it() -> None:
        await asyncio.gather(others(), InPieces(memoryview(content))({"type": "http"}, receive, send))

    asyncio.run(all_of_it())
    head, *parts = sent
    assert dict(head["headers"])[b"content-length"] == str(size).encode()
    assert b"".join(part["body"] for part in parts) == content
    assert max(len(part["body"]) for part in parts) <= PIECE_BYTES
    assert turns[0] >= len(parts) >= size / PIECE_BYTES


def test_of_several_long_answers_one_sends_a_piece_at_a_time() -> None:
    sent: list[int] = []
    turns = [0]

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            sent.append(turns[0])

    async def receive() -> Any:
        raise NotImplementedError

    async def others(answers: asyncio.Future[Any]) -> None:
        while not answers.done():
            turns[0] += 1
            await asyncio.sleep(0)

    async def all_of_them() -> None:
        content = bytes(4 * PIECE_BYTES)
        answers = asyncio.gather(*(InPieces(content)({"type": "http"}, receive, send) for _ in range(10)))
        await asyncio.gather(others(answers), answers)

    asyncio.run(all_of_them())
    assert len(sent) == 40
    assert len(set(sent)) == len(sent), "two pieces went between two turns of the others"
