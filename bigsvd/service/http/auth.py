"""Who asks: a bearer token, the cookie of the page, a header of a proxy that is trusted, or nobody.

A token in the query of a URL is refused even where it holds: URLs are logged, kept in histories and sent on.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Annotated, TypeAlias

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from bigsvd.errors import AuthError, ScopeError
from bigsvd.service.service import Service
from bigsvd.service.settings import Settings
from bigsvd.service.users import Scope, User

COOKIE = "bigsvd_session"
_IN_QUERY = ("token", "access_token", "api_key")
_REMEDY = "send the header Authorization: Bearer TOKEN; `bigsvd admin token create` makes one"


def allowed(scope: Scope) -> Callable[[Request], Awaitable[User]]:
    """A dependency: the user who asks, if they may do that.

    Raises:
        AuthError: nobody, or a token that does not hold. ScopeError: a user who may not.

    """

    async def found(request: Request) -> User:
        user = _known(request)
        if user is None:
            user = await run_in_threadpool(user_of, request)
        permitted(user, scope)
        request.state.user = user.name  # for the log
        return user

    return found


def permitted(user: User, scope: Scope) -> User:
    """The user, who may do that; `ScopeError` where not."""
    if not user.may(scope):
        may = ", ".join(sorted(user.scopes)) or "nothing"
        raise ScopeError(f"{user.name} may {may}, and this takes {scope}", "ask with another token")
    return user


def user_of(request: Request) -> User:
    """The user who asks; `AuthError` where that is nobody."""
    return _known(request) or user_with(_secret_of(request), request.app.state.service)


def _known(request: Request) -> User | None:
    """The user who needs no token; None where it takes one."""
    _refuse_in_query(request)
    settings: Settings = request.app.state.service.settings
    if settings.trusted:
        return User(local_name(), frozenset({"admin"}))
    named = _named_by_proxy(request, settings)
    return User(named, frozenset({"read", "submit"})) if named else None


def _refuse_in_query(request: Request) -> None:
    for name in _IN_QUERY:
        if name in request.query_params:
            raise AuthError(f"a token in the query ({name}=) is not taken", _REMEDY)


def user_with(secret: str, service: Service) -> User:
    """The user of a token; `AuthError` where it does not hold, whatever the reason."""
    token = service.tokens.find(secret) if secret else None
    if token is None:
        raise AuthError("no token that holds comes with the request", _REMEDY)
    return User(token.owner, frozenset(token.scopes))


def _secret_of(request: Request) -> str:
    """The token that comes with a request; empty where there is none.

    A header that says something else is not passed over for the cookie.
    """
    header = request.headers.get("authorization")
    if header is None:
        return request.cookies.get(COOKIE, "")
    kind, _, secret = header.partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


def _named_by_proxy(request: Request, settings: Settings) -> str:
    """The user that the trusted proxy says it has asked; empty where another says so."""
    if not settings.user_header or not _comes_from(request, settings.trusted_proxy):
        return ""
    return request.headers.get(settings.user_header, "").strip()


def _comes_from(request: Request, address: str) -> bool:
    """Whether whoever has connected is at that address."""
    return request.client is not None and request.client.host == address


@cache
def local_name() -> str:
    """The name of this process's user, or the number where it has none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


Reader: TypeAlias = Annotated[User, Depends(allowed("read"))]
Submitter: TypeAlias = Annotated[User, Depends(allowed("submit"))]
