"""How a server is: alive, ready, measured, logged, with room on its disks, and with what it has kept."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bigsvd.errors import StorageError
from bigsvd.jobs.record import Record
from bigsvd.service.logs import log_to, tell, without_secrets
from bigsvd.service.operations import health
from bigsvd.service.operations.disk import check_room
from bigsvd.service.operations.looked import Looked
from bigsvd.service.results.retention import size_bytes, sweep
from bigsvd.service.settings import Limits, Retention, Settings
from tests.servers import running
from tests.services import Served, serving
from tests.small_arrays import small_matrix, store
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("operations")) as found:
        store(found.root / "a.zarr", small_matrix())
        yield found


def test_a_server_that_works_is_alive_and_ready(served: Served) -> None:
    assert served.ask("GET", "/healthz") == {"status": "ok"}
    checks = {"database": "ok", "cluster": "ok", "disk": "ok"}
    assert served.ask("GET", "/readyz") == {"ready": True, "checks": checks}


def test_it_is_not_ready_without_room(tmp_path: Path) -> None:
    with serving(tmp_path, limits=Limits(free_bytes=2**60)) as served:
        said = served.ask("GET", "/readyz", 503)
        assert said == {"ready": False, "checks": {"database": "ok", "cluster": "ok", "disk": "E_STORAGE"}}


def test_it_is_not_ready_without_its_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scheduler takes the connection and says nothing, as one that is frozen."""
    monkeypatch.setattr(health, "_PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr("bigsvd.execution.cluster._CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        scheduler = f"tcp://127.0.0.1:{frozen.getsockname()[1]}"
        with serving(tmp_path, scheduler=scheduler) as served:
            begun = time.monotonic()
            said = served.ask("GET", "/readyz", 503)
            assert said["checks"] == {"database": "ok", "cluster": "E_TIMEOUT", "disk": "ok"}
            assert time.monotonic() - begun < 5
            assert served.ask("GET", "/healthz") == {"status": "ok"}


def test_whoever_asks_shares_what_another_has_just_found() -> None:
    asked = []
    gate = threading.Event()

    def look() -> int:
        asked.append(1)
        gate.wait()
        return len(asked)

    looked = Looked(look)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            looked.found(0.01)
    gate.set()
    assert looked.found(10) == looked.found(10) == 1


def samples(text: str) -> dict[str, float]:
    """Of the text format of Prometheus."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_what_is_counted_is_told_as_prometheus_reads_it(served: Served) -> None:
    assert served.ask("GET", "/v1/jobs")["total"] == 0
    answer = served.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = samples(answer.text)
    own = 'method="GET",route="/v1/jobs",status="200"'
    assert found[f"bigsvd_request_seconds_count{{{own}}}"] >= 1
    assert found["bigsvd_queue_oldest_seconds"] == 0.0
    assert found["bigsvd_lease_oldest_seconds"] == 0.0
    assert found[f'bigsvd_free_bytes{{folder="{served.root}"}}'] > 0
    served.client.get("/v1/no-such-thing/with-a-secret")
    text = served.client.get("/metrics").text
    assert 'route="other",status="404"' in text
    assert "with-a-secret" not in text
    served.client.request("BREW-1234", "/v1/jobs")  # such words are as many as anybody likes
    text = served.client.get("/metrics").text
    assert 'method="other",' in text
    assert "BREW" not in text


def test_metrics_take_a_token_from_elsewhere(tmp_path: Path) -> None:
    with serving(tmp_path, trusted=False) as served:
        app = served.client.app
        secret, _ = served.service.tokens.make("", "prometheus", ("read",))
        here = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1))
        elsewhere = TestClient(app, base_url="http://127.0.0.1", client=("10.0.0.1", 1))
        assert here.get("/metrics").status_code == 200
        assert here.get("/metrics", headers={"X-Forwarded-For": "10.0.0.1"}).status_code == 401
        assert elsewhere.get("/metrics").status_code == 401
        assert elsewhere.get("/metrics", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        assert elsewhere.get("/healthz").status_code == 200
        assert elsewhere.get("/readyz").status_code == 200


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """What is logged meanwhile."""
    stream = io.StringIO()
    handler = log_to(stream)
    try:
        yield stream
    finally:
        for name in ("bigsvd.service", "uvicorn"):
            logging.getLogger(name).removeHandler(handler)


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_request_is_a_line_of_json_without_secrets(served: Served) -> None:
    token = "bigsvd_" + "x" * 43
    with logged() as stream:
        served.client.get("/v1/jobs/0123456789", headers={"Authorization": f"Bearer {token}"})
        served.client.get(f"/v1/jobs?token={token}")
        served.client.get("/v1/links/shown-once-and-never-again/zarr/zarr.json")
        served.client.get("/healthz")
    first, second, third = lines_of(stream)
    assert first.pop("seconds") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first.pop("time"))
    assert first.pop("user")
    assert first == {
        "level": "info", "event": "request", "method": "GET", "path": "/v1/jobs/0123456789", "status": 404,
        "job": "0123456789",
    }  # fmt: skip
    assert second["status"] == 401
    assert third["path"] == "/v1/links/***/zarr/zarr.json"
    assert "xxxx" not in stream.getvalue()
    assert "never-again" not in stream.getvalue()


def test_secrets_in_what_others_say_are_not_logged_either() -> None:
    with logged() as stream:
        try:
            raise ValueError("Authorization: Bearer abc.def postgresql://me:hunter2@host/db")
        except ValueError:
            logging.getLogger("uvicorn.error").exception("bigsvd_%s failed", "A" * 43)
        tell("job done", job="0123456789", out="/data/x", nothing=None)
    failed, done = lines_of(stream)
    assert "ValueError" in failed["traceback"]
    for secret in ("abc.def", "hunter2", "AAAA"):
        assert secret not in stream.getvalue()
    assert {"event": "job done", "job": "0123456789", "out": "/data/x"}.items() <= done.items()
    assert "nothing" not in done
    assert without_secrets("/v1/links/abc?x") == "/v1/links/***?x"


def test_what_happens_to_a_job_is_logged_with_its_id(served: Served) -> None:
    with logged() as stream:
        job = served.done(source="a.zarr", k=2, out="logged")["id"]
        told = [line for line in lines_of(stream) if line.get("job") == job and line["event"] != "request"]
    assert [line["state"] for line in told][-1] == "done"
    assert {line["event"] for line in told} == {"job"}


# Without room


def test_on_a_full_disk_what_is_there_is_read_and_deleted(served: Served, tmp_path: Path) -> None:
    job = served.done(source="a.zarr", k=3, out="before")["id"]
    settings = served.service.settings
    object.__setattr__(settings, "limits", replace(settings.limits, free_bytes=2**60))
    try:
        said = served.problem(
            "POST", "/v1/jobs", 507, "E_STORAGE", json={"source": "a.zarr", "k": 2, "out": "b"}
        )
        assert "of free_bytes" in said["detail"]
        served.problem("POST", f"/v1/results/{job}/links", 507, "E_STORAGE", json={})
        served.ask("POST", "/v1/plans", json={"source": "a.zarr", "k": 2})
        assert served.ask("GET", f"/v1/jobs/{job}")["state"] == "done"
        served.ask("GET", f"/v1/results/{job}/rank")
        served.ask("DELETE", f"/v1/results/{job}", 204)
    finally:
        object.__setattr__(settings, "limits", Limits())
    assert not (served.root / "before").exists()


def test_room_is_looked_for_where_a_folder_will_be(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "not/yet", roots=(tmp_path,))
    check_room(settings)
    with pytest.raises(StorageError, match="free_bytes"):
        check_room(replace(settings, limits=Limits(free_bytes=2**60)))


SMALL_DISK = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=16m none "$0" && exec "$@"']


def missing_small_disk(folder: Path) -> str:
    """Why no small disk can be made here; empty if one can."""
    if not shutil.which("unshare"):
        return "unshare is not there (Debian: apt-get install util-linux)"
    tried = subprocess.run([*SMALL_DISK, str(folder), "true"], capture_output=True, text=True, check=False)
    return tried.stderr


def test_a_disk_that_is_full_in_earnest(tmp_path: Path) -> None:
    """State and root on a disk of 16 MB, filled by another: 507 whatever is kept free, no answer 500."""
    if why := missing_small_disk(tmp_path):
        pytest.skip(f"a small disk needs root: {why}")
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ("--limit", "free_bytes=1", "--no-token", "--state", disk / "state")
    with running(disk, *options, under=(*SMALL_DISK, str(disk))) as server:
        root = Path(f"/proc/{server.process.pid}/root{disk}")
        store(root / "a.zarr", small_matrix())
        job = server.done({"source": "a.zarr", "k": 3, "out": "before"})["id"]
        fill(root / "filler")
        codes = set()
        for number in range(40):  # until the database has no page left
            answer = server.post("/v1/jobs", {"source": "a.zarr", "k": 2, "out": f"out{number}"})
            codes.add(answer.status_code)
        assert 507 in codes
        assert codes <= {202, 429, 507}, codes
        assert server.get(f"/v1/jobs/{job}").json()["state"] == "done"
        assert server.get(f"/v1/results/{job}/rank").status_code == 200
        assert server.get("/healthz").status_code == 200
        assert server.delete(f"/v1/results/{job}").status_code == 204
        (root / "filler").unlink()
        again = {"source": "a.zarr", "k": 2, "out": "again"}
        wait_until(lambda: server.post("/v1/jobs", again).status_code in (200, 202), 20, "there is room")


def fill(file: Path) -> None:
    """Take all that is left on a disk."""
    with file.open("wb", buffering=0) as opened:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    opened.write(bytes(size))
            except OSError:
                continue


# What is kept


def test_the_oldest_go_where_all_are_too_many_and_what_is_old_goes(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        service = served.service
        store(served.root / "a.zarr", small_matrix())
        first, second = (served.done(source="a.zarr", k=2, out=f"r{number}")["id"] for number in (1, 2))
        kept_bytes = size_bytes(service.index.job(second), results=True)
        service.settings = replace(service.settings, retention=Retention(bytes=kept_bytes, results=True))
        assert sweep(service, time.time()) == [first]
        assert [(served.root / f"r{number}").exists() for number in (1, 2)] == [False, True]
        assert sweep(service, time.time()) == []
        service.settings = replace(service.settings, retention=Retention(seconds=3600))
        assert sweep(service, time.time()) == []
        assert sweep(service, time.time() + 3700) == [second]
        served.problem("GET", f"/v1/jobs/{second}", 404, "E_JOB")
        assert (served.root / "r2/zarr.json").exists()  # results stay, but where they are to be counted
        assert not Record(served.root / "r2").exists


def test_what_a_later_job_has_made_is_not_taken_for_an_older_ones(tmp_path: Path) -> None:
    with serving(tmp_path, retention=Retention(seconds=0, results=True)) as served:
        store(served.root / "a.zarr", small_matrix())
        old = served.done(source="a.zarr", k=2, out="same")["id"]
        new = served.done(source="a.zarr", k=3, out="same", overwrite=True)["id"]
        row = served.service.index.job(old)
        assert size_bytes(row, results=True) == 0
        assert sweep(served.service, row.updated + 1e-3) == [old]
        assert (served.root / "same/zarr.json").exists()
        Record(served.root / "same").job.write_text("{}")  # damaged: nobody knows whose the result is
        assert sweep(served.service, time.time() + 1) == [new]
        assert (served.root / "same/zarr.json").exists()
