"""The service's answers, in this process: plans, jobs, results and their parts, links, sources."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigsvd
from bigsvd.jobs.record import Record
from bigsvd.results.folders import metadata_of
from bigsvd.results.store import mark_of
from bigsvd.service.commands import Commands
from bigsvd.service.routes import sources
from bigsvd.service.users import Scope
from tests.commands import done
from tests.services import TRIPLETS, Served, serving
from tests.small_arrays import small_matrix, store
from tests.waiting import wait_until

LIMIT_SECONDS = 120


@dataclass(frozen=True)
class Case:
    """A service with one finished job."""

    served: Served
    data: np.ndarray
    source: Path
    out: Path
    job: str

    @property
    def url(self) -> str:
        return f"/v1/results/{self.job}"

    @property
    def factors(self) -> bigsvd.Factors:
        return bigsvd.open(self.out)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("api")
    with serving(folder) as served:
        data = small_matrix()
        data[3, 5] = data[50, 70] = np.nan
        source = store(served.root / "data.zarr", data)
        job = served.done(
            source="data.zarr", k=TRIPLETS, out="factors", missing="mean", center=True, name="first",
            labels={"lab": "blue"},
        )  # fmt: skip
        yield Case(served, data, source, served.root / "factors", job["id"])


def test_a_job_says_what_it_is(case: Case) -> None:
    job = case.served.ask("GET", f"/v1/jobs/{case.job}")
    assert (job["name"], job["labels"], job["k"]) == ("first", {"lab": "blue"}, TRIPLETS)
    assert job["source"] == str(case.source)
    assert job["out"] == str(case.out)
    assert job["phase"]["quality"]["converged"]
    assert job["links"]["result"] == case.url
    assert job["created"].endswith("Z")
    assert job["error"] is None


def test_jobs_are_listed(case: Case) -> None:
    page = case.served.ask("GET", "/v1/jobs?state=done&label=lab=blue&q=first&owner=me")
    assert [job["id"] for job in page["jobs"]] == [case.job]
    assert (page["total"], page["next"]) == (1, None)
    for other in ("state=failed", "label=lab=red", "q=second", "owner=nobody"):
        assert case.served.ask("GET", f"/v1/jobs?{other}")["jobs"] == []
    case.served.problem("GET", "/v1/jobs?label=lab", 422, "E_REQUEST")
    case.served.problem("GET", "/v1/jobs?limit=100000", 422, "E_REQUEST")
    case.served.problem("GET", "/v1/jobs?cursor=x", 422, "E_REQUEST")
    case.served.problem("GET", "/v1/jobs?state=lost", 422, "E_REQUEST")


def test_the_same_request_is_the_same_job(case: Case) -> None:
    again = case.served.client.post(
        "/v1/jobs",
        json={
            "source": str(case.source), "k": TRIPLETS, "out": str(case.out), "missing": "mean", "center": True
        },
    )  # fmt: skip
    assert (again.status_code, again.json()["id"]) == (200, case.job)
    assert again.headers["location"] == f"/v1/jobs/{case.job}"


def test_a_log_is_text(case: Case) -> None:
    whole = case.served.client.get(f"/v1/jobs/{case.job}/log")
    assert whole.headers["content-type"].startswith("text/plain")
    assert "pass" in whole.text
    assert case.served.client.get(f"/v1/jobs/{case.job}/log?tail_bytes=10").text == whole.text[-10:]


def test_a_result_is_what_the_command_prints(case: Case) -> None:
    answer = case.served.ask("GET", case.url)
    assert answer.pop("id") == case.job
    assert answer.pop("links")["zarr"] == f"{case.url}/zarr"
    assert answer == done("info", case.out, "--json").facts


def test_the_id_of_a_job_does_not_serve_what_a_later_run_has_made_of_other_data(case: Case) -> None:
    """Of the same request: by that alone the two results cannot be told apart."""
    served, asked = case.served, {"source": "changes.zarr", "k": 2, "out": "changed"}
    source = store(served.root / "changes.zarr", small_matrix())
    first = served.done(**asked)["id"]
    link = served.ask("POST", f"/v1/results/{first}/links", 201, json={})["zarr_url"]
    shutil.rmtree(source)
    store(source, small_matrix(seed=1))
    second = served.done(**asked, overwrite=True)["id"]
    assert first != second
    for name in ("", "/rank", "/zarr/reconstruction/c/0/0"):
        served.problem("GET", f"/v1/results/{first}{name}", 410, "E_FACTORS")
        assert served.client.get(f"/v1/results/{second}{name}").status_code == 200
    assert served.client.get(link + "/s/c/0").status_code == 410


def test_what_may_be_overwritten_is_what_lies_there_when_a_job_is_taken_in(case: Case) -> None:
    service = case.served.service
    asked = {"source": "data.zarr", "k": 2, "out": "replaces", "missing": "mean", "overwrite": True}
    first = case.served.done(**asked)["id"]
    there = mark_of(case.served.root / "replaces")
    second = case.served.submit(**asked)["id"]
    assert [service.index.job(job).terms["replaces"] for job in (first, second)] == ["", there]
    case.served.ended(second)


def test_rank_is_what_the_command_prints(case: Case) -> None:
    assert case.served.ask("GET", f"{case.url}/rank") == done("rank", case.out, "--json").facts
    asked = case.served.ask("GET", f"{case.url}/rank?energy=0.5&error=0.25&max_bytes=5000")
    options = ("--energy", 0.5, "--error", 0.25, "--max-bytes", 5000)
    assert asked == done("rank", case.out, *options, "--json").facts


def test_a_spectrum(case: Case) -> None:
    found = case.served.ask("GET", f"{case.url}/spectrum")
    assert found["s"] == case.factors.s.tolist()
    assert found["explained"] == case.factors.explained_variance_ratio.tolist()
    assert found["cumulative"] == [row.energy for row in case.factors.rank_table()]
    assert found["noise"]["threshold"] >= 0


def as_array(rows: list[list[float | None]]) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


@pytest.mark.parametrize("k", [None, 2])
def test_a_region_is_the_reconstruction(case: Case, k: int | None) -> None:
    few = "" if k is None else f"&k={k}"
    factors = case.factors if k is None else case.factors.truncate(k)
    found = case.served.ask("GET", f"{case.url}/region?rows=2:7&cols=60:{few}")
    assert (found["rows"], found["cols"]) == ([2, 7], [60, 80])
    np.testing.assert_array_equal(as_array(found["values"]), factors[2:7, 60:])
    answer = case.served.client.get(f"{case.url}/region?rows=2:7&cols=60:&format=npy{few}")
    assert answer.headers["content-type"] == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), factors[2:7, 60:])


def test_the_original_and_the_difference(case: Case) -> None:
    where = "rows=0:60&cols=:"
    original = as_array(case.served.ask("GET", f"{case.url}/region?{where}&of=original")["values"])
    np.testing.assert_array_equal(original, case.data[:60])
    assert np.isnan(original[3, 5])
    difference = as_array(case.served.ask("GET", f"{case.url}/region?{where}&of=difference")["values"])
    np.testing.assert_array_equal(difference, original - case.factors[:60].astype(np.float64))


@pytest.mark.parametrize(
    "query",
    ["rows=0:121", "rows=-1:3", "rows=5:5", "rows=7:2", "rows=0:9:2", "rows=0:9:-1", "cols=x", "k=0", "k=7",
     "rows=99999999999999999999:", "of=anything", "format=csv"],
)  # fmt: skip
def test_regions_that_are_none(case: Case, query: str) -> None:
    code = "E_K" if query == "k=7" else "E_REQUEST"
    case.served.problem("GET", f"{case.url}/region?{query}", 422, code)


def test_regions_that_are_too_large(tmp_path: Path, case: Case) -> None:
    limits = case.served.service.settings.limits
    smaller = type(limits)(region_bytes=1000, source_chunks=2)
    with serving(tmp_path, limits=smaller) as served:
        (served.root / "factors").symlink_to(case.out)
        data = store(served.root / "data.zarr", small_matrix())
        bigsvd.svd(data, 2, served.root / "own")
        result = served.ask("GET", "/v1/results?path=own")["id"]
        told = served.problem("GET", f"/v1/results/{result}/region", 413, "E_TOO_LARGE")
        assert "limits.region_bytes=1,000" in told["detail"]
        assert "120 x 80" in told["detail"]
        wide = f"/v1/results/{result}/region?rows=0:1&of=original&cols="
        assert served.ask("GET", f"{wide}0:40")["cols"] == [0, 40]
        told = served.problem("GET", f"{wide}25:65", 413, "E_TOO_LARGE")
        assert "3 chunks" in told["detail"]
        assert "limits.source_chunks=2" in told["detail"]
        served.problem("GET", "/v1/results?path=factors", 403, "E_PATH")


def test_components(case: Case) -> None:
    U, _, Vt = case.factors
    found = case.served.ask("GET", f"{case.url}/components?axis=rows&range=10:15")
    np.testing.assert_array_equal(as_array(found["values"]), U[10:15].T)
    found = case.served.ask("GET", f"{case.url}/components?axis=cols&triplets=1:3")
    np.testing.assert_array_equal(as_array(found["values"]), Vt[1:3])
    assert (found["range"], found["triplets"]) == ([0, 80], [1, 3])
    answer = case.served.client.get(f"{case.url}/components?axis=cols&format=npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), Vt[:])


def test_samples_are_projected(case: Case) -> None:
    samples = case.data[:5].astype(np.float64)
    scores = case.factors.project(samples)
    listed = [[None if np.isnan(value) else value for value in row] for row in samples.tolist()]
    found = case.served.ask("POST", f"{case.url}/project", json={"samples": listed})
    np.testing.assert_array_equal(as_array(found["values"]), scores)
    file = io.BytesIO()
    np.save(file, samples)
    answer = case.served.client.post(
        f"{case.url}/project?format=npy&k=2",
        content=file.getvalue(),
        headers={"content-type": "application/x-npy"},
    )
    np.testing.assert_allclose(np.load(io.BytesIO(answer.content)), scores[:, :2], rtol=1e-12)


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


def huge() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 80)}
    )
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-npy", pickled()),
        ("application/x-npy", huge()),
        ("application/x-npy", b"\x93NUMPY"),
        ("application/x-npy", b"\x93NUMPY\x01\x00\x0b\x00{'descr': ("),  # which tokenize gives up
        ("application/x-npy", b""),
        ("application/json", b"{"),
        ("application/json", b'{"samples": [[NaN]]}'),
        ("application/json", b'{"samples": [[1], [1, 2]]}'),
        ("application/json", b'{"samples": [[1e999]]}'),
        ("application/json", b'{"samples": [[1, 2]]}'),
        ("application/json", b'{"samples": []}'),
        ("application/json", b"[" * 100_000),
        ("text/plain", b"1,2"),
    ],
)
def test_samples_that_are_none(case: Case, kind: str, body: bytes) -> None:
    case.served.problem(
        "POST", f"{case.url}/project", 422, "E_REQUEST", content=body, headers={"content-type": kind}
    )


def test_a_truncated_result_is_a_result(case: Case) -> None:
    made = case.served.ask("POST", f"{case.url}/truncate", 201, json={"k": 3, "out": "fewer"})
    few = bigsvd.open(case.served.root / "fewer")
    np.testing.assert_array_equal(few[:], case.factors.truncate(3)[:])
    assert few.certificate == case.factors.truncate(3).certificate
    assert few.provenance["truncated_from"] == {"path": str(case.out), "k": TRIPLETS}
    assert done("verify", few.path, case.source, "--json").facts["holds"]
    assert made["k"] == 3
    again = case.served.ask("GET", "/v1/results?path=fewer")
    assert again["id"] == made["id"]
    assert case.served.ask("GET", f"/v1/results/{made['id']}/region?rows=1&cols=1")["rows"] == [1, 2]
    case.served.problem("POST", f"{case.url}/truncate", 409, "E_OUTPUT_EXISTS", json={"k": 3, "out": "fewer"})
    case.served.problem("POST", f"{case.url}/truncate", 422, "E_K", json={"k": 7, "out": "more"})
    case.served.ask("DELETE", f"/v1/results/{made['id']}", 204)
    assert not (case.served.root / "fewer").exists()
    assert not (case.served.root / "fewer.scratch").exists()
    case.served.problem("GET", f"/v1/results/{made['id']}", 410, "E_FACTORS")


def test_a_result_is_verified_by_a_process_of_its_own(case: Case) -> None:
    case.served.problem("GET", f"{case.url}/verify", 409, "E_STATE")
    begun = case.served.ask("POST", f"{case.url}/verify", 202)
    assert begun["state"] == "running"
    case.served.problem("POST", f"{case.url}/verify", 409, "E_STATE")

    def has_ended() -> bool:
        return bool(case.served.ask("GET", f"{case.url}/verify")["state"] != "running")

    wait_until(has_ended, LIMIT_SECONDS, "the result is verified")
    found = case.served.ask("GET", f"{case.url}/verify")
    assert found["state"] == "done", found
    assert found["verification"]["holds"]
    assert found["verification"]["max_residual"] < 0.02
    assert Record(case.out).verification.is_dir()


def test_links_are_made_listed_and_revoked(case: Case) -> None:
    made = case.served.ask("POST", f"{case.url}/links", 201, json={"seconds": 60, "name": "a friend", "k": 2})
    assert made["url"] == f"{made['zarr_url']}/reconstruction"
    assert made["zarr_url"].startswith("http://127.0.0.1/v1/links/")
    [listed] = case.served.ask("GET", f"{case.url}/links")["links"]
    assert listed == {name: made[name] for name in listed}
    case.served.ask("DELETE", f"/v1/links/{made['id']}", 204)
    assert case.served.ask("GET", f"{case.url}/links")["links"] == []
    case.served.problem("DELETE", "/v1/links/abcdef", 404, "E_LINK")
    case.served.problem("POST", f"{case.url}/links", 422, "E_K", json={"k": 9})
    case.served.problem("POST", f"{case.url}/links", 422, "E_REQUEST", json={"seconds": 1e12})


def test_sources_are_listed_by_metadata(case: Case) -> None:
    np.save(case.served.root / "plain.npy", np.zeros((3, 4), dtype=np.int16))
    (case.served.root / "folder").mkdir()
    (case.served.root / "notes.txt").write_text("no source")
    (case.served.root / "away").symlink_to("/")
    found = case.served.ask("GET", "/v1/sources")
    entries = {entry["name"]: entry for entry in found["entries"]}
    assert found["parent"] is None
    assert {"data.zarr", "plain.npy", "folder", "factors"} <= entries.keys()
    assert not {"notes.txt", "away", "factors.job"} & entries.keys()
    assert entries["data.zarr"] | {"path": ""} == {
        "path": "", "name": "data.zarr", "kind": "array", "shape": [120, 80], "dtype": "float32",
        "bytes": 120 * 80 * 4, "result": None,
    }  # fmt: skip
    assert (entries["plain.npy"]["shape"], entries["plain.npy"]["dtype"]) == ([3, 4], "int16")
    assert entries["folder"]["kind"] == "folder"
    assert entries["factors"]["kind"] == "result"
    opened = case.served.ask("GET", f"/v1/results/{entries['factors']['result']}")
    assert opened["path"] == str(case.out)
    below = case.served.ask("GET", "/v1/sources?folder=folder")
    assert (below["entries"], below["parent"]) == ([], str(case.served.root))
    case.served.problem("GET", "/v1/sources?folder=plain.npy", 422, "E_PATH")
    case.served.problem("GET", "/v1/sources?folder=away", 403, "E_PATH")
    case.served.problem("GET", "/v1/sources?folder=nothing", 422, "E_PATH")


def test_what_cannot_be_looked_at_is_left_out(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(case.served.root / "pipe.npy")
    (case.served.root / "locked").mkdir()
    look = metadata_of

    def locked(folder: Path) -> dict[str, Any]:
        if folder.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(folder)

    monkeypatch.setattr(sources, "metadata_of", locked)
    names = {entry["name"] for entry in case.served.ask("GET", "/v1/sources")["entries"]}
    assert "data.zarr" in names
    assert not {"pipe.npy", "locked"} & names


def test_a_plan_is_what_the_command_prints(case: Case) -> None:
    body = {"source": str(case.source), "k": 5, "missing": "zero", "memory": 200_000_000}
    found = case.served.ask("POST", "/v1/plans", json=body)
    printed = done("plan", case.source, "-k", 5, "--missing", "zero", "--memory", 200_000_000, "--json").facts
    assert found["plan"] == printed
    assert found["summary"]["method"] == printed["method"]
    assert found["summary"]["memory_bytes"] == printed["memory_bytes"]
    assert found["summary"]["input_bytes"] == 120 * 80 * 4


def test_a_plan_is_answered_at_once(case: Case) -> None:
    body = {"source": str(case.source), "k": 5, "missing": "zero"}
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        case.served.ask("POST", "/v1/plans", json=body)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"k": 3}, 422, "E_REQUEST"),
        ({"source": "data.zarr"}, 422, "E_REQUEST"),
        ({"source": "data.zarr", "k": 81}, 422, "E_K"),
        ({"source": "data.zarr", "k": 3, "tol": 2}, 422, "E_REQUEST"),
        ({"source": "data.zarr", "k": 3, "memory": "1 kB", "missing": "zero"}, 422, "E_MEMORY"),
        ({"source": "../data.zarr", "k": 3}, 403, "E_PATH"),
        ({"source": "nothing.zarr", "k": 3}, 422, "E_SOURCE"),
        ({"source": "s3://bucket/data", "k": 3}, 422, "E_URL"),
    ],
)
def test_plans_that_are_refused(case: Case, body: dict[str, Any], status: int, code: str) -> None:
    case.served.problem("POST", "/v1/plans", status, code, json=body)


def test_a_rule_stands_for_k(case: Case) -> None:
    body = {"source": str(case.source), "energy": 0.9, "missing": "zero"}
    assert case.served.ask("POST", "/v1/plans", json=body)["plan"]["request"]["k"] == "auto"


def test_the_commands_of_a_plan_do_the_same(case: Case) -> None:
    body: dict[str, Any] = {
        "source": str(case.source),
        "k": 4,
        "missing": "zero",
        "out": str(case.served.root / "three"),
    }
    commands = case.served.ask("POST", "/v1/plans", json=body)["commands"]
    done(*shlex.split(commands["cli"])[1:], "--quiet")
    first = bigsvd.open(body["out"])
    names: dict[str, Any] = {}
    exec(commands["python"].replace("three", "four"), names)  # noqa: S102 - what is being tested
    np.testing.assert_array_equal(names["factors"].s, first.s)
    sent = json.loads(shlex.split(commands["curl"])[-2])
    assert sent == {**body, "missing": "zero"}
    assert shlex.split(commands["curl"])[-1] == "http://127.0.0.1/v1/jobs"
    assert isinstance(Commands("", "", ""), Commands)


def test_what_a_verification_has_found_outlives_the_server(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        source = store(served.root / "data.zarr", small_matrix())
        bigsvd.svd(source, 2, served.root / "own")
        url = f"/v1/results/{served.ask('GET', '/v1/results?path=own')['id']}/verify"
        assert served.ask("POST", url, 202)["state"] == "running"
    with serving(tmp_path) as served:
        wait_until(
            lambda: served.ask("GET", url)["state"] == "done", LIMIT_SECONDS, "another server has the answer"
        )
        assert served.ask("GET", url)["verification"]["holds"]
        (served.root / "own" / "U" / "c" / "0" / "0").write_bytes(b"damaged")
        served.ask("POST", url, 202)
        wait_until(
            lambda: served.ask("GET", url)["state"] != "running",
            LIMIT_SECONDS,
            "a damaged result is verified",
        )
        found = served.ask("GET", url)
        assert (found["state"], found["error"]["code"]) == ("failed", "E_FACTORS")


def test_other_data_are_not_shown_as_the_original(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        source = store(served.root / "data.zarr", small_matrix())
        bigsvd.svd(source, 2, served.root / "own")
        result = served.ask("GET", "/v1/results?path=own")["id"]
        source.rename(served.root / "elsewhere")
        url = f"/v1/results/{result}/region?rows=0:2&of=original"
        served.problem("GET", url, 422, "E_SOURCE")
        store(served.root / "data.zarr", small_matrix(130, 80))
        told = served.problem("GET", url, 409, "E_SOURCE_CHANGED")
        assert "(120, 80)" in told["detail"]
        assert "(130, 80)" in told["detail"]


BODIES: dict[str, bytes] = {
    "nested": b'{"source": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not closed": b"{" * 100_000,
    "NaN": b'{"source": "data.zarr", "k": 3, "out": "x", "tol": NaN}',
    "infinite": b'{"source": "data.zarr", "k": 3, "out": "x", "tol": 1e999}',
    "half a letter": b'{"source": "\\ud800", "k": 3, "out": "x"}',
    "NUL": b'{"source": "data.zarr", "k": 3, "out": "x", "name": "a\\u0000b"}',
    "a list": b"[]",
    "nothing": b"",
    "no UTF-8": b"\xff\xfe",
    "unknown": b'{"source": "data.zarr", "k": 3, "out": "x", "scheduler": "tcp://elsewhere:1"}',
    "twice as long": b'{"source": "data.zarr", "k": 3, "out": "x", "max_runtime_seconds": 1e12}',
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_refused(case: Case, name: str) -> None:
    headers = {"content-type": "application/json"}
    case.served.problem("POST", "/v1/jobs", 422, "E_REQUEST", content=BODIES[name], headers=headers)


def test_a_body_of_another_kind_is_refused(case: Case) -> None:
    body = json.dumps({"source": "data.zarr", "k": 3, "out": "x"}).encode()
    headers = {"content-type": "text/plain"}
    case.served.problem("POST", "/v1/jobs", 422, "E_REQUEST", content=body, headers=headers)


def test_jobs_are_stopped_cancelled_and_forgotten(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        store(served.root / "data.zarr", small_matrix())
        ended = served.done(source="data.zarr", k=2, out="done")["id"]
        for verb in ("stop", "cancel", "resume"):
            told = served.problem("POST", f"/v1/jobs/{ended}/{verb}", 409, "E_STATE")
            assert ended in told["detail"]
        served.service.runner.pause()
        waiting = served.submit(source="data.zarr", k=2, out="waiting")
        assert (waiting["state"], waiting["place"]) == ("queued", 1)
        assert "1 in line" in waiting["reason"]
        url = f"/v1/jobs/{waiting['id']}"
        served.problem("POST", f"{url}/stop", 409, "E_STATE")
        served.problem("DELETE", url, 409, "E_STATE")
        served.problem("GET", f"/v1/results/{waiting['id']}", 409, "E_STATE")
        assert served.ask("GET", f"{url}/events") == {"events": [], "next": 0}
        assert served.client.get(f"{url}/log").text == ""
        assert served.ask("POST", f"{url}/cancel", 202, json={"drop": True})["state"] == "cancelled"
        served.ask("DELETE", url, 204)
        served.problem("GET", url, 404, "E_JOB")
        served.ask("DELETE", f"/v1/jobs/{ended}", 204)
        assert bigsvd.open(served.root / "done").k == 2
        assert not (served.root / "done.job").exists()


def test_a_key_makes_one_job(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.service.runner.pause()
        store(served.root / "data.zarr", small_matrix())
        body = {"source": "data.zarr", "k": 2, "out": "out"}
        key = {"Idempotency-Key": "the same"}
        first, again = (served.client.post("/v1/jobs", json=body, headers=key) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 200)
        assert first.json()["id"] == again.json()["id"]
        other = {**body, "k": 3}
        served.problem("POST", "/v1/jobs", 422, "E_KEY_REUSED", json=other, headers=key)
        served.problem("POST", "/v1/jobs", 409, "E_OUTPUT_BUSY", json=other)
        served.problem(
            "POST", "/v1/jobs", 422, "E_REQUEST", json=body, headers={"Idempotency-Key": "x" * 300}
        )


def test_tokens_separate_jobs_and_not_data(tmp_path: Path) -> None:
    with serving(tmp_path, trusted=False) as served:
        scopes: dict[str, Scope] = {"one": "submit", "two": "submit", "reader": "read", "root": "admin"}
        tokens = {
            name: served.service.tokens.make(name, name, [scope], 3600)[0] for name, scope in scopes.items()
        }
        as_user = {name: {"Authorization": f"Bearer {secret}"} for name, secret in tokens.items()}
        store(served.root / "data.zarr", small_matrix())
        served.problem("GET", "/v1/jobs", 401, "E_AUTH")
        served.problem("GET", "/v1/jobs", 401, "E_AUTH", headers={"Authorization": "Bearer no"})
        body = {"source": "data.zarr", "k": 2, "out": "out"}
        served.problem("POST", "/v1/jobs", 403, "E_SCOPE", json=body, headers=as_user["reader"])
        job = served.ask("POST", "/v1/jobs", 202, json=body, headers=as_user["one"])["id"]

        def has_ended() -> bool:
            return bool(served.ask("GET", f"/v1/jobs/{job}", headers=as_user["reader"])["state"] == "done")

        wait_until(has_ended, LIMIT_SECONDS, "the job is done")
        url = f"/v1/results/{job}"
        assert served.ask("GET", url, headers=as_user["two"])["k"] == 2
        mine = served.ask("GET", "/v1/jobs?owner=me", headers=as_user["two"])["jobs"]
        assert mine == []
        for method, path in (
            ("POST", f"/v1/jobs/{job}/cancel"),
            ("DELETE", f"/v1/jobs/{job}"),
            ("DELETE", url),
        ):
            served.problem(method, path, 404, "E_JOB", headers=as_user["two"])
        link = served.ask("POST", f"{url}/links", 201, json={}, headers=as_user["one"])["id"]
        assert served.ask("GET", f"{url}/links", headers=as_user["two"])["links"] == []
        served.problem("DELETE", f"/v1/links/{link}", 404, "E_LINK", headers=as_user["two"])
        named = served.ask("GET", "/v1/results?path=out", headers=as_user["two"])["id"]
        served.problem("DELETE", f"/v1/results/{named}", 403, "E_SCOPE", headers=as_user["one"])
        taken = {**body, "k": 3, "overwrite": True}
        served.problem("POST", "/v1/jobs", 409, "E_OUTPUT_EXISTS", json=taken, headers=as_user["two"])
        served.ask("DELETE", url, 204, headers=as_user["one"])
        assert sorted(path.name for path in served.root.iterdir()) == ["data.zarr"]
        served.problem("GET", url, 404, "E_JOB", headers=as_user["root"])
        served.problem("GET", f"/v1/results/{named}", 410, "E_FACTORS", headers=as_user["root"])


def test_the_document_is_whole(case: Case) -> None:
    document = case.served.ask("GET", "/v1/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert {*document["components"]["securitySchemes"]} == {"token", "session"}
    own = {path: found for path, found in document["paths"].items() if path.startswith("/v1/")}
    for path, operations in own.items():
        for method, operation in operations.items():
            responses = operation["responses"]
            refusals = [told for status, told in responses.items() if int(status) >= 400]
            assert refusals, (method, path)
            kinds = {kind for told in refusals for kind in told["content"]}
            assert kinds <= {"application/problem+json"}, (method, path)
    assert case.served.client.get("/docs").status_code == 404
