"""One measurement: a peer in a fresh process, its wall time, peak memory and error against the reference.

The parent writes a job, starts `python -m benchmarks.measure NAME FOLDER` and reads what that leaves there.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.machine import forget_files
from benchmarks.peers import BY_NAME, Job, Peer
from benchmarks.reference import Triplets

_BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Measurement:
    """One run of one peer in one process.

    Attributes:
        status: "done", or what stopped it; the figures of a run that was stopped are absent.
        seconds: wall time of the peer's function, imports excluded.
        imported_bytes: resident memory after imports. peak_rss_bytes: the most that was resident.
        passes: chunks read, divided by chunks.
        facts: what the peer says of itself.
        others_cpus: processors that the rest of the machine kept busy meanwhile, on average.

    """

    status: str
    seconds: float | None = None
    imported_bytes: int | None = None
    peak_rss_bytes: int | None = None
    passes: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    accuracy: Accuracy | None = None
    others_cpus: float | None = None

    @property
    def peak_memory_bytes(self) -> int | None:
        """Peak resident memory beyond the imports."""
        if self.peak_rss_bytes is None or self.imported_bytes is None:
            return None
        return self.peak_rss_bytes - self.imported_bytes

    def to_dict(self) -> dict[str, Any]:
        """The measurement as JSON values."""
        return asdict(self) | {"peak_memory_bytes": self.peak_memory_bytes}


@dataclass(frozen=True)
class Accuracy:
    """Errors of computed s (k,) and Vt (k, n) against the float64 reference σ and V.

    Attributes:
        sigma_error: max |s−σ|/σ.
        pve: max |s²−σ²|/σ²_{k+1}, the per-vector error.
        angle_radians: largest principal angle between the spans of the k leading right singular vectors.

    """

    sigma_error: float
    pve: float
    angle_radians: float


def accuracy(sigma: np.ndarray, Vt: np.ndarray, reference: Triplets) -> Accuracy:
    """See `Accuracy`; the sine is used for the angle, whose cosine cannot resolve small ones."""
    k = len(sigma)
    s = np.asarray(sigma, dtype=np.float64)
    exact = reference.sigma[:k]
    Q, _ = np.linalg.qr(np.asarray(Vt, dtype=np.float64).T)
    V = reference.Vt[:k].T
    sine = float(np.linalg.norm(V - Q @ (Q.T @ V), 2))
    return Accuracy(
        float(np.max(np.abs(s - exact) / exact)),
        float(np.max(np.abs(s**2 - exact**2)) / reference.sigma[k] ** 2),
        math.asin(min(1.0, sine)),
    )


def measure(
    peer: Peer,
    store: Path,
    k: int,
    reference: Triplets | None,
    timeout_seconds: float,
    within: Sequence[str] = (),
) -> Measurement:
    """Run a peer in a fresh process beside the store; `within` scarce memory, none of it cached."""
    if within:
        forget_files(store)
    with tempfile.TemporaryDirectory(dir=store.parent, prefix="peer-") as name:
        folder = Path(name)
        job = Job(store.absolute(), k, folder.absolute())
        (folder / "job.json").write_text(json.dumps({"store": str(job.store), "k": k}))
        environment = os.environ | blas_limited_to(peer.blas_threads)
        command = [*within, sys.executable, "-m", "benchmarks.measure", peer.name, str(job.folder)]
        before = _others_cpu_seconds()
        start = time.perf_counter()
        try:
            ended = subprocess.run(
                command, env=environment, timeout=timeout_seconds, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired:
            return Measurement(f"stopped after {timeout_seconds:g} s")
        others = (_others_cpu_seconds() - before) / (time.perf_counter() - start)
        if ended.returncode:
            said = (ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"])[-1]
            return Measurement(
                f"failed: {said}".replace(str(job.folder), "FOLDER").replace(str(job.store), "STORE")
            )
        facts = json.loads((folder / "measured.json").read_text())
        with np.load(folder / "triplets.npz", allow_pickle=False) as found:
            sigma, Vt = found["sigma"], found["Vt"]
    if not (np.isfinite(sigma).all() and np.isfinite(Vt).all()):
        return Measurement("failed: the factors are not finite")
    errors = accuracy(sigma, Vt, reference) if reference is not None else None
    return Measurement("done", accuracy=errors, others_cpus=max(0.0, others), **facts)


def blas_limited_to(threads: int) -> dict[str, str]:
    """Variables of the environment that hold BLAS libraries to so many threads."""
    return dict.fromkeys(_BLAS_VARIABLES, str(threads))


def _others_cpu_seconds() -> float:
    """CPU time used so far by all processes but the ended children of this one, which waits meanwhile."""
    times = psutil.cpu_times()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(times.user + times.system - children.ru_utime - children.ru_stime)


def peak_rss_bytes() -> int:
    """The most resident memory this process had.

    Linux carries ru_maxrss over exec, so it may be the parent's; VmHWM, the same mark, starts anew.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run_child(name: str, folder: Path) -> None:
    """In the fresh process: import, run, leave figures and factors in the folder."""
    peer = BY_NAME[name]
    for module in peer.modules:
        import_module(module)
    job = json.loads((folder / "job.json").read_text())
    imported = int(psutil.Process().memory_info().rss)
    start = time.perf_counter()
    outcome = peer.run(Job(Path(job["store"]), job["k"], folder))
    seconds = time.perf_counter() - start
    peak = peak_rss_bytes()
    measured = {
        "seconds": seconds,
        "imported_bytes": imported,
        "peak_rss_bytes": peak,
        "passes": outcome.passes,
        "facts": outcome.facts,
    }
    np.savez(folder / "triplets.npz", sigma=outcome.sigma, Vt=outcome.Vt)
    (folder / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    run_child(sys.argv[1], Path(sys.argv[2]))
