"""A server as it is started: a process of its own, of which tests know what it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import bigsvd
from tests.waiting import wait_until

_ROOM = Path(bigsvd.__file__).parents[1]
START_SECONDS = 60
END_SECONDS = 10


@dataclass
class Running:
    """A server that answers at `url`, by what token, empty where it has shown none, and what it has said."""

    process: subprocess.Popen[str]
    url: str
    token: str
    errors: list[str]

    @classmethod
    def of(cls, process: subprocess.Popen[str], line: str, errors: list[str]) -> Running:
        """That of a process which has printed this line."""
        url, _, token = line.partition("#token=")
        return cls(process, url.rstrip("/"), token, errors)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, headers=self.headers, timeout=30, **options)

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=self.headers, timeout=30)

    def delete(self, path: str) -> httpx.Response:
        return httpx.delete(self.url + path, headers=self.headers, timeout=30)

    def ended(self, job: str, seconds: float = 120) -> dict[str, Any]:
        """A job when it has ended."""
        found: dict[str, Any] = {}

        def has_ended() -> bool:
            found.update(self.get(f"/v1/jobs/{job}").json())
            return found["state"] in ("done", "failed", "cancelled")

        wait_until(has_ended, seconds, f"job {job} has ended")
        return found

    def done(self, body: dict[str, Any]) -> dict[str, Any]:
        """A job that was submitted and has ended well."""
        answer = self.post("/v1/jobs", body)
        assert answer.status_code in (200, 202), answer.text
        found = self.ended(answer.json()["id"])
        assert found["state"] == "done", found
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; how it ended, within the limit."""
        self.process.send_signal(number)
        return self.process.wait(END_SECONDS)


@contextmanager
def running(root: Path, *options: object, under: Sequence[str] = ()) -> Iterator[Running]:
    """`bigsvd serve` of a root at a free port; ended by a signal if it has not by then."""
    command = [*under, sys.executable, "-m", "bigsvd", "serve", "--root", str(root), "--port", "0"]
    process = subprocess.Popen(
        [*command, *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(_ROOM)}, start_new_session=True,
    )  # fmt: skip
    errors: list[str] = []
    reading = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reading.start()
    try:
        line = (process.stdout or open(os.devnull)).readline().strip()  # noqa: SIM115, PTH123
        assert line.startswith("http://"), (line, errors)
        server = Running.of(process, line, errors)
        wait_until(lambda: _answers(server), START_SECONDS, "the server answers")
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reading.join(5)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _answers(server: Running) -> bool:
    assert server.process.poll() is None, server.errors
    try:
        return httpx.get(server.url + "/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
