"""A service in this process, with small arrays below its root, and what tests ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from bigsvd.service.app import create_app
from bigsvd.service.service import Service
from bigsvd.service.settings import Settings
from tests.forked import forked_drivers
from tests.waiting import wait_until

LIMIT_SECONDS = 120
TRIPLETS = 6


@dataclass(frozen=True)
class Served:
    """A service that is open, a client of its application, and the root."""

    service: Service
    app: FastAPI
    client: TestClient
    root: Path

    def ask(self, method: str, url: str, status: int = 200, **options: Any) -> Any:
        """The JSON of an answer of that status; None where it has no body."""
        answer = self.client.request(method, url, **options)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def problem(self, method: str, url: str, status: int, code: str, **options: Any) -> dict[str, Any]:
        """What is said by an answer that refuses."""
        answer = self.client.request(method, url, **options)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        found: dict[str, Any] = answer.json()
        assert (found["status"], found["code"]) == (status, code), found
        assert found["type"] == f"urn:bigsvd:{code}"
        assert found["detail"]
        assert found["remedy"]
        return found

    def submit(self, **body: Any) -> dict[str, Any]:
        """A job that was taken in."""
        answer = self.client.post("/v1/jobs", json=body)
        assert answer.status_code in (200, 202), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ended(self, job: str) -> dict[str, Any]:
        """A job when it has ended."""
        found: dict[str, Any] = {}

        def has_ended() -> bool:
            found.update(self.ask("GET", f"/v1/jobs/{job}"))
            return found["state"] in ("done", "failed", "cancelled")

        wait_until(has_ended, LIMIT_SECONDS, f"job {job} has ended")
        return found

    def done(self, **body: Any) -> dict[str, Any]:
        """A job that was submitted and ended well."""
        found = self.ended(self.submit(**body)["id"])
        assert found["state"] == "done", found
        return found


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Served]:
    """A service whose root is a folder's `root`, for whoever can connect; drivers of its jobs are forked."""
    root = folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        **{"state": folder / "state", "roots": (root,), "trusted": True, "memory_bytes": 2**29, **options}
    )
    settings.state.mkdir(parents=True, exist_ok=True)
    with forked_drivers(), Service(settings) as service:
        app = create_app(service)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            yield Served(service, app, client, root)
