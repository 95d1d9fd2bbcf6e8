"""What a decomposition will cost, before anything is read; and the commands that would do the same."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field

from bigsvd.execution.cluster import Tls, connected
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.service.commands import Commands
from bigsvd.service.http.base_url import called_at
from bigsvd.service.http.bodies import PlanBody, StrictRoute
from bigsvd.service.http.dependencies import READ, Service, ServiceHere
from bigsvd.service.http.problems import told
from bigsvd.solve import foresee
from bigsvd.sources.open import open_source

router = APIRouter(prefix="/v1/plans", tags=["plans"], route_class=StrictRoute)

_WAIT_SECONDS = 5.0  # for a first worker: whoever asks for a plan waits for its answer


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
async def planned(body: PlanBody, service: ServiceHere, http: HttpRequest) -> PlanAnswer:
    """The plan of a request; metadata alone are read."""
    work = partial(_planned, body, service, http)
    return await to_thread.run_sync(work, limiter=service.planning)


def _planned(body: PlanBody, service: Service, http: HttpRequest) -> PlanAnswer:
    asked = body.request()
    plan = plan_of(asked, service)
    commands = Commands.of(asked, called_at(http))
    return PlanAnswer(
        plan=plan.to_dict(),
        summary=PlanSummary.of(plan),
        commands=commands,
        text=str(plan),
    )


def plan_of(request: Request, service: Service) -> Plan:
    """The plan of a request, at nominal rates, with the memory that a job of this server gets.

    Raises:
        BadInputError: a path lies elsewhere, or what the data's metadata show to be impossible.

    """
    asked = service.roots.request(request)
    service.runner.check_memory(asked)
    asked = replace(asked, memory=asked.memory or service.runner.memory_bytes)
    source = open_source(asked.source, **asked.reading)
    service.roots.bounds.check_places(source.places)
    settings = service.settings
    with connected(
        settings.scheduler or None, tls=Tls.of(settings.tls), wait_workers_seconds=_WAIT_SECONDS
    ) as client:
        return foresee(asked, source, client=client)
