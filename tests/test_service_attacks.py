"""Ways to other people's results, to a server that is stuck, or to its memory, each of which was open."""

from __future__ import annotations

import os
import shutil
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import select, update

from bigsvd.errors import NoWorkersError, QuotaError
from bigsvd.jobs.files import write_json
from bigsvd.jobs.record import Record
from bigsvd.originals import Original
from bigsvd.results.lock import RunLock
from bigsvd.service.arrays.open_results import Arrays
from bigsvd.service.arrays.recent import Recent
from bigsvd.service.http import guard
from bigsvd.service.http.arrival import Arrival
from bigsvd.service.http.nesting import check_nesting
from bigsvd.service.logs import without_secrets
from bigsvd.service.routes import events, plans
from bigsvd.service.store.tables import jobs, of_job
from bigsvd.service.users import Scope
from bigsvd.service.verification import Task, Verification, Verifiers
from tests.servers import running
from tests.service_jobs import ENDLESS, end_drivers, make_noise
from tests.services import Served, serving
from tests.small_arrays import small_matrix, store
from tests.waiting import wait_until

SECONDS = 60


@dataclass(frozen=True)
class Crowd:
    """A service that asks for tokens, and those of its users."""

    served: Served
    tokens: dict[str, str]

    @property
    def root(self) -> Path:
        return self.served.root

    def ask(self, who: str, method: str, url: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} | options.pop("headers", {})
        return self.served.client.request(method, url, headers=headers, **options)

    def submit(self, who: str, **body: Any) -> str:
        answer = self.ask(who, "POST", "/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def state(self, job: str, *states: str) -> str:
        """The state of a job when it is one of these."""
        found = [""]

        def is_so() -> bool:
            found[0] = self.ask("admin", "GET", f"/v1/jobs/{job}").json()["state"]
            return found[0] in states

        wait_until(is_so, SECONDS, f"job {job} is {' or '.join(states)}")
        return found[0]

    def done(self, who: str, **body: Any) -> str:
        job = self.submit(who, **body)
        assert self.state(job, "done", "failed", "cancelled") == "done"
        return job

    def write(self, job: str, **values: Any) -> None:
        """Into the row of a job, as a server did that was killed then."""
        changed = update(jobs).where(of_job(job)).values(**values)
        self.served.service.database.writer.write(lambda turn: turn.connection.execute(changed))
        self.served.service.runner.wake()

    def row(self, job: str) -> dict[str, Any]:
        with self.served.service.database.reading() as turn:
            return turn.first(select(jobs).where(of_job(job))) or {}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    with serving(tmp_path_factory.mktemp("crowd"), trusted=False, jobs_at_once=2) as served:
        scopes: dict[str, Scope] = {"u1": "submit", "u2": "submit", "admin": "admin"}
        made = {who: served.service.tokens.make("", who, (scope,))[0] for who, scope in scopes.items()}
        store(served.root / "a.zarr", small_matrix())
        store(served.root / "b.zarr", small_matrix(seed=1))
        (served.root / "noise").mkdir()
        make_noise(served.root / "noise")
        yield Crowd(served, made)
        end_drivers(served.root)


# Whose a result is


UNENDING: dict[str, Any] = {"source": "noise/a.zarr", "k": 4, **ENDLESS}  # until it is cancelled or stopped


@pytest.mark.parametrize(
    ("out", "theirs"), [("another", {"source": "b.zarr", "k": 4}), ("equal-one", UNENDING)]
)
def test_a_job_that_is_resumed_takes_nobody_else_s_result(
    crowd: Crowd, out: str, theirs: dict[str, Any]
) -> None:
    """Neither replaces it nor becomes its owner."""
    mine = crowd.submit("u2", out=out, overwrite=theirs is not UNENDING, **UNENDING)
    crowd.ask("u2", "POST", f"/v1/jobs/{mine}/cancel")
    crowd.state(mine, "cancelled")
    if theirs is not UNENDING:  # of whose passes those of another request would be refused a place
        wait_until(lambda: not (crowd.root / f".{out}.bigsvd-lock").exists(), SECONDS, "its driver has ended")
        shutil.rmtree(crowd.root / f"{out}.scratch", ignore_errors=True)
    other = crowd.submit("u1", out=out, **theirs)
    crowd.ask("u1", "POST", f"/v1/jobs/{other}/stop")
    assert crowd.state(other, "done", "failed", "cancelled") == "done"
    refused = crowd.ask("u2", "POST", f"/v1/jobs/{mine}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "E_OUTPUT_EXISTS")
    assert crowd.ask("u1", "GET", f"/v1/results/{other}").status_code == 200
    assert Record(crowd.root / out).asked().owner == "u1"


def test_an_equal_request_makes_nobody_the_owner_of_a_result(crowd: Crowd) -> None:
    """One whose row is gone, as after a database was lost, or that the command line has made."""
    first = crowd.done("u1", source="a.zarr", k=3, out="equal")
    crowd.served.service.database.writer.write(
        lambda turn: turn.connection.execute(jobs.delete().where(of_job(first)))
    )
    second = crowd.done("u2", source="a.zarr", k=3, out="equal")
    assert Record(crowd.root / "equal").asked().owner == "u1"
    assert crowd.ask("u2", "GET", f"/v1/results/{second}").status_code == 200
    assert crowd.ask("u2", "DELETE", f"/v1/results/{second}").status_code == 410
    assert (crowd.root / "equal" / "zarr.json").exists()


def test_links_hold_where_a_result_could_not_be_deleted(crowd: Crowd) -> None:
    job = crowd.done("u1", source="a.zarr", k=3, out="held")
    link = crowd.ask("u1", "POST", f"/v1/results/{job}/links", json={}).json()["zarr_url"]
    lock = RunLock(crowd.root / ".held.bigsvd-lock", "held")
    lock.acquire()
    try:
        assert crowd.ask("u1", "DELETE", f"/v1/results/{job}").status_code == 409
    finally:
        lock.release()
    assert crowd.served.client.get(f"{link}/zarr.json").status_code == 200


# Wishes that come at a bad moment


def test_a_job_that_ended_while_it_was_being_cancelled_keeps_its_scratch_and_is_let_go(crowd: Crowd) -> None:
    job = crowd.submit("u1", source="noise/a.zarr", k=4, out="scratch", **ENDLESS)
    crowd.state(job, "running")
    wait_until((crowd.root / "scratch.scratch").exists, SECONDS, "there is scratch")
    crowd.ask("u1", "POST", f"/v1/jobs/{job}/cancel")
    crowd.state(job, "cancelled")
    crowd.write(job, wish="cancel")
    wait_until(lambda: not crowd.row(job)["wish"], SECONDS, "nothing more is wished")
    assert (crowd.root / "scratch.scratch").exists()
    assert crowd.row(job)["server"] is None


def test_a_job_that_was_done_while_it_was_being_cancelled_is_let_go(crowd: Crowd) -> None:
    job = crowd.done("u1", source="a.zarr", k=3, out="late")
    crowd.write(job, wish="drop")
    wait_until(lambda: not crowd.row(job)["wish"], SECONDS, "nothing more is wished")
    found = crowd.row(job)
    assert (found["state"], found["reason"], found["server"]) == ("done", "", None)


# What lies below a root and is no source


def test_what_nobody_can_read_hides_nothing_else_in_its_folder(crowd: Crowd) -> None:
    odd = crowd.root / "odd"
    (odd / "closed" / "zarr.json").mkdir(parents=True)  # reading it fails, for root too
    (odd / "nested").mkdir()
    (odd / "nested" / "zarr.json").write_text("[" * 100_000)
    (odd / "typed").mkdir()
    (odd / "typed" / ".zarray").write_text('{"shape": [3], "dtype": "(1,"}')
    os.mkfifo(odd / "pipe.npy")
    answer = crowd.ask("u1", "GET", "/v1/sources?folder=odd")
    assert answer.status_code == 200, answer.text
    kinds = {entry["name"]: entry["kind"] for entry in answer.json()["entries"]}
    assert kinds == {"typed": "array"}


# What is counted


def test_no_word_that_a_client_makes_up_becomes_a_label_of_its_own(crowd: Crowd) -> None:
    for number in range(3):
        crowd.served.client.request(f"MADE{number}", "/healthz")
    measured = crowd.ask("u1", "GET", "/metrics").text
    assert "MADE" not in measured
    assert 'method="other"' in measured


# Bodies that are made to be slow to read


@pytest.mark.parametrize("letters", [b'"ab"', b"[" * 60 + b"]" * 60])
def test_how_deep_a_body_is_takes_no_more_memory_than_a_few_bodies(letters: bytes) -> None:
    body = letters * (2**22 // len(letters))
    tracemalloc.start()
    try:
        check_nesting(body, 64)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * len(body)


def test_the_nesting_of_a_large_body_is_looked_at_by_a_thread(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by the event loop, in which everybody else waits."""
    threads: list[str] = []
    monkeypatch.setattr(guard, "check_nesting", lambda *_: threads.append(threading.current_thread().name))
    crowd.ask("u1", "POST", "/v1/plans", json={"source": "a" * 100_000, "k": 3})
    assert threads == ["AnyIO worker thread"]


def test_no_more_samples_come_as_json_than_answers_have_numbers(crowd: Crowd) -> None:
    job = crowd.done("u1", source="a.zarr", k=3, out="projected")
    body = b'{"samples": [[' + b"0," * (2**26 // 24) + b"0]]}"
    answer = crowd.ask(
        "u1", "POST", f"/v1/results/{job}/project", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "E_TOO_LARGE")


@pytest.mark.parametrize("path", ["/v1//links/{}/zarr", "/v1/links//{}", "/V1/Links/{}", "//links/{}?x"])
def test_a_link_that_is_misspelled_is_a_secret_yet(path: str) -> None:
    assert "s3cr3t" not in without_secrets(f"GET {path.format('s3cr3t')} 404")


# What one may take of a server


def test_no_job_asks_for_more_memory_than_its_share(crowd: Crowd) -> None:
    body = {"source": "a.zarr", "k": 3, "memory": "500MiB"}  # of 512 for two jobs
    for path, given in (("/v1/jobs", body | {"out": "greedy"}), ("/v1/plans", body)):
        answer = crowd.ask("u1", "POST", path, json=given)
        assert (answer.status_code, answer.json()["code"]) == (422, "E_MEMORY")
        assert "524.3" in answer.json()["detail"]
        assert "268.4" in answer.json()["detail"]


def test_as_many_results_are_verified_at_a_time_as_may_be(tmp_path: Path) -> None:
    verifiers, task = Verifiers(1), Task("nowhere", "nowhere")
    first, second = (Verification(tmp_path / name) for name in "12")
    verifiers.begin(first, task)
    with pytest.raises(QuotaError, match="verifications"):
        verifiers.begin(second, task)

    def begins() -> bool:
        with suppress(QuotaError):
            verifiers.begin(second, task)
        return second.exists

    wait_until(begins, SECONDS, "the second begins when the first has ended")
    wait_until(lambda: second.state == "failed", SECONDS, "the second has ended")


def test_who_waits_for_the_data_holds_up_nobody_else(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data may lie on a disk that is slow, or hangs."""
    job = crowd.done("u1", source="a.zarr", k=3, out="slow")
    region, go_on = f"/v1/results/{job}/region?rows=0:2&cols=0:2", threading.Event()

    def hangs(*_: object) -> np.ndarray:
        go_on.wait(SECONDS)
        return np.zeros((2, 2))

    monkeypatch.setattr(Original, "region", hangs)
    many = int(crowd.served.service.arrays.background.limiter.total_tokens) + 2
    with ThreadPoolExecutor(many + 1) as pool:
        waiting = [pool.submit(crowd.ask, "u1", "GET", f"{region}&of=original") for _ in range(many)]
        try:
            reading = crowd.served.service.arrays
            wait_until(lambda: _waiting(reading) >= many, SECONDS, "all wait")
            assert pool.submit(crowd.ask, "u1", "GET", region).result(SECONDS / 2).status_code == 200
        finally:
            go_on.set()
        assert {each.result(SECONDS).status_code for each in waiting} == {200}


def test_who_waits_for_a_plan_holds_up_nobody_else(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster may not answer: the page asks for a plan after each change."""
    planning, go_on = crowd.served.service.planning, threading.Event()

    def hangs(*_: object) -> None:
        go_on.wait(SECONDS)
        raise NoWorkersError("nobody answers", "wait")

    monkeypatch.setattr(plans, "plan_of", hangs)
    many = 45  # more than there are threads for everybody together
    with ThreadPoolExecutor(many + 1) as pool:
        body = {"source": "a.zarr", "k": 3}
        waiting = [pool.submit(crowd.ask, "u1", "POST", "/v1/plans", json=body) for _ in range(many)]
        try:
            wait_until(lambda: planning.borrowed_tokens == planning.total_tokens, SECONDS, "some are at work")
            assert pool.submit(crowd.ask, "u1", "GET", "/v1/jobs").result(SECONDS / 2).status_code == 200
        finally:
            go_on.set()
        assert {each.result(SECONDS).status_code for each in waiting} == {503}


def _waiting(arrays: Arrays) -> int:
    """How many threads compute, or wait for their turn."""
    both = (arrays.background.limiter.statistics(), arrays.reading.statistics())
    return sum(each.borrowed_tokens + each.tasks_waiting for each in both)


def test_nothing_is_held_because_it_was_found_long_ago() -> None:
    recent: Recent[_Large] = Recent(0.0, 100)
    found = weakref.ref(recent.get("one", bool, _Large))
    recent.get("another", bool, _Large)
    assert found() is None


class _Large:
    """What takes memory."""


def test_a_small_body_has_not_the_time_of_a_large_one(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to say who they are for it."""
    given: list[float] = []

    async def complete(_: Arrival, most: int, seconds: float) -> None:
        del most
        given.append(seconds)

    monkeypatch.setattr(Arrival, "complete", complete)
    crowd.served.client.post("/v1/results/ab/project", content=b"x")
    assert given == [pytest.approx(crowd.served.service.settings.limits.arrival_seconds, abs=1)]


# Ends of which a server is not sure


def test_a_job_waits_no_longer_because_the_clock_was_set_back(crowd: Crowd) -> None:
    job = crowd.done("u1", source="a.zarr", k=3, out="clock")
    crowd.write(job, stage="line", state="queued", not_before=time.time() + 3600)
    crowd.state(job, "done")


def test_a_job_that_the_server_has_given_up_can_be_deleted(crowd: Crowd) -> None:
    """Its record has no word of that: the driver was lost, and no other could be begun."""
    job = crowd.done("u1", source="a.zarr", k=3, out="given-up")
    record = Record(crowd.root / "given-up")
    write_json(record.attempts / "0001.end.json", {"why": "interrupted", "error": None})
    crowd.write(job, state="failed")
    assert crowd.ask("u1", "DELETE", f"/v1/jobs/{job}").status_code == 204
    assert not record.exists


def test_a_server_ends_though_a_disk_does_not_answer(tmp_path: Path) -> None:
    """Reading a pipe that nobody writes to waits as such a disk does."""
    root = tmp_path / "root"
    (root / "hangs").mkdir(parents=True)
    os.mkfifo(root / "hangs" / "zarr.json")
    with running(root, "--state", tmp_path / "state", "--no-token") as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{server.url}/v1/sources", timeout=SECONDS)
        wait_until(lambda: server.get("/healthz").status_code == 200, SECONDS, "the server answers")
        with pytest.raises(TimeoutError):
            asked.result(1)
        assert server.end() == 0
        asked.exception(SECONDS)


def test_a_stream_ends_when_its_token_is_revoked(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_CHECK_SECONDS", 0.0)
    job = crowd.done("u1", source="a.zarr", k=3, out="followed")
    crowd.write(job, state="running")  # as far as anybody looks
    secret, token = crowd.served.service.tokens.make("", "u3", ("read",))
    headers = {"Authorization": f"Bearer {secret}", "Accept": "text/event-stream"}
    streams = crowd.served.app.state.streams
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(crowd.served.client.get, f"/v1/jobs/{job}/events", headers=headers)
        try:
            wait_until(lambda: streams.open, SECONDS, "the stream is open")
            crowd.served.service.tokens.revoke(token.id)
            wait_until(lambda: not streams.open, SECONDS / 2, "the stream has ended")
        finally:
            crowd.write(job, state="done")
        assert "event: end" not in followed.result(SECONDS).text
