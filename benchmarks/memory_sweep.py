"""Peak memory against the plan over random requests: shape, chunks, dtype, spectrum, k, budget, options.

A case is a value that its number and the seed decide. Its matrix is written, its least budget asked of the
planner, and it runs in a fresh process as in `benchmarks.memory`. Where the budget is refused it runs again
with the one that the refusal names: a refusal is right only if that is then accepted and held.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from click.testing import CliRunner

from benchmarks.data import THREADS
from benchmarks.machine import limited_to, provenance
from benchmarks.memory import TERMS, entries, judged, run_command
from bigsvd.catalog.table import runs_on_dask
from bigsvd.cli import main as bigsvd_command
from bigsvd.request import parse_bytes

Tell = Callable[[str], None]

LEAST_BYTES, MOST_BYTES = 10_000_000, 40_000_000
_NAMED = re.compile(r"raise (?:--)?memory to ([0-9.]+ ?[kMGTP]?B)")
_MOST_ENTRIES = 6_000_000  # which take a second to make
_GENERATED_ENTRIES = 2**21
_DTYPES = ("int8", "uint8", "int16", "float16", "float32", "float32", "float64", "int32", "bool")
_SPECTRA = ("flat", "flat", "decay", "steep", "mean", "low")
_METHODS = ("auto", "auto", "krylov", "krylov", "krylov", "gram", "tall_skinny", "compressed")
_RULES = ("noise", "energy", "error")
_LEAST = 1.0  # of the budgets: the least that is accepted


@dataclass(frozen=True)
class Case:
    """One request of one random matrix.

    Attributes:
        chunks, shards: as in Zarr; `shards` None where chunks are files.
        spectrum: see `entries`. rule: how k is chosen where it is "auto".
        options: what the command line is given besides data, output, k and memory.
        least_share: of the least budget that is accepted, what is given; below 1 it must be refused.
        begun: whether the run goes on from a first pass that was published, starts from its factors, or anew.

    """

    number: int
    shape: tuple[int, int]
    dtype: str
    chunks: tuple[int, int]
    shards: tuple[int, int] | None
    spectrum: str
    k: int | str
    options: tuple[str, ...]
    least_share: float
    begun: str

    @property
    def data_bytes(self) -> int:
        """Decoded bytes."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


def draw_case(seed: int, number: int) -> Case:
    """The case of that number."""
    rng = np.random.default_rng([seed, number])
    dtype = str(rng.choice(_DTYPES))
    method = str(rng.choice(_METHODS))
    part = 4 if runs_on_dask(method) else 1  # which hold several times the matrix, and take long
    size = float(np.exp(rng.uniform(np.log(LEAST_BYTES / part), np.log(MOST_BYTES / part))))
    count = min(_MOST_ENTRIES, size / np.dtype(dtype).itemsize)
    short = int(np.exp(rng.uniform(np.log(60), np.log(min(6_000, 1.2 * count**0.5)))))
    long = int(count // short)
    chunk = max(1, int(np.exp(rng.uniform(np.log(long / 300), np.log(long / 8)))))
    parts = int(rng.choice([1, 1, 1, 3]))
    across = -(-short // parts)
    shape, chunks = (long, short), (chunk, across)
    shards = (4 * chunk, across) if parts == 1 and rng.random() < 0.2 else None
    if rng.random() < 0.4:
        shape, chunks = (short, long), (across, chunk)
        shards = (across, 4 * chunk) if shards else None
    method = "krylov" if method == "gram" and short > 2_000 else method
    most_k = max(2, min(120, short // 3))
    k: int | str = int(np.exp(rng.uniform(0, np.log(most_k))))
    if method in ("auto", "krylov") and rng.random() < 0.15:
        k = "auto"
    return Case(
        number=number,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        spectrum=str(rng.choice(_SPECTRA)),
        k=k,
        options=_options(rng, dtype, method, k, short),
        least_share=float(rng.choice([0.8, _LEAST, _LEAST, 1.3, 2.0, 5.0])),
        begun=str(rng.choice(["anew", "anew", "anew", "resumed", "warm"])) if method == "krylov" else "anew",
    )


def _options(rng: np.random.Generator, dtype: str, method: str, k: int | str, short: int) -> tuple[str, ...]:
    """Words of the command line."""
    words = ["--method", method]
    if k == "auto":
        rule = str(rng.choice(_RULES))
        words += {"noise": [], "energy": ["--energy", "0.9"], "error": ["--error", "0.3"]}[rule]
    words += ["--center"] if rng.random() < 0.3 else []
    words += ["--scale"] if rng.random() < 0.2 else []
    if rng.random() < 0.2 and dtype != "bool":  # of which none can be missing
        words += ["--missing", "mean"]
        words += [] if np.dtype(dtype).kind == "f" else ["--missing-value", "0"]
    if not runs_on_dask(method):
        most = 6 if short > 2_000 else 20
        words += ["--max-passes", str(rng.choice([2, 4, most, most]))]
        words += ["--stop", "error"] if rng.random() < 0.2 else []
    return (*words, "--tol", str(rng.choice(["0.01", "0.01", "0.001", "1e-7"])))


def write_case(case: Case, path: Path, seed: int) -> None:
    """Its matrix as a Zarr array."""
    array = zarr.create_array(
        path, shape=case.shape, chunks=case.chunks, shards=case.shards, dtype=case.dtype, compressors=None
    )
    rng = np.random.default_rng([seed, case.number, 1])
    long, short = max(case.shape), min(case.shape)
    across = rng.standard_normal((TERMS, short))
    unit = (case.shards or case.chunks)[0 if case.shape[0] == long else 1]
    rows = unit * max(1, _GENERATED_ENTRIES // (unit * short))
    for start in range(0, long, rows):
        span = slice(start, min(long, start + rows))
        block = entries(rng, case.spectrum, span.stop - start, across, np.dtype(case.dtype))
        if case.shape[0] == long:
            array[span] = block
        else:
            array[:, span] = block.T


def run_sweep(count: int, seed: int, folder: Path, timeout_seconds: float, tell: Tell) -> dict[str, Any]:
    """So many cases, one after the other."""
    measured_with = provenance()
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    with limited_to(THREADS):
        for number in range(count):
            rows.append(run_case(draw_case(seed, number), seed, folder, timeout_seconds))
            tell(f"{number}: {_said(rows[-1])}")
    return {
        **measured_with,
        "parameters": {
            "count": count, "seed": seed, "cpus": THREADS, "timeout_seconds": timeout_seconds,
        },
        "runs": rows,
    }  # fmt: skip


def run_case(case: Case, seed: int, folder: Path, timeout_seconds: float) -> dict[str, Any]:
    """The case with its figures, in a folder of its own that is deleted again."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="sweep-") as name:
        place = Path(name)
        write_case(case, place / "data.zarr", seed)
        row = asdict(case) | {"data_bytes": case.data_bytes}
        said = _refusal(case, place)
        named = _NAMED.search(said)
        if named is None:
            return row | {"status": "failed", "said": said}
        budget = int(parse_bytes(named[1]) * case.least_share)
        figures = _prepared(case, place, budget, timeout_seconds)
        row |= {"least_bytes": parse_bytes(named[1])}
        again = _NAMED.search(figures.get("said", ""))
        if figures["status"] == "refused" and again is not None:
            row |= {"refused_bytes": budget}
            budget = parse_bytes(again[1])
            figures = _prepared(case, place, budget, timeout_seconds)
        return row | {"budget_bytes": budget} | judged(figures)


def _refusal(case: Case, place: Path) -> str:
    """What a budget of one byte is answered."""
    words = ["plan", str(place / "data.zarr"), "-k", str(case.k), "--memory", "1", "--device", "cpu"]
    outcome = CliRunner().invoke(bigsvd_command, [*words, *case.options])
    return outcome.output.strip().replace(str(place), "FOLDER")


def _prepared(case: Case, place: Path, budget: int, timeout_seconds: float) -> dict[str, Any]:
    """The run that is measured, after the one that it goes on from, if any."""
    options: tuple[str, ...] = ()
    if case.begun != "anew":
        first = _run(case, place, budget, timeout_seconds, ("--max-passes", "1"))
        if first["status"] != "done":
            return first
        if case.begun == "warm":
            (place / "factors").rename(place / "before")
            options = ("--warm-start", str(place / "before"))
        options = (*options, "--overwrite")
    return _run(case, place, budget, timeout_seconds, options)


def _run(
    case: Case, place: Path, budget: int, timeout_seconds: float, options: tuple[str, ...] = ()
) -> dict[str, Any]:
    words = ["svd", str(place / "data.zarr"), str(place / "factors"), "-k", str(case.k)]
    words += ["--memory", str(budget), "--device", "cpu", "--json", "--quiet", *case.options, *options]
    figures = run_command(words, place, timeout_seconds)
    if "said" in figures:
        figures["said"] = figures["said"].replace(str(place), "FOLDER")
    return figures


def _said(row: dict[str, Any]) -> str:
    m, n = row["shape"]
    what = f"{m}x{n} {row['dtype']} {row['spectrum']} k={row['k']} {row['begun']} {' '.join(row['options'])}"
    if row["status"] != "done":
        return f"{row['status']} {row['said']}: {what}"
    planned = row["planned_bytes"] / 1e6
    return (
        f"{row['ratio']:.2f} of {planned:.0f} MB, share {row['least_share']}, {row['seconds']:.1f} s, "
        f"{row['passes']:.1f} passes: {what}"
    )
