"""What routes are given: the service that the application belongs to, its streams, and who asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from bigsvd.service.http.auth import Reader, Submitter, allowed
from bigsvd.service.http.streams import Streams
from bigsvd.service.service import Service
from bigsvd.service.users import User

__all__ = [
    "READ", "SUBMIT", "Reader", "Service", "ServiceHere", "Streams", "StreamsHere", "Submitter", "User"
]  # fmt: skip

# Of routes that do not mind who asks.
READ = [Depends(allowed("read"))]
SUBMIT = [Depends(allowed("submit"))]


async def service_here(request: Request) -> Service:
    """That of this application."""
    found: Service = request.app.state.service
    return found


async def streams_here(request: Request) -> Streams:
    """Those of this application."""
    found: Streams = request.app.state.streams
    return found


ServiceHere = Annotated[Service, Depends(service_here)]
StreamsHere = Annotated[Streams, Depends(streams_here)]
