"""The client and the commands with `--service`, against the real application and a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import zarr
from starlette.testclient import TestClient

import bigsvd
from bigsvd.client import client as client_module
from bigsvd.client.wire import Wire
from bigsvd.errors import (
    CancelledError,
    JobError,
    PathError,
    RankError,
    RequestError,
    StateError,
)
from bigsvd.jobs.index import remember
from bigsvd.jobs.record import Record
from tests.commands import done, refused
from tests.services import Served, serving
from tests.small_arrays import small_matrix, store
from tests.waiting import wait_until

ASKED: dict[str, Any] = {"center": True, "method": "krylov"}


class InProcess(httpx.BaseTransport):
    """Brings requests to an application in this process."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._client.request(
            request.method,
            request.url.raw_path.decode(),
            headers=dict(request.headers),
            content=request.read(),
        )
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("service")) as found:
        store(found.root / "a.zarr", small_matrix())
        yield found


@pytest.fixture
def client(served: Served) -> bigsvd.Client:
    found = bigsvd.Client("http://127.0.0.1")
    found._wire = Wire("http://127.0.0.1", transport=InProcess(served.client))
    return found


@pytest.fixture(scope="module")
def job(served: Served) -> str:
    """The id of a job that is done."""
    found: str = served.done(source="a.zarr", k=4, out="done", name="first", labels={"lab": "blue"}, **ASKED)[
        "id"
    ]
    return found


def test_a_job_from_its_plan_to_its_end(client: bigsvd.Client, served: Served) -> None:
    plan = client.plan("a.zarr", 4, **ASKED)
    memory = served.service.runner.memory_bytes  # which the service gives to each job
    assert plan == bigsvd.plan(str(served.root / "a.zarr"), 4, memory=memory, **ASKED)
    job = client.submit("a.zarr", 4, "life", name="life", labels={"lab": "red"}, **ASKED)
    happened = list(job.follow())
    assert job.wait(60).info()["k"] == 4
    assert job.status.state == "done"
    assert [event["event"] for event in happened] == [event["event"] for event in job.events()]
    assert happened[-1]["seq"] == len(happened)
    assert job.log() == Record(served.root / "life").log.read_text()
    assert client.submit("a.zarr", 4, "life", name="life", labels={"lab": "red"}, **ASKED).id == job.id
    assert [status.asked.id for status in client.jobs(label=("lab", "red"))] == [job.id]
    assert client.job("life").id == client.job(job.id).id == job.id
    for wish in (job.stop, job.cancel):
        with pytest.raises(StateError):
            wish()
    job.forget()
    with pytest.raises(JobError):
        client.job(job.id)
    assert (served.root / "life" / "zarr.json").exists()


def test_a_job_is_stopped_cancelled_and_resumed(client: bigsvd.Client, served: Served) -> None:
    noise = np.random.default_rng(0).standard_normal((2_000, 1_600)).astype(np.float32)
    zarr.create_array(str(served.root / "noise.zarr"), data=noise, chunks=(100, 1_600))
    job = client.submit("noise.zarr", 4, "endless", method="krylov", tol=1e-14, max_passes=2_000)
    job.cancel()
    with pytest.raises(CancelledError):
        job.wait(60)
    job.resume()
    wait_until(lambda: job.status.phase.quality, 60, "a pass has ended")
    job.stop()
    assert not job.wait(60).certificate.converged


def test_a_result_is_what_it_is_here(client: bigsvd.Client, served: Served, job: str) -> None:
    here, there = bigsvd.open(served.root / "done"), client.result(job)
    facts = json.loads(json.dumps(here.info()))
    assert {name: there.info()[name] for name in facts} == facts
    assert there.certificate == here.certificate
    assert there.rank() == done("rank", served.root / "done", "--json").facts
    assert there.spectrum().to_dict() == here.spectrum().to_dict()
    assert np.array_equal(there.region(slice(0, 10), (3, 9), k=2), here.truncate(2)[:10, 3:9])
    difference = there.region((0, 5), of="difference")
    assert np.allclose(difference, small_matrix()[:5] - here[:5], atol=1e-6)
    assert np.array_equal(there.components("rows", slice(0, 7)), np.asarray(here.U[:7]).T)
    assert np.array_equal(there.components("cols"), np.asarray(here.Vt[:]))
    rows = small_matrix(seed=0)[:3]
    assert np.allclose(there.project(rows), here.project(rows))
    assert there.verify().findings == ()


def test_what_is_refused_is_raised_as_what_it_is(client: bigsvd.Client, job: str) -> None:
    with pytest.raises(PathError, match="lies outside"):
        client.plan("/etc/passwd", 4)
    with pytest.raises(RequestError):
        client.plan("a.zarr", 4, device_memory=10, device="cpu")
    with pytest.raises(RankError):
        client.plan("a.zarr", 400)
    with pytest.raises(JobError):
        client.result("ffffffffff").info()


def test_links_are_made_and_revoked(client: bigsvd.Client, served: Served, job: str) -> None:
    result = client.result(job)
    link = result.link(seconds=60, name="for Ada", k=2)
    assert [each["id"] for each in result.links()] == [link.id]
    path = httpx.URL(link.url).path
    assert path.endswith("/zarr/reconstruction")
    assert httpx.URL(link.zarr_url).path == path.removesuffix("/reconstruction")
    result.revoke(link)
    assert result.links() == []


def test_a_result_is_truncated_and_deleted(client: bigsvd.Client, served: Served) -> None:
    job = client.submit("a.zarr", 3, "to-delete", **ASKED)
    result = job.wait(60)
    assert result.truncate(2, "fewer")["k"] == 2
    assert bigsvd.open(served.root / "fewer").k == 2
    result.delete()
    assert not (served.root / "to-delete").exists()
    with pytest.raises(bigsvd.errors.BigsvdError):
        client.result(job.id).info()


@pytest.fixture
def by_command(served: Served, job: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Commands with --service reach the application in this process; the id of the job that is done."""
    monkeypatch.setattr(client_module, "Wire", partial(Wire, transport=InProcess(served.client)))
    return job


SERVICE = ("--service", "http://127.0.0.1")


@pytest.mark.parametrize(
    "command",
    [
        ("info",), ("info", "--json"), ("rank",), ("rank", "--energy", "0.5", "--json"), ("wait",),
        ("wait", "--json"), ("logs",), ("logs", "--events"), ("verify",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_command_prints_the_same_with_a_service(
    by_command: str, served: Served, command: tuple[str, ...]
) -> None:
    name, *options = command
    out = served.root / "done"
    here = done(name, out, *([served.root / "a.zarr"] if name == "verify" else []), *options)
    for called in (by_command,) if name == "verify" else (out, by_command):
        there = done(name, called, *options, *SERVICE)
        if "--json" in options:
            assert there.facts == here.facts
        else:
            assert there.out.replace(by_command, str(out)) == here.out.replace(by_command, str(out))


def test_status_and_jobs_are_the_same_but_for_who_drives(by_command: str, served: Served) -> None:
    record = Record(served.root / "done")
    remember(by_command, record)
    here, there = (
        done("status", by_command, "--json").facts,
        done("status", by_command, "--json", *SERVICE).facts,
    )
    differ = {name for name in here if here[name] != there[name]}
    assert differ <= {"where", "submitted", "seconds", "labels"}
    lines = [done("status", by_command, *more).out.splitlines() for more in ((), SERVICE)]
    assert [line for line in lines[0] if "driver" not in line and "time" not in line] == [
        line for line in lines[1] if "driver" not in line and "time" not in line
    ]
    [row] = [row for row in done("jobs", "--json", *SERVICE).facts if row["id"] == by_command]
    assert row["name"] == "first"
    assert by_command in done("jobs", served.root, *SERVICE).out
    assert done("jobs", "nowhere", *SERVICE).out == ""


def test_plan_and_submit_by_a_service(by_command: str, served: Served) -> None:
    memory = served.service.runner.memory_bytes
    here = done("plan", served.root / "a.zarr", "-k", 4, "--center", "--memory", memory)
    assert done("plan", served.root / "a.zarr", "-k", 4, "--center", *SERVICE).out == here.out
    ended = done(
        "submit", "a.zarr", "by-command", "-k", 2, "--name", "typed", "--label", "lab=green", *SERVICE
    )
    job = ended.out.strip()
    again = done(
        "submit", "a.zarr", "by-command", "-k", 2, "--name", "typed", "--label", "lab=green", *SERVICE
    )
    assert again.out.strip() == job
    assert "this job is there already" in again.err
    assert "k=2" in done("wait", "by-command", *SERVICE).out
    assert "  done" in done("status", job, "--watch", *SERVICE).out
    assert "E_STATE" in refused(2, "stop", job, *SERVICE)


@pytest.mark.parametrize(
    ("typed", "option"),
    [
        (("submit", "a.zarr", "x", "-k", "2", "--scheduler", "tcp://x:1"), "--scheduler"),
        (("submit", "a.zarr", "x", "-k", "2", "--attach"), "--attach"),
        (("resume", "x", "--storage-option", "a=b"), "--storage-option"),
        (("verify", "x", "data"), "DATA"),
        (("verify", "x", "--device", "cpu"), "--device"),
    ],
)
def test_what_a_service_decides_is_no_option_beside_it(
    by_command: str, typed: tuple[str, ...], option: str
) -> None:
    assert f"{option} has no effect with --service" in refused(2, *typed, *SERVICE)


def test_the_service_and_the_token_may_be_in_the_environment(
    served: Served, by_command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    headers: list[str] = []

    def noted(request: httpx.Request) -> httpx.Response:
        headers.append(request.headers.get("authorization", ""))
        return InProcess(served.client).handle_request(request)

    monkeypatch.setattr(client_module, "Wire", partial(Wire, transport=httpx.MockTransport(noted)))
    monkeypatch.setenv("BIGSVD_SERVICE", "http://127.0.0.1")
    monkeypatch.setenv("BIGSVD_TOKEN", "from-environment")
    done("info", by_command)
    (tmp_path / "token").write_text("from-file\n")
    done("info", by_command, "--token-file", tmp_path / "token")
    assert headers == ["Bearer from-environment", "Bearer from-file"]
    assert "no job writes nothing" in refused(2, "status", "nothing", "--service", "")
    assert "no token can be read" in refused(2, "status", "nothing", "--token-file", tmp_path / "none")
    monkeypatch.delenv("BIGSVD_SERVICE")
    assert "--token-file has no effect" in refused(2, "status", "x", "--token-file", tmp_path / "token")
