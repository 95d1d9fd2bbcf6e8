"""All peers on one stored matrix in one run: the results as a JSON value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.data import THREADS, Dataset, ensure_data
from benchmarks.machine import limited_to, provenance, scarce_memory
from benchmarks.measure import Measurement, measure
from benchmarks.peers import BARE_LOOP, BARE_READ, OVERSAMPLING, PEERS, SEED, Peer
from benchmarks.reference import Triplets, ensure_reference


@dataclass(frozen=True)
class Machine:
    """How often and how long a peer may run, and what it may hold.

    Attributes:
        repeat: runs of each peer. slow_seconds: a run that takes longer is not repeated.
        timeout_seconds: a run that takes longer is stopped.
        memory_limit_bytes: a peer that would hold more of the matrix, or of copies of it, is refused.
        scarce_bytes: all that a process may hold, the pages of files it reads included; None: no limit.

    """

    repeat: int
    slow_seconds: float
    timeout_seconds: float
    memory_limit_bytes: int
    scarce_bytes: int | None = None


def run_suite(
    dataset: Dataset, data: Path, names: Sequence[str], limits: Machine, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The results of every named peer (all if none is named), with a bare read of the same store before each.

    The check of the store's checksum before the first measurement leaves the store in the page cache, if it
    fits there; where memory is made scarce every measurement begins without it there.
    """
    measured_with = provenance()
    store = ensure_data(dataset, data)
    reference = ensure_reference(dataset, data)
    reads: list[Measurement] = []
    loops: list[Measurement] = []
    rows = []
    with limited_to(THREADS), scarce_memory(limits.scarce_bytes) as within:

        def read(peer: Peer) -> Measurement:
            return measure(peer, store, dataset.k, None, limits.timeout_seconds, within)

        for peer in [peer for peer in PEERS if not names or peer.name in names]:
            reads.append(read(BARE_READ))
            if len(loops) < limits.repeat:
                loops.append(read(BARE_LOOP))
            tell(f"{BARE_READ.label}: {_said(reads[-1])}")
            exact = reference.centred if peer.centred else reference.raw
            runs = _runs(peer, dataset, store, exact, limits, within)
            tell(f"{peer.label}: {', '.join(map(_said, runs))}")
            rows.append((peer, runs))
        reads.append(read(BARE_READ))
    read_seconds, loop_seconds = _median(reads, "seconds"), _median(loops, "seconds")
    return {
        **measured_with,
        "parameters": {
            "dataset": dataset.describe(),
            "data_bytes": dataset.data_bytes,
            "k": dataset.k,
            "cpus": THREADS,
            "oversampling_of_peers": OVERSAMPLING,
            "seed": SEED,
            **asdict(limits),
        },
        "reference": {
            "sigma_1": float(reference.raw.sigma[0]),
            "sigma_k": float(reference.raw.sigma[dataset.k - 1]),
            "sigma_k_plus_1": float(reference.raw.sigma[dataset.k]),
        },
        "bare_read": {"seconds": read_seconds, "runs": [run.to_dict() for run in reads]},
        "bare_loop": {"seconds": loop_seconds, "runs": [run.to_dict() for run in loops]},
        "peers": [_row(peer, runs, read_seconds, loop_seconds) for peer, runs in rows],
    }


def _runs(
    peer: Peer, dataset: Dataset, store: Path, exact: Triplets, limits: Machine, within: Sequence[str]
) -> list[Measurement]:
    needed = int(peer.memory_factor * dataset.data_bytes)
    if needed > limits.memory_limit_bytes:
        factor, limit = peer.memory_factor, limits.memory_limit_bytes / 1e9
        return [
            Measurement(
                f"refused: {factor:g} × the matrix is {needed / 1e9:.1f} GB, the limit {limit:.1f} GB"
            )
        ]
    runs: list[Measurement] = []
    while len(runs) < limits.repeat:
        runs.append(measure(peer, store, dataset.k, exact, limits.timeout_seconds, within))
        seconds = runs[-1].seconds
        if seconds is None or seconds > limits.slow_seconds:
            break
    return runs


def _said(run: Measurement) -> str:
    return run.status if run.seconds is None else f"{run.seconds:.2f} s"


def _row(peer: Peer, runs: list[Measurement], read_seconds: float, loop_seconds: float) -> dict[str, Any]:
    """A peer's medians, its worst errors and all its runs."""
    done = [run for run in runs if run.status == "done"]
    row: dict[str, Any] = {
        "name": peer.name,
        "label": peer.label,
        "family": peer.family,
        "threads": peer.threads,
        "centred": peer.centred,
        "note": peer.note,
        "status": runs[-1].status if len(done) < len(runs) else "done",
        "runs": [run.to_dict() for run in runs],
    }
    if not done:
        return row
    seconds = _median(done, "seconds")
    errors = [run.accuracy for run in done if run.accuracy is not None]
    names = ("passes", "peak_memory_bytes", "imported_bytes")
    return row | {
        "seconds": seconds,
        "fastest_seconds": min(run.seconds for run in done if run.seconds is not None),
        "slowest_seconds": max(run.seconds for run in done if run.seconds is not None),
        "reads": seconds / read_seconds,
        "loops": seconds / loop_seconds,
        **{name: _median(done, name) for name in names},
        "sigma_error": max(error.sigma_error for error in errors),
        "pve": max(error.pve for error in errors),
        "angle_radians": max(error.angle_radians for error in errors),
    }


def _median(runs: list[Measurement], name: str) -> float:
    return float(median(getattr(run, name) for run in runs))
