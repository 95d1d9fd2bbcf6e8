"""The client against a real server behind a proxy that fails, and that lies about chunks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest

import bigsvd
from bigsvd.errors import AuthError, ServiceError
from tests.servers import running
from tests.small_arrays import small_matrix, store


class Flaky(BaseHTTPRequestHandler):
    """A proxy before a server, which fails every third request, in turns by 502 and by hanging up."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    count = 0
    fails: Callable[[str], int | None] = lambda _: None

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name there
        """Say nothing."""

    def _pass_on(self) -> None:
        kind = type(self)
        kind.count += 1
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if kind.count % 6 == 3:
            self._answer(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"})
            return
        if kind.count % 6 == 0:
            self.close_connection = True
            self.connection.close()
            return
        refused = kind.fails(self.path)
        if refused is not None:
            self._answer(refused, b"no", {})
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        answer = httpx.request(
            self.command,
            kind.upstream + self.path,
            headers=headers,
            content=body,
            timeout=30,
            trust_env=False,
        )
        kept = ("content-type", "etag", "location", "content-range")
        self._answer(
            answer.status_code,
            answer.content,
            {name: answer.headers[name] for name in kept if name in answer.headers},
        )

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815 - their names there


@contextmanager
def flaky(upstream: str) -> Iterator[tuple[str, type[Flaky]]]:
    """The URL of such a proxy."""
    kind = cast("type[Flaky]", type("_Flaky", (Flaky,), {"upstream": upstream}))
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", kind
        finally:
            server.shutdown()
            thread.join()


def test_behind_a_proxy_that_fails_nothing_is_lost_and_nothing_is_zero(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    store(root / "a.zarr", small_matrix(700, 80))
    with running(root, "--state", tmp_path / "state") as server, flaky(server.url) as (url, proxy):
        with bigsvd.Client(url, server.token) as client:
            job, other = (client.submit("a.zarr", 4, f"out{i}") for i in range(2))
            other.cancel()
            job.wait(120)
            assert {status.asked.id: status.state for status in client.jobs()} == {
                job.id: "done",
                other.id: "cancelled",
            }
            array = client.open(job.id)
            factors = bigsvd.open(root / "out0")
            assert np.allclose(array[...], factors[...], atol=1e-6)
            assert np.allclose(client.open(job.id, k=2)[:600], factors.truncate(2)[:600], atol=1e-6)
            proxy.fails = staticmethod(lambda path: 404 if "/c/" in path else None)
            with pytest.raises(ServiceError, match="is not found, though the array has it"):
                array[...]
            proxy.fails = staticmethod(lambda path: 403 if "/c/" in path else None)
            with pytest.raises(ServiceError, match="cannot be read"):
                array[...]
        with bigsvd.Client(url, "wrong") as stranger, pytest.raises(AuthError):
            next(stranger.jobs())
