"""The events of a job: as a stream of server-sent events, or by asking again where no stream comes through.

https://html.spec.whatwg.org/multipage/server-sent-events.html: an event is some lines ``field: value`` and an
empty one; the id of the last is given when the stream is opened again, and none is missed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bigsvd.client.wire import BROKEN, Wire

_LOOK_SECONDS = 1.0
_TRIES = 2  # to open a stream that brings nothing, before asking is all that is left


@dataclass(frozen=True)
class Message:
    """One server-sent event."""

    event: str = "message"
    data: str = ""
    id: str = ""


def messages(lines: Iterable[str]) -> Iterator[Message]:
    """The events that lines of a stream make; comments, by which a server shows that it lives, are none."""
    fields: dict[str, list[str]] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        elif fields.keys() & {"event", "data", "id"}:
            yield _message(fields)
            fields = {}
        else:
            fields = {}


def _message(fields: dict[str, list[str]]) -> Message:
    last = {name: values[-1] for name, values in fields.items()}
    return Message(last.get("event", "message"), "\n".join(fields.get("data", [])), last.get("id", ""))


class Events:
    """Those of the job at `path`; each iteration begins with its first."""

    def __init__(self, wire: Wire, path: str) -> None:
        self._wire = wire
        self._path = f"{path}/events"
        self._after: int | str = 0  # the number of the last that was told

    def so_far(self) -> Iterator[dict[str, Any]]:
        """Those that have happened."""
        while found := self._next():
            yield from found

    def as_they_come(self, has_ended: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Each when it happens, until the job has ended."""
        tries = _TRIES
        while tries:
            before = self._after
            ended = yield from self._streamed()
            if ended:
                return
            tries = _TRIES if self._after != before else tries - 1
        yield from self._asked(has_ended)

    def _streamed(self) -> Generator[dict[str, Any], None, bool]:
        """Those of one stream; whether the job has ended with it."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self._after)}
        try:
            with self._wire.lines(self._path, headers=headers) as lines:
                for message in messages(lines or ()):
                    if message.event == "end":
                        return True
                    if message.event == "message":  # others say how the job stands
                        self._after = message.id or self._after
                        yield json.loads(message.data)
        except BROKEN:
            return False
        return False

    def _asked(self, has_ended: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """The same by polling."""
        while True:
            ended = has_ended()  # asked before each look, which then has the last of them
            yield from self.so_far()
            if ended:
                return
            self._wire.pause(_LOOK_SECONDS)

    def _next(self) -> list[dict[str, Any]]:
        """Those after the last that was told, as many as one answer has."""
        values = self._wire.told("GET", self._path, params={"after": self._after})
        found: list[dict[str, Any]] = values["events"]
        self._after = values["next"]
        return found
