"""Threads of low priority that compute large answers."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextvars import ContextVar

import anyio
import pytest

from bigsvd.service.arrays.background import Background

ASKER: ContextVar[str] = ContextVar("asker")


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own there")
def test_the_threads_give_way_to_all_others() -> None:
    background = Background(2)
    assert asyncio.run(background.run(priority)) > priority()
    background.close()


def test_work_knows_who_asked_and_its_errors_reach_them() -> None:
    background = Background(1)
    ASKER.set("somebody")
    assert asyncio.run(background.run(ASKER.get)) == "somebody"
    with pytest.raises(ZeroDivisionError):
        asyncio.run(background.run(lambda: 1 // 0))
    background.close()


def test_what_has_begun_is_waited_for_though_the_asker_has_gone() -> None:
    """Else more would compute at a time than there are turns."""
    background, begun, go_on = Background(1), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(60)

    async def ask_and_leave() -> float:
        async with anyio.create_task_group() as askers:
            askers.start_soon(background.run, work)
            await asyncio.to_thread(begun.wait, 60)
            askers.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                for _ in range(10):  # turns of the loop, in which the asker is told
                    await asyncio.sleep(0)
            taken = background.limiter.borrowed_tokens
            go_on.set()
        return taken if background.limiter.borrowed_tokens == 0 else -1.0

    assert asyncio.run(ask_and_leave()) == 1
    background.close()
