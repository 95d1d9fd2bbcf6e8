"""What is answered about jobs: models that the OpenAPI document has, made of the rows of the index."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from bigsvd.jobs.phase import Name
from bigsvd.jobs.status import State
from bigsvd.service.queue.rows import JobRow


class QualityAnswer(BaseModel):
    """What would be published if the run ended now."""

    passes: int
    relative_error: float
    max_residual: float
    converged: bool


class PhaseAnswer(BaseModel):
    """How far an attempt is."""

    name: Name
    doing: str = Field(description="What it is within that, for people.")
    number: int = Field(description="The pass that goes on, from 1.")
    of: int = Field(description="How many there will be, as far as can be foretold.")
    bytes_done: int = Field(description="Of this pass.")
    bytes_total: int
    passes_done: int = Field(description="In all attempts.")
    quality: QualityAnswer | None = Field(description="After the last pass; null before there is one.")


class ToldAnswer(BaseModel):
    """What a job has failed by."""

    code: str
    message: str
    remedy: str


class JobLinks(BaseModel):
    """Where more about a job is."""

    self: str
    events: str
    log: str
    result: str | None = Field(description="null until it is done.")


class JobAnswer(BaseModel):
    """A job as its record said a moment ago."""

    id: str
    name: str
    labels: dict[str, str]
    owner: str
    source: str
    k: int | Literal["auto"]
    out: str
    state: State
    reason: str = Field(description="Why it waits or is interrupted; empty otherwise.")
    place: int | None = Field(description="In line, from 1; null where it is not in line.")
    phase: PhaseAnswer
    attempt: int = Field(description="The number of the last; 0 before the first.")
    created: datetime
    updated: datetime
    seconds: float = Field(description="From its creation until it ended, or now.")
    stopping: bool = Field(description="Whether it is to publish after this pass.")
    error: ToldAnswer | None
    request: dict[str, Any]
    links: JobLinks

    @classmethod
    def of(cls, row: JobRow) -> JobAnswer:
        """That of a row of the index."""
        here = f"/v1/jobs/{row.id}"
        result = f"/v1/results/{row.id}" if row.state == "done" else None
        own = {
            "source": row.request["source"],
            "k": row.request["k"],
            "created": _date(row.created),
            "updated": _date(row.updated),
            "links": {"self": here, "events": f"{here}/events", "log": f"{here}/log", "result": result},
        }
        return cls.model_validate(vars(row) | own)


class JobsAnswer(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobAnswer]
    next: str | None = Field(description="The cursor of the next page; null where there is none.")
    total: int = Field(description="Of all pages.")


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)
