"""What supervisors and operators ask of the server itself."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from bigsvd.service.http.auth import permitted, user_of
from bigsvd.service.http.host import is_loopback
from bigsvd.service.http.problems import told
from bigsvd.service.operations.health import Operations

router = APIRouter(tags=["operations"])
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")


def operations_here(request: Request) -> Operations:
    """Those of this application."""
    found: Operations = request.app.state.operations
    return found


OperationsHere = Annotated[Operations, Depends(operations_here)]


class Health(BaseModel):
    """That the server lives."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether the server can work."""

    ready: bool
    checks: dict[str, str] = Field(description='Of each thing that it needs "ok", or what is wrong with it.')


@router.get("/healthz")
async def healthz() -> Health:
    """That the server lives: nothing is asked of anything else."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Something is not."}})
async def readyz(operations: OperationsHere, response: Response) -> Readiness:
    """Whether its database can be written, its cluster answers, and its disks have room."""
    checks = await run_in_threadpool(operations.readiness)
    ready = all(said == "ok" for said in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, checks=checks)


@router.get(
    "/metrics", response_class=Response,
    responses=told() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)  # fmt: skip
def metrics(request: Request, operations: OperationsHere) -> Response:
    """What the server has counted, as Prometheus reads it; on the machine itself without a token."""
    if not _is_local(request):
        permitted(user_of(request), "read")
    return Response(operations.measures.text(), media_type=_TEXT)


def _is_local(request: Request) -> bool:
    """Whether whoever asks is on this machine; not so somebody for whom a proxy on it asks."""
    near = request.client is not None and is_loopback(request.client.host)
    return near and not any(name in request.headers for name in _FORWARDED)
