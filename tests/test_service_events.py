"""Events of jobs: streamed and asked for, across rotation, reconnection, a full house and a server's end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bigsvd.errors import JobError
from bigsvd.jobs.files import append_line
from bigsvd.jobs.record import Record
from bigsvd.jobs.tail import SEQ, Tail, last_number
from bigsvd.service.http.streams import Streams
from bigsvd.service.queue.rows import JobRow
from bigsvd.service.routes import events as events_route
from bigsvd.service.routes.events import Followed, stream
from tests.services import Served, serving
from tests.small_arrays import small_matrix, store

STREAM = {"accept": "text/event-stream"}


def noted(record: Record, numbers: range, most_bytes: int = 10**6) -> None:
    for number in numbers:
        append_line(record.events, {SEQ: number, "event": "x"}, most_bytes)


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event[SEQ] for event in events]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    made = Record(tmp_path / "out")
    made.folder.mkdir()
    return made


def test_a_tail_follows(record: Record) -> None:
    tail = Tail(record)
    assert tail.new() == []
    noted(record, range(1, 4))
    assert numbers(tail.new()) == [1, 2, 3]
    assert tail.new() == []
    noted(record, range(4, 6))
    assert numbers(tail.new()) == [4, 5]
    assert numbers(Tail(record, 3).new()) == [4, 5]
    assert numbers(Tail(record).new(2)) == [1, 2]


def test_a_tail_gives_the_rest_next_time(record: Record) -> None:
    noted(record, range(1, 8))
    tail = Tail(record)
    assert [numbers(tail.new(3)) for _ in range(4)] == [[1, 2, 3], [4, 5, 6], [7], []]


def test_a_tail_goes_on_across_rotations(record: Record) -> None:
    tail, seen = Tail(record), []
    for number in range(1, 60):
        noted(record, range(number, number + 1), most_bytes=100)
        seen += numbers(tail.new())
    assert seen == [*range(1, 60)]
    assert numbers(Tail(record, 57).new()) == [58, 59]
    assert last_number(record) == 59


@pytest.mark.parametrize("at_once", [True, False])
def test_a_driver_that_thaws_late_says_nothing_more(record: Record, *, at_once: bool) -> None:
    """It may have been frozen between its look at whose turn it is and its word."""
    tail, seen = Tail(record), []
    for number, attempt in ((1, 1), (2, 1), (3, 2), (3, 1), (4, 2)):
        line = {SEQ: number, "attempt": attempt, "event": "x"}
        append_line(record.events, line, 10**6)
        seen += [] if at_once else tail.new()
    seen += tail.new()
    assert [(event[SEQ], event["attempt"]) for event in seen] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_a_torn_line_is_given_when_it_is_whole(record: Record) -> None:
    noted(record, range(1, 2))
    tail = Tail(record)
    with record.events.open("a") as file:
        file.write('{"seq": 2, "ev')
        file.flush()
        assert numbers(tail.new()) == [1]
        file.write('ent": "x"}\nno json\n{"seq": 3, "event": "x"}\n')
    assert numbers(tail.new()) == [2, 3]


def test_records_without_numbers_are_numbered_by_line(record: Record) -> None:
    for _ in range(3):
        append_line(record.events, {"event": "x"}, 10**6)
    tail = Tail(record, 1)
    assert numbers(tail.new()) == [2, 3]
    append_line(record.events, {"event": "x"}, 10**6)
    assert numbers(tail.new()) == [4]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("events")) as found:
        store(found.root / "data.zarr", small_matrix())
        yield found


@pytest.fixture(scope="module")
def job(served: Served) -> str:
    found: str = served.done(source="data.zarr", k=3, out="factors")["id"]
    return found


def messages(text: str) -> list[dict[str, str]]:
    """The messages of a stream, field by field."""
    parts = [part for part in text.split("\n\n") if part]
    return [dict(line.split(": ", 1) for line in part.splitlines()) for part in parts]


def test_events_are_asked_for(served: Served, job: str) -> None:
    whole = served.ask("GET", f"/v1/jobs/{job}/events")
    assert numbers(whole["events"]) == [*range(1, len(whole["events"]) + 1)]
    kinds = [event["event"] for event in whole["events"]]
    assert kinds[0] == "plan"
    assert {"pass", "pass-end", "certificate", "done"} <= {*kinds}
    assert kinds[-1] == "attempt-end"
    some = served.ask("GET", f"/v1/jobs/{job}/events?after=2&limit=3")
    assert (some["events"], some["next"]) == (whole["events"][2:5], 5)
    none = served.ask("GET", f"/v1/jobs/{job}/events?after=1000")
    assert none == {"events": [], "next": 1000}
    served.problem("GET", "/v1/jobs/0123456789/events", 404, "E_JOB")


def test_numbers_that_json_has_none_for_are_null(served: Served) -> None:
    made = served.done(source="data.zarr", k=1, out="odd")["id"]
    record = Record(served.root / "odd")
    last = {SEQ: 1000, "attempt": 1, "time": 0.0, "event": "x", "value": float("nan"), "other": float("inf")}
    append_line(record.events, last, 10**6)
    [event] = served.ask("GET", f"/v1/jobs/{made}/events?after=999")["events"]
    assert (event["value"], event["other"]) == (None, None)


def test_a_stream_has_all_events_and_ends(served: Served, job: str) -> None:
    answer = served.client.get(f"/v1/jobs/{job}/events", headers=STREAM)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    retry, *events, about, end = messages(answer.text)
    assert retry == {"retry": "2000"}
    asked = served.ask("GET", f"/v1/jobs/{job}/events")["events"]
    assert [json.loads(event["data"]) for event in events] == asked
    assert [int(event["id"]) for event in events] == numbers(asked)
    assert (about["event"], end["event"]) == ("job", "end")
    assert json.loads(end["data"])["state"] == "done"


def test_a_stream_follows_a_job_to_its_end(served: Served) -> None:
    job = served.submit(source="data.zarr", k=4, out="followed")["id"]
    found = messages(served.client.get(f"/v1/jobs/{job}/events", headers=STREAM).text)
    states = [json.loads(message["data"])["state"] for message in found if message.get("event") == "job"]
    assert states[-1] == "done"
    assert states == sorted(states, key=["queued", "running", "done"].index)
    ids = [int(message["id"]) for message in found if "id" in message]
    assert ids == [*range(1, len(ids) + 1)]
    assert found[-1]["event"] == "end"


def test_a_stream_is_taken_up_again(served: Served, job: str) -> None:
    answer = served.client.get(f"/v1/jobs/{job}/events?after=1", headers=STREAM | {"last-event-id": "4"})
    ids = [int(message["id"]) for message in messages(answer.text) if "id" in message]
    assert ids[0] == 5
    served.problem("GET", f"/v1/jobs/{job}/events", 422, "E_REQUEST", headers=STREAM | {"last-event-id": "x"})


def test_only_so_many_streams_are_open(served: Served, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(1, served.service.index.job)
    monkeypatch.setattr(served.app.state, "streams", streams)
    with streams.one():
        told = served.problem("GET", f"/v1/jobs/{job}/events", 429, "E_QUOTA", headers=STREAM)
        assert "limits.streams=1" in told["detail"]
    assert served.client.get(f"/v1/jobs/{job}/events", headers=STREAM).status_code == 200
    assert streams.open == 0


class Waiting(Followed):
    """A job of which nothing new comes."""

    def look(self) -> list[bytes]:
        return []


def test_streams_end_with_the_server_and_say_meanwhile_that_they_live(
    served: Served, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_route, "_KEEP_ALIVE_SECONDS", 0.0)
    monkeypatch.setattr(events_route, "_LOOK_SECONDS", 0.0)
    streams = Streams(9, served.service.index.job)
    row = served.service.index.job(job)
    waiting = Waiting(streams.job, row.__class__(**{**vars(row), "state": "running"}), 0)

    async def followed() -> list[bytes]:
        parts: list[bytes] = []
        async for part in stream(waiting, streams):
            parts.append(part)
            assert streams.open == 1
            if len(parts) == 3:
                streams.close()
        return parts

    parts = asyncio.run(asyncio.wait_for(followed(), 60))
    assert parts[0] == b"retry: 2000\n\n"
    assert parts[1] == b": \n\n"
    assert len(parts) <= 4
    assert streams.open == 0


def test_streams_of_one_job_ask_for_it_once(served: Served, job: str) -> None:
    asked: list[str] = []

    def look(which: str) -> JobRow:
        asked.append(which)
        return served.service.index.job(which)

    streams = Streams(9, look)
    rows = {id(streams.job(job)) for _ in range(50)}
    assert len(rows) == len(asked) < 5
    with pytest.raises(JobError):
        streams.job("0123456789")


def test_a_stream_ends_when_its_job_is_deleted(served: Served) -> None:
    made = served.done(source="data.zarr", k=2, out="deleted")["id"]
    row = served.service.index.job(made)
    served.ask("DELETE", f"/v1/jobs/{made}", 204)
    streams = Streams(9, served.service.index.job)

    async def followed() -> list[bytes]:
        return [part async for part in stream(Followed(streams.job, row, 0), streams)]

    assert asyncio.run(asyncio.wait_for(followed(), 60)) == [b"retry: 2000\n\n"]
    assert streams.open == 0
