"""A service as the place where jobs are carried out and results lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigsvd.cli.job_words import progress_of
from bigsvd.cli.options import DeviceName, refuse_beside, request_of
from bigsvd.client.client import Client
from bigsvd.errors import RequestError

if TYPE_CHECKING:
    from bigsvd.cli.here import Here
    from bigsvd.client.job import RemoteJob
    from bigsvd.client.order import Order
    from bigsvd.client.result import RemoteResult
    from bigsvd.events import Progress
    from bigsvd.jobs.status import JobStatus
    from bigsvd.planning.plan import Plan
    from bigsvd.request import Request
    from bigsvd.results.verification import Verification

TOKEN = "BIGSVD_TOKEN"  # noqa: S105 - the name of a variable
_WHY = "the service reads the data that it was computed from, on a device of its own"


@dataclass(frozen=True)
class There:
    """A service."""

    client: Client

    @classmethod
    @contextmanager
    def at(cls, url: str, token_file: str | None) -> Iterator[There]:
        """The service at that URL, for whom the token in the file is, or that in the environment."""
        with Client(
            url, os.environ.get(TOKEN, "") if token_file is None else _token_in(token_file)
        ) as client:
            yield cls(client)

    @property
    def here(self) -> Here:
        """See `place.Place`: it is not here."""
        raise RequestError("the jobs are those of a service", "leave out --service")

    def plan(self, data: str, options: dict[str, Any]) -> Plan:
        """See `place.Place`."""
        return self.client.plan_of(request_of(data, None, options))

    def submit(self, request: Request, order: Order) -> tuple[RemoteJob, bool]:
        """See `place.Place`."""
        return self.client.send(request, order)

    def job(self, name: str) -> RemoteJob:
        """See `place.Place`."""
        return self.client.job(name)

    def jobs(self, folders: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """See `place.Place`."""
        found = self.client.jobs() if folders else self.client.jobs(owner="me")
        return (
            status.to_dict() | {"progress": progress_of(status)}
            for status in found
            if not folders or _lies_in(status, folders)
        )

    def resume(self, name: str) -> RemoteJob:
        """See `place.Place`."""
        job = self.client.job(name)
        job.resume()
        return job

    def result(self, name: str) -> RemoteResult:
        """See `place.Place`."""
        return self.client.result(name)

    def verify(self, name: str, data: str | None, device: DeviceName, progress: Progress) -> Verification:
        """See `place.Place`; always against the data."""
        del progress  # of which the service tells nothing
        if data is not None or device != "auto":
            refuse_beside(("data", "device"), "--service", _WHY)
        return self.client.result(name).verify()


def _token_in(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"no token can be read from {path} ({error})", "write one into it") from error


def _lies_in(status: JobStatus, folders: tuple[str, ...]) -> bool:
    """Whether an output lies in one of these folders or below, which may be the ends of longer paths."""
    parents = f"/{Path(status.out).parent}/".replace("//", "/")
    return any(f"/{folder.strip('/')}/" in parents or folder.strip("/") in ("", ".") for folder in folders)
