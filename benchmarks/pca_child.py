"""One contender of `pca` in a fresh process: `python -m benchmarks.pca_child WHAT FOLDER`.

Which bigsvd is imported is for PYTHONPATH to say, so nothing else here imports it.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.data import open_store
from benchmarks.genotypes import MISSING
from benchmarks.measure import peak_rss_bytes
from benchmarks.pca_data import blocks, by_deviation
from benchmarks.peers import SEED

_BATCH_ROWS = 250
_EPOCH = re.compile(r"\bepoch\D*(\d+)")


def by_bigsvd(
    folder: Path, store: str, k: int, home: str, *, missing: bool, options: dict[str, Any]
) -> dict[str, Any]:
    """`bigsvd.svd` of the package in `home`, with center and scale; gaps are filled with the mean."""
    solve = import_module("bigsvd.solve")
    if not Path(str(solve.__file__)).is_relative_to(home):
        message = f"bigsvd was imported from {solve.__file__}, not from {home}"
        raise ImportError(message)
    svd = solve.svd
    gaps = {"missing": "mean", "missing_value": MISSING} if missing else {}

    def run() -> dict[str, Any]:
        factors = svd(
            store, k, folder / "factors", center=True, scale=True, device="cpu", seed=SEED, **gaps, **options
        )
        costs, certificate = factors.provenance["costs"], factors.certificate
        return {
            "sigma": np.asarray(factors.s, dtype=np.float64).tolist(),
            "passes": costs["passes"],
            "method": costs["method"],
            "seconds_in_run": costs["seconds"],
            "pass_seconds": costs["pass_seconds"],
            "seconds_by_part": costs["seconds_by_part"],
            "predicted_seconds": sum(costs["predicted_seconds"].values()),
            "planned_memory_bytes": costs["planned_memory_bytes"],
            "max_residual": certificate.max_residual,
            "converged": certificate.converged,
        }

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which repeat the certificate
        return _measured(run)


def by_randomized(folder: Path, store: str, k: int) -> dict[str, Any]:
    """scikit-learn's `PCA`, svd_solver="randomized", of the standardised genotypes in memory as float32."""
    del folder
    PCA = import_module("sklearn.decomposition").PCA

    def run() -> dict[str, Any]:
        estimator = PCA(k, copy=False, svd_solver="randomized", random_state=SEED)
        return {"sigma": estimator.fit(_in_memory(store)).singular_values_.tolist()}

    return _measured(run)


def by_increments(folder: Path, store: str, k: int) -> dict[str, Any]:
    """scikit-learn's `IncrementalPCA`, some samples at a time, of the same array."""
    del folder
    IncrementalPCA = import_module("sklearn.decomposition").IncrementalPCA

    def run() -> dict[str, Any]:
        estimator = IncrementalPCA(k, copy=False, batch_size=max(2 * k, _BATCH_ROWS))
        return {"sigma": estimator.fit(_in_memory(store)).singular_values_.tolist()}

    return _measured(run)


def _in_memory(store: str) -> np.ndarray:
    """The standardised genotypes, (samples, variants) float32."""
    array = open_store(Path(store))
    values, start = np.empty(array.shape, np.float32), 0
    for counts in blocks(array):
        stop = start + counts.shape[1]
        values[:, start:stop] = by_deviation(counts, np.float32)
        start = stop
    return values


def by_pcaone(
    folder: Path, binary: str, prefix: str, k: int, threads: int, options: list[str]
) -> dict[str, Any]:
    """The program PCAone on a .bed file; its time with writing its results, its memory as a whole."""
    out = folder / "pcaone"
    words = ["-b", prefix, "-k", str(k), "-n", str(threads), "-o", str(out), *options]
    start = time.perf_counter()
    ended = subprocess.run([binary, *words], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    values, eigen = Path(f"{out}.sigvals"), Path(f"{out}.eigvals")
    sigma = np.loadtxt(values, ndmin=1) if values.exists() else np.sqrt(np.loadtxt(eigen, ndmin=1))
    epochs = [int(number) for number in _EPOCH.findall(ended.stdout + ended.stderr)]
    return {
        "seconds": seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "sigma": sigma[:k].tolist(),
        **({"passes": max(epochs)} if epochs else {}),
    }


def _measured(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a run says, its wall time, and the most that this process held beyond what it holds now."""
    imported = int(psutil.Process().memory_info().rss)
    start = time.perf_counter()
    found = run()
    seconds = time.perf_counter() - start
    return found | {"seconds": seconds, "peak_memory_bytes": max(0, peak_rss_bytes() - imported)}


WHAT: dict[str, Callable[..., dict[str, Any]]] = {
    "bigsvd": by_bigsvd,
    "sklearn-randomized": by_randomized,
    "sklearn-incremental": by_increments,
    "pcaone": by_pcaone,
}


def main(what: str, folder: Path) -> None:
    """In the fresh process."""
    measured = WHAT[what](folder, **json.loads((folder / "job.json").read_text()))
    (folder / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
