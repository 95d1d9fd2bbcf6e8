"""`service fuzz`: many random requests to a service with jobs, results and links, in this process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from schemathesis.python.asgi import HOST

from benchmarks.machine import provenance
from benchmarks.service_fuzz import Known, fuzz
from bigsvd.jobs.job import Job
from bigsvd.request import Request
from bigsvd.service.app import create_app
from bigsvd.service.queue.rows import NewJob
from bigsvd.service.service import Service
from bigsvd.service.settings import Settings

SHAPE = (120, 80)
_LIMIT_SECONDS = 120.0
_TERMS = {"attempts": 1, "max_runtime_seconds": None, "wait_workers_seconds": 60.0}


def run_fuzz(cases: int, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """So many requests, and what was wrong with their answers."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bigsvd-fuzz-", ignore_cleanup_errors=True) as name:
        root, state = Path(name) / "root", Path(name) / "state"
        root.mkdir()
        state.mkdir()
        A = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
        zarr.create_array(str(root / "a.zarr"), data=A, chunks=(50, 30))
        settings = Settings(state, (root,), trusted=True, memory_bytes=2**29, hosts=(HOST,))
        with Service(settings) as service:
            jobs = [_done(service, root, k) for k in (2, 3)]
            _, link = service.links.make(jobs[0], "somebody", "", 3600.0, None)
            service.runner.pause()
            known = Known.of(str(root / "a.zarr"), ["out2"], jobs, [link.id])
            found = fuzz(create_app(service), cases, known, seed_of_run=seed).to_dict()
    tell(f"{found['cases']} requests, {len(found['failures'])} answers that are not as they should be")
    parameters = {"cases": cases, "seed": seed, "shape": SHAPE}
    return {
        **provenance(),
        "parameters": parameters,
        "seconds": time.perf_counter() - begun,
        **found,
        "failures": [failure.replace(str(root), "ROOT") for failure in found["failures"]],
    }


def _done(service: Service, root: Path, k: int) -> str:
    """The id of a job that has ended with a result."""
    request = Request.of(str(root / "a.zarr"), k, out=str(root / f"out{k}"))
    new = NewJob("somebody", "", {"a": "b"}, None, request, _TERMS, str(request.out))
    row, _ = service.index.add(new).result()
    until = time.monotonic() + _LIMIT_SECONDS
    while not service.index.job(row.id).has_ended:
        if time.monotonic() > until:
            raise RuntimeError(f"job {row.id} has not ended: {Job(root / f'out{k}').log()}")
        time.sleep(0.1)
    return str(row.id)
