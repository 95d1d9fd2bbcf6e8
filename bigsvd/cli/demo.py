"""`bigsvd demo`: a dataset larger than the memory allowed, decomposed, compared with its known values.

The matrix is a Kronecker product A = B⊗C of two small matrices with prescribed singular values, so that those
of A are their products: known exactly, slowly decaying, and of full rank, whatever the size.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigsvd.cli.console import Console
from bigsvd.errors import OutputExistsError, RequestError
from bigsvd.execution.placement import nominal_plan
from bigsvd.machine.monitor import return_large_buffers
from bigsvd.report.plots import write_plot
from bigsvd.request import Request
from bigsvd.results.factors import Factors
from bigsvd.results.folders import kind_of
from bigsvd.results.rank import choices
from bigsvd.scratch import storage_errors
from bigsvd.solve import run
from bigsvd.sources.open import open_source
from bigsvd.units import human_bytes

_TALL = 4
_SHOWN = 10


def prescribed(rows: int, sigma: np.ndarray, seed: int) -> np.ndarray:
    """A rows×len(sigma) matrix whose singular values are `sigma`: Q1·diag(σ)·Q2ᵀ with random orthogonal Q."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((rows, sigma.size)))[0]
    right = np.linalg.qr(rng.standard_normal((sigma.size, sigma.size)))[0]
    return np.asarray((left * sigma) @ right.T)


def make_dataset(path: Path, size_bytes: int) -> np.ndarray:
    """Write A = B⊗C, 16r²×r² float32 of about `size_bytes`, as Zarr; its singular values, descending."""
    return_large_buffers(0)
    r = max(3, round((size_bytes / (4 * _TALL**2)) ** 0.25))
    i = np.arange(1, r + 1)
    b, c = 100 * i**-0.5, i**-0.9
    B, C = prescribed(_TALL * r, b, 1), prescribed(_TALL * r, c, 2)
    with storage_errors(f"writing {path}"):
        array = zarr.create_array(
            path,
            shape=((_TALL * r) ** 2, r * r),
            chunks=(_TALL * r, r * r),
            dtype="float32",
            zarr_format=3,
        )
        for block in range(_TALL * r):
            array[block * _TALL * r : (block + 1) * _TALL * r] = np.kron(B[block : block + 1], C).astype(
                np.float32
            )
    return np.sort(np.outer(b, c).ravel())[::-1]


def run_demo(
    folder: Path, size_bytes: int, memory_bytes: int, k: int, *, keep: bool, quiet: bool
) -> dict[str, Any]:
    """Make the data, plan, decompose, compare; the facts. Data, factors and plot go to `folder`.

    Raises:
        OutputExistsError: the folder has files already. MemoryBudgetError: the budget is too small for any
            plan.

    """
    console = Console(sys.stdout, quiet=quiet)
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExistsError(f"{folder} is {kind_of(folder)} already", "choose another --dir")
    if size_bytes < 10**5:
        raise RequestError(
            f"a dataset of {size_bytes} bytes is too small to show anything", "give --size 1MB or more"
        )
    data, out, plot = folder / "data.zarr", folder / "factors", folder / "spectrum.png"
    console.say(f"Making a dataset of {human_bytes(size_bytes)} with known singular values in {data} ...")
    start = time.monotonic()
    with storage_errors(f"creating {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    true = make_dataset(data, size_bytes)
    console.say(f"made in {time.monotonic() - start:.1f} s\n\nThe plan, from the metadata alone:\n")
    source = open_source(data)
    request = Request(source=str(data), k=k, out=str(out), memory=memory_bytes)
    plan = nominal_plan(request, source.facts)
    console.say(f"{plan}\n\nThe decomposition:\n")
    factors = run(request, source, plan=plan, progress=console)
    spectrum = factors.spectrum()
    write_plot(
        spectrum,
        choices(spectrum),
        plot,
        true_s=true[: factors.k],
        title="bigsvd demo: computed and true",
    )
    facts = _facts(factors, true, source.facts.nbytes, memory_bytes, plot)
    console.say(_report(factors, true, facts))
    if not keep:
        shutil.rmtree(data)
        console.say(f"The dataset was deleted again (--keep keeps it); the factors are in {out}.")
    return facts


def _facts(
    factors: Factors, true: np.ndarray, data_bytes: int, memory_bytes: int, plot: Path
) -> dict[str, Any]:
    costs = factors.provenance["costs"]
    leading = true[: factors.k]
    return {
        "data_bytes": data_bytes,
        "memory_budget_bytes": memory_bytes,
        "peak_memory_bytes": costs["peak_memory_bytes"] - costs["baseline_memory_bytes"],
        "interpreter_bytes": costs["baseline_memory_bytes"],
        "planned_memory_bytes": costs["planned_memory_bytes"],
        "passes": costs["passes"],
        "seconds": costs["seconds"],
        "worst_sigma_error": float(np.max(np.abs(factors.s / leading - 1))),
        "relative_error": factors.certificate.relative_error,
        "best_relative_error": float(np.sqrt(np.sum(true[factors.k :] ** 2) / np.sum(true**2))),
        "max_residual": factors.certificate.max_residual,
        "converged": factors.certificate.converged,
        "plot": str(plot),
    }


def _report(factors: Factors, true: np.ndarray, facts: dict[str, Any]) -> str:
    bounds = factors.certificate.sigma_bounds
    lines = ["\n   i    computed sigma        true sigma   relative error   promised"]
    for i in range(min(_SHOWN, factors.k)):
        error = abs(factors.s[i] / true[i] - 1)
        lines.append(f"{i + 1:4d} {factors.s[i]:17.9f} {true[i]:17.9f} {error:16.1e} {bounds[i]:10.1e}")
    if factors.k > _SHOWN:
        lines.append(f" ... worst of all {factors.k}: {facts['worst_sigma_error']:.1e}")
    lines += [
        f"\nCertificate: {factors.certificate}",
        f"Best possible relative error at k={factors.k}: {facts['best_relative_error']:.6g}",
        f"\nPeak memory {human_bytes(facts['peak_memory_bytes'])} beyond the interpreter's "
        f"{human_bytes(facts['interpreter_bytes'])}, budget {human_bytes(facts['memory_budget_bytes'])}, "
        f"data {human_bytes(facts['data_bytes'])}",
        f"{facts['passes']:.2f} passes in {facts['seconds']:.1f} s; plot in {facts['plot']}",
    ]
    return "\n".join(lines)
