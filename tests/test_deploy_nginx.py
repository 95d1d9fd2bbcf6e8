"""deploy/nginx/bigsvd.conf: a server behind Debian's nginx, asked through it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import bigsvd
from tests.nginx import NAME, Proxy, nginx_before, program
from tests.servers import Running, running
from tests.slurm import free_port
from tests.small_arrays import small_matrix, store
from tests.waiting import wait_until

if program() is None:
    pytest.skip("nginx is not there (Debian: apt-get install nginx-light)", allow_module_level=True)


@dataclass(frozen=True)
class Behind:
    """A server, the proxy before it, and the id of a job that is done."""

    server: Running
    proxy: Proxy
    root: Path
    job: str

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """An answer that came through the proxy."""
        headers = {"Host": NAME, **self.server.headers, **options.pop("headers", {})}
        url = path if path.startswith("https://") else self.proxy.url + path
        with httpx.Client(verify=self.proxy.trust, trust_env=False, timeout=30) as client:
            return client.request(method, url, headers=headers, **options)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("nginx")
    root = folder / "root"
    root.mkdir()
    store(root / "a.zarr", small_matrix(300, 80))
    options = ("--state", folder / "state", "--hosts", NAME)
    trusting = ("--trust-user-header", "X-Forwarded-User", "--trusted-proxy", "127.0.0.1")
    with running(root, *options, *trusting) as server, nginx_before(server.url, folder / "nginx") as proxy:
        job = server.done({"source": "a.zarr", "k": 4, "out": "out"})["id"]
        yield Behind(server, proxy, root, job)


def test_answers_come_by_tls_and_plain_requests_are_sent_there(behind: Behind) -> None:
    assert behind.ask("GET", "/healthz").status_code == 200
    assert behind.ask("GET", f"/v1/jobs/{behind.job}").json()["state"] == "done"
    plain = httpx.get(behind.proxy.plain + "/jobs?a=b", headers={"Host": NAME}, trust_env=False)
    assert (plain.status_code, plain.headers["location"]) == (301, f"https://{NAME}/jobs?a=b")


def test_nobody_says_who_they_are_past_the_proxy(behind: Behind) -> None:
    headers = {"Authorization": "", "X-Forwarded-User": "root"}
    assert behind.ask("GET", "/v1/jobs", headers=headers).status_code == 401


def test_whom_the_proxy_names_is_believed(behind: Behind, tmp_path: Path) -> None:
    said = {'proxy_set_header X-Forwarded-User "";': "proxy_set_header X-Forwarded-User ada;"}
    with nginx_before(behind.server.url, tmp_path / "nginx", **said) as proxy:
        me = httpx.get(proxy.url + "/v1/me", headers={"Host": NAME}, verify=proxy.trust, trust_env=False)
    assert me.json()["owner"] == "ada"


def test_a_body_over_the_limit_is_not_passed_on(behind: Behind) -> None:
    assert behind.ask("POST", "/v1/jobs", content=b"x" * (2**20 + 1)).status_code == 413


def test_events_come_one_by_one(behind: Behind) -> None:
    """Before the job has ended: no part of them waits in a buffer."""
    noise = np.random.default_rng(0).standard_normal((2_000, 1_600)).astype(np.float32)
    store(behind.root / "noise.zarr", noise)
    body = {"source": "noise.zarr", "k": 4, "out": "endless", "tol": 1e-14, "max_passes": 2000}
    body |= {"method": "krylov"}
    job = behind.ask("POST", "/v1/jobs", json=body).json()["id"]
    headers = {"Host": NAME, "Accept": "text/event-stream", **behind.server.headers}
    with (
        httpx.Client(verify=behind.proxy.trust, trust_env=False, timeout=60) as client,
        client.stream("GET", f"{behind.proxy.url}/v1/jobs/{job}/events", headers=headers) as answer,
    ):
        lines = answer.iter_lines()
        kinds = []
        while "certificate" not in kinds:
            line = next(lines)
            if line.startswith("data: ") and "seq" in (event := json.loads(line.removeprefix("data: "))):
                kinds.append(event["event"])
        assert behind.server.get(f"/v1/jobs/{job}").json()["state"] == "running"
    behind.server.post(f"/v1/jobs/{job}/cancel", {})
    behind.server.ended(job)


def test_chunks_by_link_are_kept_while_the_link_holds_and_chunks_by_token_are_not(behind: Behind) -> None:
    link = behind.ask("POST", f"/v1/results/{behind.job}/links", json={}).json()
    assert link["url"].startswith(f"https://{NAME}/v1/links/")
    chunk = httpx.URL(link["url"]).path + "/c/0/0"
    first, second = (behind.ask("GET", chunk, headers={"Authorization": ""}) for _ in range(2))
    assert first.headers["x-cache"] == "MISS"
    assert second.headers["x-cache"] in ("HIT", "REVALIDATED")
    assert first.content == second.content
    secret = chunk.split("/")[3]
    assert secret not in behind.proxy.log
    behind.ask("DELETE", f"/v1/links/{link['id']}")
    gone = wait_until(lambda: _unless_200(behind, chunk), 10, "the link is gone")
    assert gone in (401, 410)
    by_token = [behind.ask("GET", f"/v1/results/{behind.job}/zarr/reconstruction/c/0/0") for _ in range(2)]
    assert all("x-cache" not in answer.headers for answer in by_token)
    assert by_token[0].content == first.content


def test_no_log_names_a_link_whose_service_does_not_answer(tmp_path: Path) -> None:
    """nginx writes down whom it could not ask what, beside the log of requests."""
    with nginx_before(f"http://127.0.0.1:{free_port()}", tmp_path / "nginx") as proxy:
        for path in (
            "/v1/links/s3cr3t/zarr/zarr.json",
            "//v1//links/s3cr3t/zarr/s/c/0",
            "/v1/links/s3cr3t",
            "/v1/jobs",
        ):
            answer = httpx.get(proxy.url + path, headers={"Host": NAME}, verify=proxy.trust, trust_env=False)
            assert answer.status_code == 502
    logs = {file.name: file.read_text() for file in proxy.folder.glob("*.log")}
    assert "s3cr3t" not in "".join(logs.values())
    assert "/v1/jobs HTTP" in logs["error.log"]


def _unless_200(behind: Behind, path: str) -> int:
    status = behind.ask("GET", path, headers={"Authorization": ""}).status_code
    return 0 if status == 200 else status


def test_the_client_goes_through_it(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable that names the authority, as for any program that speaks TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(behind.proxy.folder / "certificate.pem"))
    with bigsvd.Client(behind.proxy.url, behind.server.token) as client:
        assert client.job(behind.job).wait(10).info()["k"] == 4
        assert np.allclose(client.open(behind.job)[...], bigsvd.open(behind.root / "out")[...], atol=1e-6)
