"""What a service says of jobs, as the values that records of this machine are read into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from bigsvd.catalog.table import owner_of
from bigsvd.errors import ServiceError, by_code
from bigsvd.jobs.attempt import Told
from bigsvd.jobs.phase import Phase
from bigsvd.jobs.record import Asked
from bigsvd.jobs.status import JobStatus
from bigsvd.request import Request


def status_from(values: Mapping[str, Any]) -> JobStatus:
    """How a job stands, of the JSON of a service.

    Raises:
        ServiceError: it is not the JSON of a job.

    """
    try:
        return _status(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ServiceError(
            f"the service speaks of a job in another way ({type(error).__name__}: {error})",
            "use a client of its version",
        ) from error


def _status(values: Mapping[str, Any]) -> JobStatus:
    asked = Asked(
        values["id"], _request(values["request"]), "", values["owner"], values["name"], dict(values["labels"])
    )
    return JobStatus(
        asked,
        out=values["out"],
        state=values["state"],
        reason=_reason(values["reason"], values.get("place")),
        phase=Phase.from_dict(dict(values["phase"])),
        attempt=values["attempt"],
        submitted=datetime.fromisoformat(values["created"]).timestamp(),
        seconds=values["seconds"],
        stopping=values["stopping"],
        error=_told(values["error"]),
    )


def _request(values: Mapping[str, Any]) -> Request:
    """What was asked for, as far as this version knows its fields."""
    known = {field.name for field in fields(Request)}
    return Request.from_dict(
        {name: value for name, value in values.items() if name in known or owner_of(name) is not None}
    )


def _reason(reason: str, place: int | None) -> str:
    """Why a job waits, with its place in line where that does not say it."""
    if place is None or "in line" in reason:
        return reason
    return f"{reason}, number {place} in line".removeprefix(", ")


def _told(values: Mapping[str, Any] | None) -> Told | None:
    if values is None:
        return None
    error = by_code(values["code"], values["message"], values["remedy"])
    return Told(values["code"], error.message, error.remedy, error.exit_status)
