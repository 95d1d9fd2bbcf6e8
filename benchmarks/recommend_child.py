"""Stages of `recommend` in a fresh process: `python -m benchmarks.recommend_child run FOLDER`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import bigsvd
from benchmarks.measure import peak_rss_bytes
from bigsvd.recommend import Recommender
from bigsvd.request import parse_bytes


def factors(ratings: str, k: int, out: str, memory: str) -> None:
    """The SVD."""
    bigsvd.svd(ratings, k, out, memory=memory)


def top(store: str, n: int, out: str, memory: str) -> None:
    """The best items of all users."""
    Recommender(store).write(out, n, parse_bytes(memory))


_STAGES: dict[str, Callable[..., None]] = {"factors": factors, "top": top}


def main(what: str, folder: Path) -> None:
    """In the fresh process; `what` is said in the job."""
    del what
    job = json.loads((folder / "job.json").read_text())
    stage = _STAGES[job.pop("stage")]
    imported_bytes = int(psutil.Process().memory_info().rss)
    start, busy = time.perf_counter(), time.process_time()
    stage(**job)
    measured = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - busy,
        "imported_bytes": imported_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
    }
    (folder / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
