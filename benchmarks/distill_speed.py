"""`distill speed`: seconds and memory of whole predictions of a large matrix with gaps, stage by stage.

Each run is `python -m benchmarks.distill_speed FOLDER JOB`: a fresh process that predicts from stores in the
folder, by the stage and the gaps that the job names, and leaves what it took. A bare read of the same store,
panel by panel as a prediction has them, stands beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import bigsvd
from benchmarks.distill_bars import Bar, at_most, picked
from benchmarks.distill_data import LinearGaussian
from benchmarks.machine import forget_files, limited_to, provenance
from benchmarks.measure import peak_rss_bytes
from bigsvd.distill.fitting import fit
from bigsvd.distill.panels import RowPanels
from bigsvd.distill.predicting import predict
from bigsvd.distill.student import open_student
from bigsvd.sources.open import open_source

Row = dict[str, Any]
CPUS = 2
K = 50
_SHARE = 0.1  # seen
_ANEW, _SHARED = "10 % seen, other entries in each row", "the same 10 % seen in all rows"
_LIMIT_SECONDS = 90.0  # of the ridge, for a million rows
_READ_BOUND = 1.5  # of a bare read, that a prediction with one mask for all takes at most
_READ = "bare read"
_PANEL_ROWS = 4096


@dataclass(frozen=True)
class Size:
    """Rows of the large matrix, its columns, rows of the teacher, and rows that dearer stages are given.

    Attributes:
        stages: that are learnt. epochs: of the network, if there is one. memory: budget of each prediction.

    """

    rows: int
    columns: int
    training: int
    few: int
    stages: tuple[str, ...]
    epochs: int | None
    memory: str
    k: int = K


SIZES = {
    "tiny": Size(3_000, 60, 400, 1_000, ("ridge",), None, "1GB", 5),
    "full": Size(1_000_000, 1_000, 8_000, 50_000, ("ridge", "mixture", "network"), 2, "2GB"),
}


@dataclass(frozen=True)
class Job:
    """One prediction: of the first `rows` of a store, by a stage."""

    store: str
    setting: str
    stage: str
    rows: int


def run_speed(size: Size, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Write the data, learn, and time each prediction."""
    measured_with = provenance()
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with limited_to(CPUS), tempfile.TemporaryDirectory(prefix="bigsvd-benchmark-", dir=folder) as name:
        work = Path(name)
        _write(size, work)
        _learn(size, work)
        for job in _jobs(size):
            rows.append(_measured(work, job, size))
            tell(f"{job.stage}, {job.setting}, {job.rows:,} rows: {rows[-1]['seconds']:.1f} s")
    return {
        **measured_with,
        "parameters": {"rows": size.rows, "columns": size.columns, "k": size.k, "cpus": CPUS},
        "title": f"Predictions of {size.rows:,} × {size.columns:,}, k = {size.k}, on {CPUS} processors",
        "shown": "seconds_per_million",
        "rows": rows,
        "bars": [bar.to_dict() for bar in _bars(rows, size)],
        "notes": [_NOTE.format(memory=size.memory, few=size.few)],
    }


_NOTE = (
    "Each is one call of `predict` in a fresh process, from a Zarr store (float32, NaN in the gaps) that the "
    "page cache does not hold to a published factor store, with a budget of {memory}. Memory is the peak of "
    "the resident set beyond the imports, as the run itself saw it, beside the plan's bound. The mixture and "
    "the network predict {few:,} rows. The bare read reads the whole store in panels and does nothing else."
)


def _jobs(size: Size) -> Iterator[Job]:
    for store, setting in (("anew", _ANEW), ("shared", _SHARED)):
        yield Job(store, setting, _READ, size.rows)
        yield Job(store, setting, "ridge", size.rows)
        for stage in size.stages:
            if stage != "ridge":
                yield Job(f"few_{store}", setting, stage, size.few)


def _write(size: Size, folder: Path) -> None:
    """The teacher's rows, and the large matrix twice: with gaps of each row's own, and of all rows."""
    variances = np.geomspace(400, 4, size.k)
    model = LinearGaussian.drawn(0, size.columns, variances, 0.5)
    data = model.rows(size.training, (0, 1)).astype(np.float32)
    zarr.create_array(folder / "training.zarr", data=data, chunks=(_PANEL_ROWS, size.columns))
    shared = np.random.default_rng(3).random(size.columns) < _SHARE
    stores = {
        name: zarr.create_array(
            folder / f"{name}.zarr", shape=(rows, size.columns), chunks=(_PANEL_ROWS, size.columns),
            dtype="float32", fill_value=np.nan,
        )
        for name, rows in (
            ("anew", size.rows), ("shared", size.rows), ("few_anew", size.few), ("few_shared", size.few)
        )
    }  # fmt: skip
    for start in range(0, size.rows, _PANEL_ROWS):
        count = min(_PANEL_ROWS, size.rows - start)
        whole = model.rows(count, (0, 2, start)).astype(np.float32)
        scattered = np.random.default_rng((0, 4, start)).random(whole.shape) < _SHARE
        for name, seen in (("anew", scattered), ("shared", np.broadcast_to(shared, whole.shape))):
            gappy = np.where(seen, whole, np.float32(np.nan))
            stores[name][start : start + count] = gappy
            few = gappy[: max(0, size.few - start)]
            if len(few):
                stores[f"few_{name}"][start : start + len(few)] = few


def _learn(size: Size, folder: Path) -> None:
    bigsvd.svd(folder / "training.zarr", size.k, folder / "teacher", center=True)
    fit(folder / "teacher", folder / "student", stages=size.stages, epochs=size.epochs)


def _measured(folder: Path, job: Job, size: Size) -> Row:
    """A run in a process of its own."""
    forget_files(folder / f"{job.store}.zarr")
    asked = {"store": job.store, "stage": job.stage, "memory": size.memory, "k": size.k}
    found = in_fresh_process(folder, asked)
    return {
        "problem": f"{size.rows:,} × {size.columns:,}",
        "setting": job.setting,
        "seed": 0,
        "method": job.stage if job.rows == size.rows else f"{job.stage}, {job.rows:,} rows",
        "seconds_per_million": found["seconds"] * 1e6 / job.rows,
        **found,
    }


def in_fresh_process(folder: Path, job: dict[str, Any]) -> Row:
    """What `run_child` finds there."""
    command = [sys.executable, "-m", "benchmarks.distill_speed", str(folder), json.dumps(job)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Row = json.loads(ended.stdout.splitlines()[-1])
    return found


def _bars(rows: Sequence[Row], size: Size) -> Iterator[Bar]:
    problem = f"{size.rows:,} × {size.columns:,}"
    seconds = [row["seconds"] for row in picked(rows, problem, _ANEW, "ridge")]
    yield at_most("ridge, seconds, other entries in each row", seconds, _LIMIT_SECONDS, "{:.1f}")
    for row in rows:
        if row.get("planned_bytes"):
            what = f"memory ÷ plan, {row['method']}, {row['setting']}"
            yield at_most(what, [row["peak_bytes"] / row["planned_bytes"]], 1.0, "{:.2f}")
    both = [picked(rows, problem, _SHARED, name)[0]["seconds"] for name in ("ridge", _READ)]
    yield at_most(
        "ridge ÷ bare read, the same entries in all rows", [both[0] / both[1]], _READ_BOUND, "{:.2f}"
    )


def run_child(folder: Path, job: dict[str, Any]) -> Row:
    """In the fresh process: read, or predict, and say what it took."""
    student = open_student(folder / "student")
    store = folder / f"{job['store']}.zarr"
    start = time.perf_counter()
    if job["stage"] == _READ:
        for rows in RowPanels(open_source(store, missing="mean"), student.standard, _PANEL_ROWS):
            del rows
        return {"seconds": time.perf_counter() - start, "peak_rss_bytes": peak_rss_bytes()}
    factors = predict(
        student,
        store,
        folder / "predicted",
        stage=job["stage"],
        k=job["k"],
        memory=job["memory"],
        overwrite=True,
    )
    seconds = time.perf_counter() - start
    costs = factors.provenance["costs"]
    return {
        "seconds": seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "peak_bytes": costs["peak_memory_bytes"] - costs["baseline_memory_bytes"],
        "planned_bytes": costs["planned_memory_bytes"],
    }


if __name__ == "__main__":
    print(json.dumps(run_child(Path(sys.argv[1]), json.loads(sys.argv[2]))))
