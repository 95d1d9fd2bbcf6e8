"""`Client`: the jobs and results of one service."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigsvd.client.job import RemoteJob
from bigsvd.client.order import Order
from bigsvd.client.result import RemoteResult
from bigsvd.client.told import status_from
from bigsvd.client.wire import PATIENCE_SECONDS, Wire
from bigsvd.errors import JobError, RequestError
from bigsvd.jobs.status import JobStatus, State
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.units import source_name

if TYPE_CHECKING:
    import zarr

_ID = re.compile(r"[0-9a-f]{10}")
_ACCEPTED = 202  # of HTTP: a job was made now
_PAGE_ROWS = 100
_MOST_LISTED = 5


class Client:
    """The jobs and results of the service at `url`, for whoever has a token of it; a context manager.

    What fails on the way for a moment is tried again for `patience_seconds`. What the service refuses is
    raised as the same errors that `bigsvd.svd` and `bigsvd.Job` raise.

    Args:
        url: such as ``https://svd.lab.example``.
        token: as the service's operator has made it; empty where the service asks for none.
        patience_seconds: for how long a request that fails for a moment is tried again.

    Raises:
        RequestError: the URL is none of a service, or holds a secret, which belongs into `token`.

    """

    def __init__(self, url: str, token: str = "", *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._wire = Wire(url, token, patience_seconds=patience_seconds)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back its connections."""
        self._wire.close()

    def __repr__(self) -> str:
        return f"<bigsvd.Client of {self._wire.url}>"

    def plan(self, source: str | Path, k: Any, **options: Any) -> Plan:
        """What a decomposition will cost at the service; options as for `bigsvd.svd`, paths are its own."""
        return self.plan_of(request_of(source, k, None, options))

    def plan_of(self, request: Request) -> Plan:
        """The same of a request."""
        return Plan.from_dict(self._wire.told("POST", "v1/plans", json=body_of(request))["plan"])

    def submit(
        self,
        source: str | Path,
        k: Any,
        out: str | Path,
        *,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        attempts: int | None = None,
        max_runtime: float | None = None,
        **options: Any,
    ) -> RemoteJob:
        """The job that decomposes `source` into `out` at the service; see `bigsvd.submit`.

        However often its answer is lost on the way, one job is made: all tries have one key.

        Args:
            source: path, below the folders that the service may read, or URL of the data.
            k: see `bigsvd.svd`.
            out: path of the factor store, below these folders.
            name: what people call the job by.
            labels: further words for it, by their kind.
            attempts: tries in a row that may fail without one finished pass between them.
            max_runtime: seconds from now, after which the job has failed; what is finished is kept.
            options: as for `bigsvd.svd`; vectors and selections are paths.

        Raises:
            BadInputError: what the service finds wrong with it.

        """
        order = Order(name, labels or {}, attempts, max_runtime)
        job, _ = self.send(request_of(source, k, out, options), order)
        return job

    def send(self, request: Request, order: Order) -> tuple[RemoteJob, bool]:
        """The job of a request, and whether it has been made now."""
        answer = self._wire.ask(
            "POST", "v1/jobs", json=body_of(request) | order.to_dict(),
            headers={"Idempotency-Key": uuid.uuid4().hex},
        )  # fmt: skip
        return RemoteJob(self._wire, status_from(answer.json())), answer.status_code == _ACCEPTED

    def job(self, job: str) -> RemoteJob:
        """A job, by its id or the path of its output.

        Raises:
            JobError: there is none, or a part of a path is that of several.

        """
        if _ID.fullmatch(job):
            return RemoteJob(self._wire, status_from(self._wire.told("GET", f"v1/jobs/{job}")))
        return RemoteJob(self._wire, self._by_output(job))

    def _by_output(self, out: str) -> JobStatus:
        """The newest job that writes there."""
        tail = "/" + out.strip("/")
        named = [status for status in self.jobs(text=Path(out).name) if status.out.endswith(tail)]
        outs = sorted({status.out for status in named})
        if not outs:
            raise JobError(f"no job of this service writes {out}", "list them, and give an id")
        if len(outs) > 1 and out not in outs:
            some = ", ".join(outs[:_MOST_LISTED])
            raise JobError(f"{len(outs)} outputs end in {out}: {some}", "give all of its path, or an id")
        meant = out if out in outs else outs[0]
        return max((status for status in named if status.out == meant), key=lambda status: status.submitted)

    def jobs(
        self,
        *,
        state: State | None = None,
        label: tuple[str, str] | None = None,
        text: str = "",
        owner: str = "",
    ) -> Iterator[JobStatus]:
        """The jobs of the service, newest first.

        Args:
            state: only those in it.
            label: only those with this label and value.
            text: only those in whose id, name, source or output it stands.
            owner: only those of that name; "me" for one's own.

        """
        given = {"state": state, "label": label and "=".join(label), "q": text, "owner": owner}
        query: dict[str, Any] = {name: value for name, value in given.items() if value}
        query["limit"] = _PAGE_ROWS
        while True:
            page = self._wire.told("GET", "v1/jobs", params=query)
            yield from map(status_from, page["jobs"])
            if page["next"] is None:
                return
            query["cursor"] = page["next"]

    def result(self, job: str) -> RemoteResult:
        """The result of a job, by its id or the path of its output."""
        return RemoteResult(self._wire, job if _ID.fullmatch(job) else self._by_output(job).asked.id)

    def open(self, result: str, k: int | None = None) -> zarr.Array[Any]:
        """The reconstruction of a result, of rank k, as a Zarr array; see `RemoteResult.open`."""
        return self.result(result).open(k)


def request_of(source: str | Path, k: Any, out: str | Path | None, options: Mapping[str, Any]) -> Request:
    """A request by keywords; what is in memory is refused, since no service could read it."""
    for name, value in {"source": source, "out": out, **options}.items():
        if not isinstance(value, str | Path | bool | int | float | slice | list | tuple | type(None)):
            raise RequestError(
                f"{name} is in memory ({type(value).__name__}), where the service cannot read it",
                "store it where it can, and give its path",
            )
    given = {name: _written(value) for name, value in options.items()}
    return Request.of(source_name(str(source)), k, out=None if out is None else str(out), **given)


def _written(value: Any) -> Any:
    """An option as a request has it: paths and ranges as texts."""
    if isinstance(value, slice):
        parts = (value.start, value.stop) if value.step is None else (value.start, value.stop, value.step)
        return ":".join("" if part is None else str(part) for part in parts)
    return str(value) if isinstance(value, Path) else value


def body_of(request: Request) -> dict[str, Any]:
    """A request as the service takes it: what was asked for, without what goes without saying."""
    return {"source": request.source, "k": request.k, **request.beyond_defaults()}
