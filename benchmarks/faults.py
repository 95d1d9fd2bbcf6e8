"""`faults`: jobs on a cluster whose processes die: whether each ends, with the bits of an undisturbed one.

Each job meets one death at a moment that the seed decides. What dies is started again by rules as those of
`deploy/`; a job that nobody drives any more is resumed, as its user would, and that is counted.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.faults_cluster import Cluster, running_cluster
from benchmarks.machine import provenance
from bigsvd.errors import BigsvdError, JobLostError
from bigsvd.jobs.attempt import Attempt
from bigsvd.jobs.index import below
from bigsvd.jobs.job import Job
from bigsvd.jobs.launch import start
from bigsvd.jobs.record import Launch, Terms
from bigsvd.jobs.status import status_of
from bigsvd.jobs.submit import take_in
from bigsvd.planning.plan import Plan
from bigsvd.request import Request
from bigsvd.results.factors import Factors, open_factors
from bigsvd.solve import run
from bigsvd.sources.open import open_source

WORKERS = 2
LIMIT_SECONDS = 300.0
_LOOK_SECONDS = 0.02
_FROZEN_SECONDS = 20.0


@dataclass(frozen=True)
class Size:
    """The matrix of noise, (rows, columns), and how many passes each job makes over it."""

    shape: tuple[int, int]
    passes: int
    records: int


SIZES = {
    "tiny": Size((4_000, 800), 12, 50),
    "full": Size((20_000, 2_000), 12, 1_000),
}


@dataclass(frozen=True)
class Meeting:
    """A job on a cluster, and the chance that decides which of its processes dies, and when."""

    cluster: Cluster
    folder: Path
    size: Size
    job: Job
    chance: random.Random


def _worker(meeting: Meeting) -> None:
    meeting.chance.choice(meeting.cluster.workers).send(signal.SIGKILL)


def _all_workers(meeting: Meeting) -> None:
    for worker in meeting.cluster.workers:
        worker.send(signal.SIGKILL)


def _scheduler(meeting: Meeting) -> None:
    meeting.cluster.scheduler.send(signal.SIGKILL)


def _driver(meeting: Meeting) -> None:
    last = Attempt.last_of(meeting.job.record)
    if last is not None and last.process is not None:
        with suppress(ProcessLookupError):
            os.kill(last.process.pid, signal.SIGKILL)


def _everything(meeting: Meeting) -> None:
    _driver(meeting)
    _scheduler(meeting)
    _all_workers(meeting)


def _frozen(meeting: Meeting) -> None:
    worker = meeting.chance.choice(meeting.cluster.workers)
    worker.send(signal.SIGSTOP)
    time.sleep(_FROZEN_SECONDS)
    worker.send(signal.SIGCONT)


DEATHS: dict[str, Callable[[Meeting], None]] = {
    "one worker": _worker,
    "all workers": _all_workers,
    "scheduler": _scheduler,
    "driver": _driver,
    "scheduler, workers and driver": _everything,
    f"one worker, frozen for {_FROZEN_SECONDS:g} s": _frozen,
}


def run_faults(size: Size, kills: int, seed: int, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """So many jobs, each with one death; the results so far after each."""
    chance = random.Random(seed)  # noqa: S311 - of moments, not of secrets
    parameters = {
        "shape": size.shape,
        "passes": size.passes,
        "workers": WORKERS,
        "kills": kills,
        "seed": seed,
    }
    rows: list[dict[str, Any]] = []
    results = {**provenance(), "parameters": parameters, "kills": rows}
    with tempfile.TemporaryDirectory(prefix="bigsvd-faults-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        A = np.random.default_rng(0).standard_normal(size.shape).astype(np.float32)
        zarr.create_array(str(folder / "a.zarr"), data=A, chunks=(size.shape[0] // 40, size.shape[1]))
        with running_cluster(folder, WORKERS) as cluster:
            results["undisturbed"] = _undisturbed(cluster, folder, size)
            tell(f"undisturbed: {results['undisturbed']['seconds']:.1f} s")
            lanes = results["undisturbed"]["lanes"]
            for row in islice(_deaths(cluster, folder, size, chance, lanes, tell), kills):
                rows.append(row)
                tell(_told(row, len(rows)))
                yield results
        results["blind"] = _blind_status(folder, size.records)
        yield results


def _deaths(
    cluster: Cluster, folder: Path, size: Size, chance: random.Random, lanes: int, tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """A job with each kind of death in turn; one that has ended before its death is followed by another."""
    numbers = count()
    for death in cycle(DEATHS):
        row = None
        while row is None:
            job = _submitted(cluster, folder, size, next(numbers))
            row = _with_death(Meeting(cluster, folder, size, job, chance), death, lanes)
            if row is None:
                tell(f"{death}: the job had ended before")
        yield row


def _told(row: dict[str, Any], number: int) -> str:
    ended = "the same bits" if row["same_bits"] else f"{row['state']}, OTHER BITS {row['error']}"
    return (
        f"{number}: {row['death']} after {row['passes_done']} passes: {ended}, {row['attempts']} attempts, "
        f"{row['resumed']} by hand, {row['lanes_again']} lanes again, {row['seconds']:.1f} s"
    )


def _request(folder: Path, size: Size, out: str) -> Request:
    """Of noise no pass reaches this tolerance: each job makes all its passes."""
    return Request.of(
        str(folder / "a.zarr"), 5, out=str(folder / out), method="krylov", tol=1e-13,
        max_passes=size.passes, memory=300_000_000,
    )  # fmt: skip


def _submitted(cluster: Cluster, folder: Path, size: Size, number: int) -> Job:
    """A job that has been handed to the cluster."""
    cluster.await_ready()
    request = _request(folder, size, f"job-{number}")
    job, _ = take_in(request, Terms(attempts=8, wait_workers_seconds=30.0), secrets={})
    start(job.record, Launch(cluster.address), {})
    return job


def _undisturbed(cluster: Cluster, folder: Path, size: Size) -> dict[str, Any]:
    """What a job without a death takes."""
    begun = time.perf_counter()
    job = _submitted(cluster, folder, size, -1)
    job.wait(LIMIT_SECONDS)
    return {"seconds": time.perf_counter() - begun, "lanes": _lanes_begun(job)}


def _with_death(meeting: Meeting, death: str, lanes: int) -> dict[str, Any] | None:
    """One death, and what has become of the job, of which `lanes` are begun without it; None if too late."""
    job, begun = meeting.job, time.perf_counter()
    _await_passes(job, meeting.chance.randrange(meeting.size.passes))
    time.sleep(meeting.chance.uniform(0.0, 0.5))
    met = job.status
    if met.has_ended:
        return None
    DEATHS[death](meeting)
    resumed, error = _wait(job, meeting.cluster)
    status = job.status
    row = {
        "death": death,
        "passes_done": met.phase.passes_done,
        "state": status.state,
        "error": error,
        "same_bits": status.state == "done" and _same_bits(open_factors(job.out), _by_one_run(job)),
        "attempts": status.attempt,
        "resumed": resumed,
        "lanes_again": _lanes_begun(job) - lanes,
        "seconds": time.perf_counter() - begun,
    }
    shutil.rmtree(job.out, ignore_errors=True)
    return row


def _await_passes(job: Job, passes: int) -> None:
    """Return when the job runs and has finished so many passes, or has ended."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        status = job.status
        if status.has_ended or (status.state == "running" and status.phase.passes_done >= passes):
            return
        time.sleep(_LOOK_SECONDS)


def _wait(job: Job, cluster: Cluster) -> tuple[int, str]:
    """Wait for its end; how often it was resumed by hand, and by what it failed."""
    resumed = 0
    while True:
        try:
            job.wait(LIMIT_SECONDS)
        except JobLostError:
            cluster.await_ready()
            job.resume()
            resumed += 1
        except BigsvdError as error:
            return resumed, str(error)
        else:
            return resumed, ""


def _lanes_begun(job: Job) -> int:
    """How many lanes of passes over all data were begun, in all attempts."""
    return sum(event["event"] == "lane" and not event["sample"] for event in job.events())


def _by_one_run(job: Job) -> Factors:
    """The result of the plan that the job began with, by one undisturbed run in this process."""
    begun = next(event for event in job.events() if event["event"] == "plan")
    plan = Plan.from_dict(begun["plan"])
    request = replace(plan.request, out=None)
    return run(request, open_source(request.source, **request.reading), plan=plan)


def _same_bits(one: Factors, other: Factors) -> bool:
    return all(
        np.array_equal(np.asarray(getattr(one, name)[...]), np.asarray(getattr(other, name)[...]))
        for name in ("U", "s", "Vt")
    )


def _blind_status(folder: Path, count: int) -> dict[str, Any]:
    """How long it takes to tell the states of so many jobs, when no process of a cluster lives."""
    records = list(below(folder))
    states = {record.folder.name: status_of(record).state for record in records}
    many = folder / "many"
    for number in range(count):
        record = records[number % len(records)]
        shutil.copytree(record.folder, many / f"{number}-{record.folder.name}")
    begun = time.perf_counter()
    found = {record.folder.name: status_of(record).state for record in below(many)}
    seconds = time.perf_counter() - begun
    right = sum(states[name.partition("-")[2]] == state for name, state in found.items())
    return {"records": count, "seconds": seconds, "right": right}
