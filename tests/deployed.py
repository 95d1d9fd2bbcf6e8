"""What tests of deploy/ share: a matrix that takes some passes, and what an undisturbed run makes of it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import zarr

import bigsvd
from bigsvd.results.folders import scratch_path
from bigsvd.solve import load_plan, run
from bigsvd.sources.open import open_source

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
_SHAPE, _CHUNKS, _STRENGTHS = (16_000, 2_000), (100, 2_000), 200


def environment() -> dict[str, str]:
    """Of processes that are to find this `bigsvd`, and the `dask` beside this Python, by name."""
    scripts = Path(sys.executable).parent
    path = f"{scripts}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def matrix(path: Path) -> Path:
    """128 MB with 200 falling values above noise, which take a run of k=50 three passes."""
    random = np.random.default_rng(0)
    values = 1 / np.arange(1, _STRENGTHS + 1, dtype=np.float32)
    left = random.standard_normal((_SHAPE[0], _STRENGTHS), dtype=np.float32) * values
    entries = left @ random.standard_normal((_STRENGTHS, _SHAPE[1]), dtype=np.float32)
    entries += 0.3 * random.standard_normal(_SHAPE, dtype=np.float32)
    zarr.create_array(str(path), data=entries, chunks=_CHUNKS)
    return path


def in_first_pass(out: Path) -> bool:
    """Whether the run that is to make `out` has ended lanes: some of the first pass, if often asked."""
    return any(scratch_path(out).glob("krylov-*-000/y/c/*"))


def assert_as_undisturbed(out: Path) -> None:
    """The bits of `out` are those that its plan gives in this process, where nothing disturbs it."""
    made = bigsvd.open(out)
    plan_file = out.with_name(f"{out.name}.plan.json")
    plan_file.write_text(json.dumps(made.provenance["plan"]))
    plan = load_plan(plan_file)
    request = replace(plan.request, out=f"{out}.undisturbed")
    source = open_source(out.parent / request.source, **request.reading)
    undisturbed = run(request, source, plan=plan)
    for one, other in zip(made, undisturbed, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
