"""What a decomposition will cost, before anything is read; and the commands that would do the same."""

from __future__ import annotations

from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from bigsvd.planning.plan import Plan
from bigsvd.service.addressed import called_at
from bigsvd.service.bodies import PlanBody, StrictRoute
from bigsvd.service.commands import Commands
from bigsvd.service.foresight import plan_of
from bigsvd.service.here import READ, Service, ServiceHere
from bigsvd.service.problems import told

router = APIRouter(prefix="/v1/plans", tags=["plans"], route_class=StrictRoute)


class PlanSummary(BaseModel):
    """The figures that people decide by."""

    method: str
    k: int
    passes: float = Field(description="Over all data, expected to the usual tolerance; the sample included.")
    bytes_read: int = Field(description="Uncompressed, in all passes.")
    seconds: float = Field(description="At nominal rates.")
    memory_bytes: int = Field(description="Held at most, beyond interpreter and libraries.")
    scratch_bytes: int
    result_bytes: int
    input_bytes: int = Field(description="Uncompressed.")

    @classmethod
    def of(cls, plan: Plan) -> PlanSummary:
        """Those of a plan."""
        return cls(
            method=plan.method, k=plan.k, passes=plan.expected_passes, bytes_read=plan.bytes_to_read,
            seconds=plan.seconds, memory_bytes=plan.memory_bytes, scratch_bytes=plan.scratch_bytes,
            result_bytes=plan.output_bytes, input_bytes=plan.facts.nbytes,
        )  # fmt: skip


class PlanAnswer(BaseModel):
    """A plan, as `bigsvd plan --json` prints it, and what it comes to."""

    plan: dict[str, Any]
    summary: PlanSummary
    commands: Commands
    text: str = Field(description="The plan as `bigsvd plan` prints it.")


@router.post("", responses=told(413), dependencies=READ)
async def planned(body: PlanBody, service: ServiceHere, http: Request) -> PlanAnswer:
    """The plan of a request; metadata alone are read."""
    work = partial(_planned, body, service, http)
    return await to_thread.run_sync(work, limiter=service.planning)


def _planned(body: PlanBody, service: Service, http: Request) -> PlanAnswer:
    asked = body.request()
    plan = plan_of(asked, service)
    commands = Commands.of(asked, called_at(http))
    return PlanAnswer(
        plan=plan.to_dict(),
        summary=PlanSummary.of(plan),
        commands=commands,
        text=str(plan),
    )
