"""bigsvd and the idealised loop on one stored matrix, in a fresh process: `python -m benchmarks.floor_child`.

The first line on its standard input is the job, as JSON. Each further one asks for a round of either, and is
answered by one line of JSON: so they can take turns, and with processes of fewer processors too.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from benchmarks.cpu_gpu_runs import PassTrace
from benchmarks.floor_loop import FloorLoop, Standardizing
from benchmarks.peers import SEED
from benchmarks.slow_store import SlowStore
from bigsvd.planning.plan import Plan
from bigsvd.results.factors import Factors
from bigsvd.sources.open import open_source
from bigsvd.sources.transposed import streamed


class Rounds:
    """Rounds of `bigsvd.svd`, and then of the loop over what it streamed.

    A `job` has the path of the `store`, the bytes a second that a slow one hands out, or None, the rank `k`,
    what `reading` it takes, bigsvd's other `options`, and the number of `threads`, as many as this process
    has processors.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        path, rate = Path(job["store"]), job["bytes_per_second"]
        store = LocalStore(path, read_only=True)
        self._given: Any = path
        if rate is not None:
            self._given = zarr.open_array(SlowStore(store, rate), mode="r")
        self._job = job
        self._folder = path.parent
        self._loop: FloorLoop | None = None

    def run(self) -> dict[str, Any]:
        """One run of bigsvd: seconds of the whole call and of its parts, and what its passes multiplied."""
        with (
            tempfile.TemporaryDirectory(dir=self._folder, prefix="floor-") as name,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", UserWarning)  # which repeat the certificate
            trace = PassTrace(Path(name) / "factors")
            start, computed = time.perf_counter(), time.process_time()
            factors = import_module("bigsvd").svd(
                self._given, self._job["k"], Path(name) / "factors", method="krylov", seed=SEED, device="cpu",
                progress=trace, **self._job["reading"], **self._job["options"],
            )  # fmt: skip
            seconds, computed = time.perf_counter() - start, time.process_time() - computed
            plan = Plan.from_dict(factors.provenance["plan"])
            self._loop = self._loop or self._loop_of(plan, factors)
        costs = factors.provenance["costs"]
        return {
            "seconds": seconds,
            "cpu_seconds": computed,
            "seconds_by_part": costs["seconds_by_part"],
            "predicted_seconds": sum(costs["predicted_seconds"].values()),
            "seconds_in_run": costs["seconds"],
            "threads": plan.threads,
            "transposed": plan.transposed,
            "passes": [
                known(found, plan) for found in trace.passes(costs["pass_seconds"], plan.compute_dtype)
            ],
        }

    def _loop_of(self, plan: Plan, factors: Factors) -> FloorLoop:
        """The loop over the panels of a plan, with the means and divisors that a run has found."""
        options, mean, scale = self._job["options"], factors.mean, factors.scale
        standardizing = Standardizing(
            None if mean is None else np.asarray(mean),
            None if scale is None else 1.0 / np.asarray(scale),
            options.get("missing") == "mean",
            axis=0 if plan.transposed else 1,
        )
        B = streamed(open_source(self._given, **self._job["reading"]), transposed=plan.transposed)
        slow = self._job["bytes_per_second"] is not None
        return FloorLoop(B, plan.panel_rows, standardizing, self._job["threads"], ahead=slow)

    def floor(self, columns: str, dtype: str) -> dict[str, Any]:
        """One round of the loop, with so many columns in that precision."""
        if self._loop is None:
            message = "the loop follows a run"
            raise RuntimeError(message)
        swept = self._loop.sweep(int(columns), dtype)
        return {"seconds": swept.seconds, **vars(swept.spent)}


def known(found: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """What was traced of a pass, if its block was found.

    Raises:
        ValueError: it had no columns, or more than the plan has.

    """
    names = ("name", "columns", "dtype", "seconds", "bytes_read", "cached_bytes")
    most = 2 * plan.width  # a block, and beside it probes, which are fewer
    if not 0 < found.get("columns", 0) <= most:
        message = f"a pass of a plan of {plan.width} columns had {found}"
        raise ValueError(message)
    return {name: found[name] for name in names}


def main() -> None:
    """In the fresh process: a line for each line."""
    rounds = Rounds(json.loads(sys.stdin.readline()))
    asked: dict[str, Callable[..., dict[str, Any]]] = {"run": rounds.run, "floor": rounds.floor}
    for line in sys.stdin:
        word, *arguments = line.split()
        print(json.dumps(asked[word](*arguments)), flush=True)


if __name__ == "__main__":
    main()
