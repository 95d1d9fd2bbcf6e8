"""`service soak`: whether a server holds more and more while it carries out hundreds of small jobs.

Beside the jobs, clients do what people do: they list, follow, open results and make links, so that what these
leave behind is counted too. What the server holds is read from the system after every few jobs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr

from benchmarks.faults_cluster import Cluster, running_cluster
from benchmarks.machine import provenance
from benchmarks.service_server import Server, serving
from bigsvd.client.client import Client

Tell = Callable[[str], None]
SHAPE = (300, 100)
_AT_ONCE = 2
_AHEAD = 6  # jobs that were sent and are not done
_EVERY = 10  # jobs between two samples
_LIMIT_SECONDS = 300.0
_LOOK_SECONDS = 0.05
_CACHE_BYTES = 2**20  # of decoded factors: full soon, so that what is kept on purpose is not taken for a leak
_BOUNDS = ("--jobs-at-once", str(_AT_ONCE), "--limit", f"cache_bytes={_CACHE_BYTES}")
_SETTLED = 0.2  # of the jobs, by which what is imported and cached once is there


@dataclass(frozen=True)
class Sample:
    """What was held when so many jobs had ended: bytes of memory, open descriptors and threads."""

    jobs: int
    seconds: float
    memory_bytes: int
    descriptors: int
    threads: int


def run_soak(jobs: int, workers: int, tell: Tell) -> dict[str, Any]:
    """So many jobs on one server; with workers on a cluster of so many, whose scheduler is looked at too."""
    parameters = {"jobs": jobs, "workers": workers, "shape": SHAPE, "at_once": _AT_ONCE}
    with (
        tempfile.TemporaryDirectory(prefix="bigsvd-soak-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        root = Path(name) / "root"
        root.mkdir()
        A = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
        zarr.create_array(str(root / "a.zarr"), data=A, chunks=(100, SHAPE[1]))
        cluster = stack.enter_context(running_cluster(Path(name), workers)) if workers else None
        place = ("--memory", "1GB") if cluster is None else ("--scheduler", cluster.address)
        server = stack.enter_context(serving(root, *_BOUNDS, *place))
        soak = Soak(server, cluster, tell)
        with server.client() as client:
            states = soak.run(client, jobs)
    return {
        **provenance(),
        "parameters": parameters,
        "states": states,
        "server": [vars(sample) for sample in soak.samples],
        "scheduler": [vars(sample) for sample in soak.of_scheduler],
    }


class Soak:
    """Jobs that are sent as others end, and what is held meanwhile."""

    def __init__(self, server: Server, cluster: Cluster | None, tell: Tell) -> None:
        self.samples: list[Sample] = []
        self.of_scheduler: list[Sample] = []
        self._server, self._cluster, self._tell = server, cluster, tell
        self._begun = time.perf_counter()

    def run(self, client: Client, jobs: int) -> dict[str, int]:
        """How many jobs ended in each state."""
        waiting: dict[str, Any] = {}
        states: dict[str, int] = {}
        sent = ended = 0
        while ended < jobs:
            while sent < jobs and len(waiting) < _AHEAD:
                job = client.submit("a.zarr", 3, f"out/{sent}", name=f"soak {sent}", method="krylov")
                waiting[job.id] = job
                sent += 1
            for job_id in [each for each, job in waiting.items() if job.status.has_ended]:
                state = waiting.pop(job_id).status.state
                states[state] = states.get(state, 0) + 1
                ended += 1
                _look_at(client, job_id)
                if ended % _EVERY == 0 or ended == jobs:
                    self._sample(ended)
            time.sleep(_LOOK_SECONDS)
        return states

    def _sample(self, jobs: int) -> None:
        seconds = time.perf_counter() - self._begun
        self.samples.append(Sample(jobs, seconds, *self._server.held))
        last = self.samples[-1]
        self._tell(
            f"{jobs} jobs, {seconds:.0f} s: {last.memory_bytes / 1e6:.1f} MB, {last.descriptors} descriptors"
        )
        if self._cluster is not None:
            scheduler = psutil.Process(self._cluster.scheduler.pid)
            held = int(scheduler.memory_info().rss), int(scheduler.num_fds()), int(scheduler.num_threads())
            self.of_scheduler.append(Sample(jobs, seconds, *held))


def _look_at(client: Client, job_id: str) -> None:
    """What somebody does with a job that is done."""
    job = client.job(job_id)
    for _ in job.follow():
        continue
    if job.status.state == "done":
        result = job.result
        result.rank()
        result.region(slice(0, 10), slice(0, 10))
        result.revoke(result.link())
    next(client.jobs(owner="me"))


def growth(samples: list[dict[str, Any]], name: str) -> tuple[float, float]:
    """What was held when all that comes once was there, and how much more a hundred jobs later, on average.

    By a line through the samples (Theil and Sen: the median of all slopes), which single peaks do not move.
    """
    settled = [each for each in samples if each["jobs"] >= _SETTLED * samples[-1]["jobs"]]
    jobs = np.array([each["jobs"] for each in settled], dtype=float)
    held = np.array([each[name] for each in settled], dtype=float)
    first, second = np.triu_indices(len(jobs), 1)
    if not first.size:
        return float(held[0]), 0.0
    slope = float(np.median((held[second] - held[first]) / (jobs[second] - jobs[first])))
    return float(np.median(held - slope * (jobs - jobs[0]))), 100 * slope
