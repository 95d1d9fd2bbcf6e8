"""Jobs of a service, and how they stand: what its tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigsvd.jobs.attempt import Attempt
from bigsvd.jobs.index import below
from bigsvd.jobs.record import Record
from bigsvd.request import Request
from bigsvd.service.queue.rows import JobRow, NewJob
from bigsvd.service.service import Service
from tests.waiting import wait_until

LIMIT_SECONDS = 120
NOISE = np.random.default_rng(0).standard_normal((2_000, 800)).astype(np.float32)
EASY: dict[str, Any] = {"method": "krylov"}
# Of noise no pass reaches this tolerance: such a run goes on until it is told to end.
ENDLESS: dict[str, Any] = {**EASY, "tol": 1e-14, "max_passes": 2_000}


def make_noise(folder: Path) -> Path:
    """A matrix of noise in the folder."""
    zarr.create_array(str(folder / "a.zarr"), data=NOISE, chunks=(100, 800))
    return folder / "a.zarr"


def end_drivers(folder: Path) -> None:
    """Let no driver of a job in the folder outlive the test."""
    for record in below(folder):
        for number in record.attempt_numbers():
            kill(Attempt(record, number))


def kill(attempt: Attempt) -> None:
    """Kill the driver of an attempt, if it lives."""
    process = attempt.process
    if process is not None and process.pid != os.getpid() and not process.has_ended:
        os.kill(process.pid, signal.SIGKILL)


def new(data: Path, name: str, owner: str = "u1", **options: Any) -> NewJob:
    out, terms = str(data.parent / name), options.pop("terms", {})
    source = str(options.pop("source", data))
    request = Request.of(source, options.pop("k", 4), out=out, **EASY | options)
    return NewJob(owner, name, {}, None, request, terms, out)


def add(service: Service, job: NewJob) -> str:
    return service.index.add(job).result(LIMIT_SECONDS)[0].id


def until(true: Callable[[], Any]) -> Any:
    return wait_until(true, LIMIT_SECONDS, "the state has come")


def end_of(service: Service, job: str) -> JobRow:
    until(lambda: service.index.job(job).has_ended)
    return service.index.job(job)


def in_pass(service: Service, job: str, number: int = 2) -> JobRow:
    """Wait until the job is in that pass."""

    def there() -> bool:
        row = service.index.job(job)
        assert not row.has_ended, row
        return row.state == "running" and row.phase["passes_done"] >= number - 1

    until(there)
    return service.index.job(job)


def last_of(row: JobRow) -> Attempt:
    last = Attempt.last_of(Record(row.out))
    assert last is not None
    return last
