"""`--memory` is a budget that holds: the peak of a whole process against its plan."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from bigsvd.monitor import return_large_buffers


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 MB: 30,000 × 2,000 float32."""
    return_large_buffers(0)
    path = tmp_path_factory.mktemp("memory") / "a.zarr"
    array = zarr.create_array(str(path), shape=(30_000, 2_000), chunks=(500, 2_000), dtype="float32")
    rng = np.random.default_rng(0)
    for start in range(0, 30_000, 5_000):
        array[start : start + 5_000] = rng.standard_normal((5_000, 2_000), dtype=np.float32)
    return path


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        ((), 150_000_000),
        ((), 70_000_000),
        (("--center", "--scale"), 200_000_000),
        (("--method", "gram"), 500_000_000),
    ],
    ids=["krylov", "small budget", "scaled", "gram"],
)
def test_peak_memory_stays_under_the_plan(
    data: Path, tmp_path: Path, options: tuple[str, ...], budget: int
) -> None:
    command = [sys.executable, "-m", "bigsvd.cli", "svd", str(data), str(tmp_path / "f"), "-k", "10"]
    command += ["--memory", str(budget), "--max-passes", "3", "--json", "--quiet", *options]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(outcome.stdout)
    used = facts["peak_memory_bytes"] - facts["baseline_memory_bytes"]
    assert used <= facts["planned_memory_bytes"] <= budget
