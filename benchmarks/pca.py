"""PCA of genotypes, centred and scaled: bigsvd beside scikit-learn, PCAone and another commit of bigsvd.

Every run is a fresh process. Contenders take turns, round by round, so that whatever else the machine does
meets all of them. Singular values are held against LAPACK's in float64.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from os import pathsep
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.cpu_gpu_child import in_process_of
from benchmarks.data import THREADS
from benchmarks.machine import limited_to, provenance
from benchmarks.measure import blas_limited_to
from benchmarks.pca_data import (
    Genotypes,
    by_deviation,
    by_frequency,
    ensure_bed,
    ensure_genotypes,
    exact_sigma,
)
from benchmarks.peers import SEED

LEADING = 5  # as many as GROUPS − 1: those that stand out of the noise
_ROOT = Path(__file__).resolve().parent.parent
_FLOAT32_BYTES = 4
_SKLEARN_FACTOR = 1.5  # of the float32 array, what `PCA` and `IncrementalPCA` hold
_PCAONE_BYTES = 8  # an entry, in memory
_STANDARDIZED = {"deviation": by_deviation, "frequency": by_frequency}

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """How often and how long a contender may run, and what it may hold.

    Attributes:
        repeat: rounds. slow_seconds: a run that takes longer is not repeated.
        timeout_seconds: a run that takes longer is stopped.
        memory_limit_bytes: what would hold more is refused, or told to work from the disk.
        memory: bigsvd's budget, as its option.

    """

    repeat: int
    slow_seconds: float
    timeout_seconds: float
    memory_limit_bytes: int
    memory: str


@dataclass(frozen=True)
class Others:
    """What is named on the command line: tests of `stop`, another checkout of bigsvd, the program PCAone."""

    stops: tuple[str, ...] = ("residual",)
    against: Path | None = None
    pcaone: Path | None = None


@dataclass(frozen=True)
class Contender:
    """One row.

    Attributes:
        what: the function of `pca_child` that runs. job: its arguments.
        variables: of its environment.
        blas_threads: what BLAS is limited to.
        standardized: how it divides, a name in `_STANDARDIZED`.
        up_to_factor: whether its values are compared after the factor that fits best was taken out.
        refusal: why it is not run; empty where it is.

    """

    name: str
    label: str
    what: str
    job: dict[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)
    blas_threads: int = 1
    standardized: str = "deviation"
    up_to_factor: bool = False
    refusal: str = ""


def run_pca(
    genotypes: Genotypes, data: Path, names: Sequence[str], others: Others, limits: Limits, tell: Tell
) -> dict[str, Any]:
    """Every named contender (all if none is named) on the genotypes."""
    measured_with = provenance()
    store = ensure_genotypes(genotypes, data).absolute()
    with checkouts(others.against) as homes:
        rows = contenders(genotypes, data, others, limits, homes)
        rows = [row for row in rows if not names or row.what in names]
        exact = {
            kind: exact_sigma(genotypes, data, _STANDARDIZED[kind])
            for kind in dict.fromkeys(row.standardized for row in rows)
        }
        with limited_to(THREADS):
            found = _in_turns(rows, store, limits, tell)
    return {
        **measured_with,
        "against": commit_of(others.against),
        "parameters": {
            **asdict(genotypes),
            "data_bytes": genotypes.data_bytes,
            "cpus": THREADS,
            "seed_of_runs": SEED,
            "leading": min(LEADING, genotypes.k),
            **asdict(limits),
        },
        "sigma": {kind: values[: genotypes.k + 1].tolist() for kind, values in exact.items()},
        "contenders": [_row(row, found[row.name], exact[row.standardized], genotypes.k) for row in rows],
    }


def commit_of(checkout: Path | None) -> str:
    """The commit of a checkout; empty where there is none."""
    if checkout is None:
        return ""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def checkouts(against: Path | None) -> Iterator[dict[str, Path]]:
    """Folders that hold a package bigsvd, by name: this repository, and one with nothing but the other's."""
    with tempfile.TemporaryDirectory(prefix="pca-") as name:
        homes = {"bigsvd": _ROOT}
        if against is not None:
            (Path(name) / "bigsvd").symlink_to(against.absolute() / "bigsvd", target_is_directory=True)
            homes["before"] = Path(name)
        yield homes


def contenders(
    genotypes: Genotypes, data: Path, others: Others, limits: Limits, homes: Mapping[str, Path]
) -> list[Contender]:
    """The rows: bigsvd's of each checkout with each test of `stop`, scikit-learn's, PCAone's."""
    rows = [
        _bigsvd(name, home, stop, genotypes, limits) for stop in others.stops for name, home in homes.items()
    ]
    rows += [_sklearn(*words, genotypes, limits) for words in _SKLEARN]
    if others.pcaone is not None:
        rows.append(_pcaone(others.pcaone, genotypes, data, limits))
    return rows


def _bigsvd(name: str, home: Path, stop: str, genotypes: Genotypes, limits: Limits) -> Contender:
    paths = dict.fromkeys((str(home), str(_ROOT)))  # what of this repository is not in `home`
    return Contender(
        f"{name}-{stop}",
        f"{_LABELS[name]}, stop={stop}",
        "bigsvd",
        {
            "k": genotypes.k, "home": str(home), "missing": genotypes.missing > 0,
            "options": {"stop": stop, "memory": limits.memory},
        },
        {"PYTHONPATH": pathsep.join(paths), "PYTHONSAFEPATH": "1"},
    )  # fmt: skip


_LABELS = {"bigsvd": "bigsvd", "before": "bigsvd before"}
_SKLEARN = (
    ("sklearn-randomized", "scikit-learn PCA, randomized"),
    ("sklearn-incremental", "scikit-learn IncrementalPCA"),
)


def _sklearn(name: str, label: str, genotypes: Genotypes, limits: Limits) -> Contender:
    needed = _SKLEARN_FACTOR * _FLOAT32_BYTES * genotypes.data_bytes
    refusal = ""
    if needed > limits.memory_limit_bytes:
        limit = limits.memory_limit_bytes / 1e9
        refusal = f"refused: it needs about {needed / 1e9:.1f} GB, the limit is {limit:.1f} GB"
    return Contender(name, label, name, {"k": genotypes.k}, blas_threads=THREADS, refusal=refusal)


def _pcaone(binary: Path, genotypes: Genotypes, data: Path, limits: Limits) -> Contender:
    """In memory where that is allowed, else from the disk with 1 GB."""
    in_memory = _PCAONE_BYTES * genotypes.data_bytes <= limits.memory_limit_bytes
    job = {
        "binary": str(binary.absolute()),
        "prefix": str(ensure_bed(genotypes, data).absolute()),
        "k": genotypes.k,
        "threads": THREADS,
        "options": [] if in_memory else ["-m", "1"],
    }
    place = "in memory" if in_memory else "-m 1"
    return Contender(
        "pcaone", f"PCAone, {place}", "pcaone", job, blas_threads=THREADS, standardized="frequency",
        up_to_factor=True,
    )  # fmt: skip


def _in_turns(
    rows: Sequence[Contender], store: Path, limits: Limits, tell: Tell
) -> dict[str, list[dict[str, Any]]]:
    """The runs of each, by name; a contender that fails or is slow has no turn in later rounds."""
    found: dict[str, list[dict[str, Any]]] = {row.name: [] for row in rows}
    waiting = [row for row in rows if not row.refusal]
    for _ in range(limits.repeat):
        for row in list(waiting):
            run = _measure(row, store, limits)
            found[row.name].append(run)
            tell(f"{row.label}: {_said(run)}")
            if run["status"] != "done" or run["seconds"] > limits.slow_seconds:
                waiting.remove(row)
    return found


def _said(run: dict[str, Any]) -> str:
    return f"{run['seconds']:.2f} s" if run["status"] == "done" else str(run["status"])


def _measure(row: Contender, store: Path, limits: Limits) -> dict[str, Any]:
    job = row.job if "prefix" in row.job else row.job | {"store": str(store)}
    with tempfile.TemporaryDirectory(dir=store.parent, prefix="pca-") as name:
        variables = blas_limited_to(row.blas_threads) | dict(row.variables)
        status, measured = in_process_of(
            "benchmarks.pca_child", row.what, Path(name).absolute(), limits.timeout_seconds, variables, job
        )
    return {"status": status, **measured}


def _row(row: Contender, runs: list[dict[str, Any]], exact: np.ndarray, k: int) -> dict[str, Any]:
    """The medians of a contender and its worst errors, beside all its runs."""
    known = {name: getattr(row, name) for name in ("name", "label", "standardized", "up_to_factor")}
    done = [run for run in runs if run["status"] == "done"]
    if not done:
        return known | {"status": row.refusal or runs[-1]["status"], "runs": runs}
    errors = np.array([sigma_errors(run["sigma"], exact[:k], up_to_factor=row.up_to_factor) for run in done])
    medians = {
        name: median(run[name] for run in done)
        for name in ("seconds", "peak_memory_bytes", "passes", "seconds_in_run", "predicted_seconds")
        if name in done[0]
    }
    return known | medians | {
        "status": runs[-1]["status"],
        "runs": runs,
        "fastest_seconds": min(run["seconds"] for run in done),
        "slowest_seconds": max(run["seconds"] for run in done),
        "leading_error": float(errors[:, :LEADING].max()),
        "error": float(errors.max()),
    }  # fmt: skip


def sigma_errors(sigma: Sequence[float], exact: np.ndarray, *, up_to_factor: bool) -> np.ndarray:
    """|s − σ|/σ of each value (k,), with s times the factor that fits σ best if s is known up to one."""
    s = np.asarray(sigma, dtype=np.float64)
    if up_to_factor:
        s = s * float(s @ exact) / float(s @ s)
    return np.asarray(np.abs(s - exact) / exact)
