"""Waiting for the end of a job, wherever its record lies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from bigsvd.errors import JobLostError, RuntimeLimitError
from bigsvd.jobs.status import JobStatus


def end_of(
    look: Callable[[], JobStatus],
    pause: Callable[[], None],
    patience_seconds: float,
    timeout_seconds: float | None,
    remedy: str,
) -> JobStatus:
    """How a job stands when it has ended.

    Args:
        look: how it stands now.
        pause: what comes between two looks.
        patience_seconds: for another driver, in place of one that is lost.
        timeout_seconds: for the end; None for however long it takes.
        remedy: what to do where no other driver comes.

    Raises:
        JobLostError: its driver is gone, and nobody has started another. RuntimeLimitError: it goes on.

    """
    begun = lost = time.monotonic()
    longest = math.inf if timeout_seconds is None else timeout_seconds
    while not (status := look()).has_ended:
        now = time.monotonic()
        if status.state != "interrupted":
            lost = now
        elif now - lost >= patience_seconds:
            raise JobLostError(f"job {status.asked.id} is interrupted: {status.reason}", remedy)
        if now - begun >= longest:
            raise RuntimeLimitError(
                f"job {status.asked.id} has not ended within {longest:g} s; it is in {status.phase}",
                "it goes on: wait again",
            )
        pause()
    return status
