"""What may be wished of a job, in which state; written down for whichever server has it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import IntegrityError

from bigsvd.errors import OutputBusyError, StateError
from bigsvd.service.store.tables import changed, of_job, row_of
from bigsvd.service.store.writer import Turn

_FRESH = {"wish": "", "stopping": False, "error": None, "ended": None, "tries": 0, "not_before": 0.0}


def wished(turn: Turn, job: str, verb: str, *, drop: bool) -> None:
    """Write a wish down.

    Raises:
        JobError, StateError, OutputBusyError: see `Index.wish`.

    """
    row = row_of(turn, job)
    if verb == "stop":
        values = _stop(row)
    elif verb == "resume":
        values = _resume(row)
    else:
        values = _cancel(row, turn.now, drop=drop)
    _write(turn, row, {"updated": turn.now, **values})


def _write(turn: Turn, row: dict[str, Any], values: dict[str, Any]) -> None:
    try:
        with turn.connection.begin_nested():
            turn.change(changed(values, of_job(row["id"])))
    except IntegrityError as error:
        raise OutputBusyError(
            f"another job writes {row['out']} meanwhile", f"wait for it before job {row['id']} goes on"
        ) from error


def _stop(row: dict[str, Any]) -> dict[str, Any]:
    _refuse_ended(row, "stop")
    if row["stage"] == "line":
        raise StateError(
            f"{_job_is(row)} and in line: it has nothing to publish yet",
            "cancel it, or wait until it is at work",
        )
    return {"stopping": True}


def _cancel(row: dict[str, Any], now: float, *, drop: bool) -> dict[str, Any]:
    wish = "drop" if drop else "cancel"
    if row["stage"] == "ended":
        if drop and row["state"] != "done":
            return {"wish": wish}
        _refuse_ended(row, "cancel")
    never_begun = row["stage"] == "line" and row["attempt"] == 0 and row["tries"] == 0
    if never_begun:
        return {"state": "cancelled", "reason": "", "stage": "ended", "ended": now}
    return {"wish": wish, "reason": "is being cancelled"}


def _resume(row: dict[str, Any]) -> dict[str, Any]:
    if row["stage"] != "ended":
        raise StateError(f"{_job_is(row)} and goes on by itself", "wait for it")
    if row["state"] == "done":
        raise StateError(_job_is(row), f"open {row['out']}")
    return {"state": "queued", "reason": "", "stage": "line", **_FRESH}


def _refuse_ended(row: dict[str, Any], verb: str) -> None:
    if row["stage"] == "ended":
        raise StateError(f"{_job_is(row)}: there is nothing to {verb}", "look at its status")


def _job_is(row: dict[str, Any]) -> str:
    return f"job {row['id']} is {row['state']}"
