"""Where jobs are carried out and results lie: here, or at a service. Commands are the same for both.

`at_place` gives a command the options that name a service, and the `Place` that they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from bigsvd.cli.here import Here
from bigsvd.cli.options import DeviceName, refuse_beside, refuse_idle
from bigsvd.errors import RequestError

if TYPE_CHECKING:
    from bigsvd.client.order import Order
    from bigsvd.events import Progress
    from bigsvd.jobs.status import JobStatus
    from bigsvd.planning.plan import Plan
    from bigsvd.request import Request
    from bigsvd.results.certificate import Certificate
    from bigsvd.results.rank import Spectrum
    from bigsvd.results.verification import Verification

SERVICE = "BIGSVD_SERVICE"
# What says how this machine, or a cluster that it reaches, is to do something.
_OF_HERE = ("scheduler", "tls_ca", "tls_cert", "tls_key", "wait_workers", "storage_options", "attach")


class Result(Protocol):
    """A published result."""

    @property
    def path(self) -> Path:
        """Where it lies, on whichever machine."""

    @property
    def certificate(self) -> Certificate:
        """What is known of its error."""

    def info(self) -> dict[str, Any]:
        """The facts that ``bigsvd info --json`` prints."""

    def spectrum(self) -> Spectrum:
        """What the rank rules need to know."""


class AnyJob(Protocol):
    """A job; see `bigsvd.Job`."""

    @property
    def id(self) -> str:
        """What tells it from every other job."""

    @property
    def out(self) -> str | Path:
        """Where its result is, or will be."""

    @property
    def status(self) -> JobStatus:
        """How it stands now."""

    def wait(self, timeout_seconds: float | None = None) -> Result:
        """The result, when the job has ended; the error by which it did."""

    def stop(self) -> None:
        """Have it publish what it has after the present pass."""

    def cancel(self, *, drop: bool = False) -> None:
        """End it without a result; with `drop`, without what it has finished too."""

    def events(self) -> Iterator[dict[str, Any]]:
        """What has happened."""

    def log(self) -> str:
        """What its drivers have printed."""


class Place(Protocol):
    """Where jobs are carried out and results lie."""

    @property
    def here(self) -> Here:
        """The machine that the command runs on; `RequestError` where jobs are a service's."""

    def plan(self, data: str, options: dict[str, Any]) -> Plan:
        """What a decomposition will cost there; `options` are those of `request_options`."""

    def submit(self, request: Request, order: Order) -> tuple[AnyJob, bool]:
        """The job of a request, and whether it begins now."""

    def job(self, name: str) -> AnyJob:
        """A job by its id or output."""

    def jobs(self, folders: tuple[str, ...]) -> Iterable[dict[str, Any]]:
        """Those with outputs in the folders or below, as `JobStatus.to_dict` with their progress.

        Of no folders, this user's.
        """

    def resume(self, name: str) -> AnyJob:
        """The job, which goes on from what is finished."""

    def result(self, name: str) -> Result:
        """A result, by its path; by the id of its job where that is a service's."""

    def verify(self, name: str, data: str | None, device: DeviceName, progress: Progress) -> Verification:
        """Whether a result holds what its certificate says."""


def at_place(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name a service; the command gets the `place` that they mean, and none that is its."""

    @click.option(
        "--service", default="", metavar="URL", envvar=SERVICE,
        help=f"Of a bigsvd service that has the jobs and results; default ${SERVICE}, else this machine.",
    )  # fmt: skip
    @click.option(
        "--token-file", default=None, metavar="PATH",
        help="Holds a token of the service; default $BIGSVD_TOKEN. Arguments are seen by others.",
    )  # fmt: skip
    @wraps(command)
    def placed(*, service: str, token_file: str | None, **given: Any) -> Any:
        here = Here.taken(given)
        if not service:
            refuse_idle(("token_file",), "--service URL")
            return command(place=here, **given)
        refuse_beside(_OF_HERE, "--service", "the service decides that")
        refuse_beside(("score",), "--service", "your function is run here alone, on factors that lie here")
        with _there(service, token_file) as place:
            return command(place=place, **given)

    return placed


@contextmanager
def _there(service: str, token_file: str | None) -> Iterator[Place]:
    """A service as a place.

    Raises:
        RequestError: what is needed to reach one is not installed.

    """
    try:
        from bigsvd.cli.there import There  # noqa: PLC0415 - imports httpx, which not everybody has
    except ModuleNotFoundError as error:
        raise RequestError(f"{error.name} is not installed", "pip install 'bigsvd[client]'") from error

    with There.at(service, token_file) as place:
        yield place
