"""The session of the page: a browser gives its token once, and has it kept where no script reads it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from bigsvd.service.http.auth import COOKIE, Reader, user_with
from bigsvd.service.http.bodies import STRICT, StrictRoute
from bigsvd.service.http.dependencies import ServiceHere
from bigsvd.service.http.problems import told
from bigsvd.service.users import Scope, User

router = APIRouter(prefix="/v1", tags=["session"], route_class=StrictRoute)


class SessionBody(BaseModel):
    """What a session is begun with."""

    model_config = STRICT
    token: Annotated[str, Field(min_length=1, max_length=200)]


class MeAnswer(BaseModel):
    """Who asks."""

    owner: str = Field(description="The owner of what this user submits.")
    scopes: list[Scope] = Field(description="What this user may do; admin may all.")
    session: bool = Field(description="Whether a cookie says so, which `DELETE /v1/session` takes away.")

    @classmethod
    def of(cls, user: User, *, session: bool) -> MeAnswer:
        """That of a user."""
        return cls(owner=user.name, scopes=sorted(user.scopes), session=session)


@router.post("/session", responses=told())
async def begin(body: SessionBody, request: Request, response: Response, service: ServiceHere) -> MeAnswer:
    """Have the browser send the token by itself from now on, to this server and from its own pages only."""
    user = await run_in_threadpool(user_with, body.token, service)
    response.set_cookie(
        COOKIE, body.token, path="/", secure=_is_encrypted(request), httponly=True, samesite="strict"
    )
    return MeAnswer.of(user, session=True)


def _is_encrypted(request: Request) -> bool:
    """Whether the browser speaks TLS, with this server or with a proxy before it: it says so itself."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


@router.delete("/session", status_code=204, responses=told())
async def end(response: Response) -> None:
    """Have the browser forget the token; the token itself still holds."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


@router.get("/me", responses=told())
async def me(user: Reader, request: Request) -> MeAnswer:
    """Who asks, and what they may do."""
    return MeAnswer.of(user, session=COOKIE in request.cookies)
