"""The machine that a command runs on, as the place where jobs are carried out and results lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigsvd.cli.job_words import progress_of
from bigsvd.cli.options import (
    ClusterOptions,
    DeviceName,
    client_of,
    open_again,
    refuse_idle,
    request_of,
    secrets_of,
)
from bigsvd.errors import BigsvdError, JobError
from bigsvd.jobs.files import date_of
from bigsvd.jobs.index import below, of_this_user
from bigsvd.jobs.job import Job
from bigsvd.jobs.launch import start
from bigsvd.jobs.record import Launch, Record, Terms
from bigsvd.jobs.status import status_of
from bigsvd.jobs.submit import take_in
from bigsvd.request import Request
from bigsvd.results.factors import Factors, open_factors
from bigsvd.sources.open import open_source
from bigsvd.sources.vectors import name_vectors

if TYPE_CHECKING:
    from bigsvd.client.order import Order
    from bigsvd.events import Progress
    from bigsvd.planning.plan import Plan
    from bigsvd.results.verification import Verification


@dataclass(frozen=True)
class Here:
    """The machine that a command runs on, or a cluster that it reaches.

    `secrets` are options for the stores of URLs.
    """

    cluster: ClusterOptions
    secrets: dict[str, str]

    @classmethod
    def taken(cls, options: dict[str, Any]) -> Here:
        """What the options of a command say of it; they are taken out of them."""
        return cls(ClusterOptions.taken(options), secrets_of(options.pop("storage_options", ())))

    @property
    def here(self) -> Here:
        """Itself."""
        return self

    def plan(self, data: str, options: dict[str, Any]) -> Plan:
        """See `place.Place`; only metadata are read."""
        from bigsvd.solve import foresee  # noqa: PLC0415 - imports Dask

        vectors = name_vectors(options, self.secrets)
        request = request_of(data, None, options)
        source = open_source(data, **request.reading, storage_options=self.secrets)
        with client_of(self.cluster) as client:
            return foresee(request, source, vectors=vectors, client=client)

    def take_in(self, request: Request, order: Order) -> tuple[Job, bool]:
        """The job of a request, and whether it waits for somebody to drive it."""
        terms = Terms(order.attempts or Terms.attempts, order.max_runtime_seconds, self.cluster.wait_workers)
        return take_in(request, terms, name=order.name, labels=order.labels, secrets=self.secrets)

    def submit(self, request: Request, order: Order) -> tuple[Job, bool]:
        """See `place.Place`."""
        job, waits = self.take_in(request, order)
        if waits:
            start(job.record, self.cluster.launch, self.secrets)
        return job, waits

    def job(self, name: str) -> Job:
        """See `place.Place`."""
        return Job(name)

    def jobs(self, folders: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """See `place.Place`; a damaged record is one of them."""
        return map(_row, records_in(folders))

    def made_ready(self, name: str) -> tuple[Job, Launch]:
        """A job that may go on, and where: where it was, or where this says."""
        job = Job(name)
        launch = job.record.launch()
        if self.cluster.scheduler is not None:
            launch = replace(launch, scheduler=self.cluster.scheduler)
        job.check_resumable()
        job.record.withdraw()
        return job, launch

    def resume(self, name: str) -> Job:
        """See `place.Place`."""
        job, launch = self.made_ready(name)
        start(job.record, launch, self.secrets)
        return job

    def result(self, name: str) -> Factors:
        """See `place.Place`."""
        return open_factors(name)

    def verify(self, name: str, data: str | None, device: DeviceName, progress: Progress) -> Verification:
        """See `place.Place`; against the data only where they are given."""
        from bigsvd.distill.measured import verification_of  # noqa: PLC0415 - imports Dask

        if data is None:
            refuse_idle(("scheduler", "device", "storage_options"), "DATA")
        factors = open_factors(name)
        asked = replace(Request.from_dict(factors.provenance["request"]), rows=None, cols=None)
        source = None if data is None else open_again(data, asked, self.secrets)
        with client_of(self.cluster) as client:
            return verification_of(factors, source, progress, client, device)


def records_in(folders: tuple[str, ...]) -> Iterator[Record]:
    """The records of jobs in these folders or below; of this user's jobs where none are given."""
    if not folders:
        return of_this_user()
    for folder in folders:
        if not Path(folder).is_dir():
            raise JobError(f"{folder} is no folder", "name one in which outputs lie")
    return (record for folder in folders for record in below(Path(folder)))


def _row(record: Record) -> dict[str, Any]:
    """One line of a list; a damaged record has one, too."""
    try:
        found = status_of(record)
    except BigsvdError as error:
        nothing = {"id": "?", "state": "damaged", "name": "", "out": str(record.out)}
        return nothing | {"submitted": date_of(record.job) or 0.0, "progress": str(error)}
    return found.to_dict() | {"progress": progress_of(found)}
