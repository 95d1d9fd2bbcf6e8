"""Whether a result holds what its certificate promises: found by a process that outlives the server."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from bigsvd.errors import StateError
from bigsvd.originals import source_of
from bigsvd.service.http.answers import ToldAnswer
from bigsvd.service.http.dependencies import READ, SUBMIT, Service, ServiceHere
from bigsvd.service.http.problems import told
from bigsvd.service.results.lookup import ResultId, job_of, opened
from bigsvd.service.verification import Task, Verification

router = APIRouter(prefix="/v1/results", tags=["results"])

_FOLDER = "verifications"  # of results whose job has no record, in the state folder


class OutcomeAnswer(BaseModel):
    """What `bigsvd verify --json` prints."""

    holds: bool
    findings: list[str]
    max_residual: float | None
    relative_error: float | None
    predicted: str | None = Field(
        default=None, description="What a reader has to know of factors that no SVD has computed."
    )


class VerificationAnswer(BaseModel):
    """How a verification stands."""

    state: Literal["running", "done", "failed"]
    verification: OutcomeAnswer | None = Field(description="When it is done.")
    error: ToldAnswer | None = Field(description="What it failed by.")

    @classmethod
    def of(cls, verification: Verification) -> VerificationAnswer:
        """That of a verification."""
        found, told_by = verification.outcome, verification.told
        return cls(
            state=verification.state,
            verification=None if found is None else OutcomeAnswer.model_validate(found),
            error=None if told_by is None else ToldAnswer.model_validate(asdict(told_by)),
        )


@router.post("/{result}/verify", status_code=202, responses=told(404, 409, 410), dependencies=SUBMIT)
def begun(result: ResultId, service: ServiceHere, response: Response) -> VerificationAnswer:
    """Verify it against its data: one read of these, by a process of its own."""
    factors = opened(service, result)
    settings = service.settings
    source = service.roots.source(source_of(factors))
    task = Task(str(factors.path), source, settings.scheduler, settings.tls)
    verification = _verification(service, result)
    service.verifiers.begin(verification, task)
    response.headers["Location"] = f"/v1/results/{result}/verify"
    return VerificationAnswer.of(verification)


@router.get("/{result}/verify", responses=told(404, 409, 410), dependencies=READ)
def looked_at(result: ResultId, service: ServiceHere) -> VerificationAnswer:
    """How its verification stands."""
    opened(service, result)
    verification = _verification(service, result)
    if not verification.exists:
        raise StateError(f"result {result} was not verified here", "ask for it by POST")
    return VerificationAnswer.of(verification)


def _verification(service: Service, result: str) -> Verification:
    """Where a result's verification is kept: with the record of its job, as long as there is one."""
    row = job_of(service, result)
    record = None if row is None else row.record
    if record is not None:
        return Verification(record.verification)
    name = sha256(result.encode()).hexdigest()
    return Verification(service.settings.state / _FOLDER / name)
