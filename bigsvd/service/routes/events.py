"""What happens to a job: as a stream of server-sent events, or by asking again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, ConfigDict, Field

from bigsvd.errors import AuthError, JobError, StorageError
from bigsvd.jobs.tail import SEQ, Tail
from bigsvd.service.http.answers import JobAnswer
from bigsvd.service.http.auth import user_of
from bigsvd.service.http.dependencies import READ, ServiceHere, Streams, StreamsHere
from bigsvd.service.http.problems import told
from bigsvd.service.queue.rows import JobRow
from bigsvd.service.results.lookup import JobId

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_EVENTS = "text/event-stream"
_LOOK_SECONDS = 0.5
_KEEP_ALIVE_SECONDS = 15.0
_CHECK_SECONDS = 5.0  # after which it is asked again whether whoever follows may do so
_AGAIN_MILLISECONDS = 2000  # until a reader whose stream was ended comes again
_MOST = 1000  # events of one answer
_LARGEST = 2**53


class EventAnswer(BaseModel):
    """Something that happened; further fields are those of its kind."""

    model_config = ConfigDict(extra="allow")
    seq: int = Field(description="Its number in the record, from 1.")
    attempt: int
    time: float = Field(description="Seconds since the epoch.")
    event: str = Field(description="Its kind.")


class EventsAnswer(BaseModel):
    """Some events, oldest first."""

    events: list[EventAnswer]
    next: int = Field(description="What to ask with as `after` next time.")


@router.get(
    "/{job}/events",
    response_model=EventsAnswer,
    responses=told(404)
    | {200: {"content": {_EVENTS: {"schema": {"type": "string"}}}, "description": "As `Accept` asks."}},
    dependencies=READ,
)
async def events(
    job: JobId,
    service: ServiceHere,
    streams: StreamsHere,
    http: Request,
    after: Annotated[int, Query(ge=0, le=_LARGEST, description="Only events behind this number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = _MOST,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[int | None, Header(ge=0, le=_LARGEST)] = None,
) -> Response:
    """What has happened since number `after`.

    With `Accept: text/event-stream` as it happens: messages are the events, with their numbers as ids;
    `job` is the job when it has changed, and `end` when it has ended. A stream that ends without `end` was
    ended by the server, and may be taken up again by `Last-Event-ID`.
    """
    row = await run_in_threadpool(service.index.job, job)
    if _EVENTS in accept:
        streams.check()
        since = after if last_event_id is None else last_event_id
        followed = Followed(streams.job, row, since, partial(user_of, http))
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream(followed, streams), headers=headers, media_type=_EVENTS)
    return await run_in_threadpool(_polled, row, after, limit)


def _polled(row: JobRow, after: int, limit: int) -> Response:
    tail = _tail_of(row, after)
    found = [] if tail is None else tail.new(limit)
    answer = EventsAnswer.model_validate({"events": found, "next": found[-1][SEQ] if found else after})
    return Response(answer.model_dump_json(), media_type="application/json")


def _tail_of(row: JobRow, after: int) -> Tail | None:
    """The events of a job; None before it has a record."""
    record = row.record
    return None if record is None else Tail(record, after)


class Followed:
    """A job that somebody follows: what is new of it since the last look."""

    def __init__(
        self,
        look: Callable[[str], JobRow],
        row: JobRow,
        after: int,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self.row = row
        self._look = look
        self._check = check
        self._checked = time.monotonic()
        self._after = after
        self._tail: Tail | None = None
        self._seen: JobRow | None = None
        self._told = ""

    def look(self) -> list[bytes]:
        """New messages. The job is looked at before its events: they are all there when it has ended.

        Raises:
            JobError: somebody has deleted it. AuthError: whoever follows may not do so any more.

        """
        if time.monotonic() - self._checked > _CHECK_SECONDS:
            self._check()
            self._checked = time.monotonic()
        self.row = self._look(self.row.id)
        messages = [_event(event) for event in self._new_events()]
        if self._has_changed():
            messages.append(self._message("job"))
        if self.row.has_ended:
            messages.append(self._message("end"))
        return messages

    def _has_changed(self) -> bool:
        """Whether more than time has passed for the job since it was told of last."""
        if self.row is self._seen:
            return False
        self._seen, before = self.row, self._told
        self._told = JobAnswer.of(self.row).model_dump_json(exclude={"seconds", "updated"})
        return self._told != before

    def _new_events(self) -> list[dict[str, Any]]:
        self._tail = self._tail or _tail_of(self.row, self._after)
        return [] if self._tail is None else self._tail.new()

    def _message(self, kind: str) -> bytes:
        return format_sse_event(data_str=JobAnswer.of(self.row).model_dump_json(), event=kind)


def _event(event: dict[str, Any]) -> bytes:
    text = EventAnswer.model_validate(event).model_dump_json()
    return format_sse_event(data_str=text, id=str(event[SEQ]))


async def stream(followed: Followed, streams: Streams) -> AsyncIterator[bytes]:
    """Messages until the job has ended or is deleted, or the server is to end.

    And until whoever follows may not do so any more, or the database fails: whoever asks again is told so.
    """
    with streams.one(), suppress(JobError, AuthError, StorageError):
        yield format_sse_event(retry=_AGAIN_MILLISECONDS)
        said = time.monotonic()
        while True:
            messages = await run_in_threadpool(followed.look)
            if messages:
                yield b"".join(messages)
                said = time.monotonic()
            elif time.monotonic() - said > _KEEP_ALIVE_SECONDS:
                yield format_sse_event(comment="")
                said = time.monotonic()
            if followed.row.has_ended or streams.closing:
                return
            await asyncio.sleep(_LOOK_SECONDS)
