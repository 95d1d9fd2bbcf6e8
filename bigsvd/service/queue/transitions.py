"""What is to be written of a job in the index when it has ended, or is to be begun again."""

from __future__ import annotations

import math
from typing import Any

from bigsvd.errors import BigsvdError
from bigsvd.jobs.attempt import Told
from bigsvd.jobs.record import Terms
from bigsvd.jobs.status import State

Row = dict[str, Any]  # of the table of jobs
Changes = dict[str, Any]  # of such a row; with `pause_seconds` before the job may be claimed
FREE: Changes = {"server": None, "lease": None, "wish": ""}
MOST_PAUSE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 1.0


def ended(state: State, error: Told | None = None) -> Changes:
    """It has ended so, and nothing more happens by itself."""
    return {"stage": "ended", "state": state, "reason": "", "error": error and _said(error), **FREE}


def _said(error: Told) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "remedy": error.remedy}


def failed(error: BaseException) -> Changes:
    """It has failed by that."""
    return ended("failed", Told.of(error))


def again(row: Row, state: State, error: BigsvdError, passes_done: int) -> Changes:
    """It waits in that state to be begun again, a little later each time; too often in vain, it has failed.

    No try was in vain since which a pass was finished: `passes_done` are those of all attempts.
    """
    tries = 1 if passes_done > row["passes"] else row["tries"] + 1
    if tries >= Terms(**row["terms"]).attempts:
        return failed(error)
    pause_seconds = min(MOST_PAUSE_SECONDS, math.ldexp(_FIRST_PAUSE_SECONDS, tries - 1))
    waits = {"stage": "line", "state": state, "reason": error.message, "pause_seconds": pause_seconds}
    return {**waits, "tries": tries, "passes": passes_done, "server": None, "lease": None}
