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


def stored_bytes(path: Path, rows: int, columns: int) -> Path:
    """Random ones whose mean is far above the rest: a Gram matrix does not resolve what is behind it."""
    array = zarr.create_array(str(path), shape=(rows, columns), chunks=(12_000, columns), dtype="uint8")
    rng = np.random.default_rng(0)
    for start in range(0, rows, 12_000):
        array[start : start + 12_000] = rng.integers(0, 200, (min(12_000, rows - start), columns), np.uint8)
    return path


def test_the_qr_of_a_long_factor_stays_under_the_plan(tmp_path: Path) -> None:
    """Its blocks are not the panels, which have many rows where entries are small."""
    steep = stored_bytes(tmp_path / "a.zarr", 200_000, 400)
    check_peak(steep, tmp_path, ("--method", "krylov", "--max-passes", "2"), 100_000_000)


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
    check_peak(data, tmp_path, ("--max-passes", "3", *options), budget)


def test_many_wide_passes_stay_under_the_plan(tmp_path: Path) -> None:
    """Y of all of them are read to form the long factor, one after the other."""
    flat = stored_bytes(tmp_path / "a.zarr", 100_000, 200)
    options = ("--method", "krylov", "--center", "--max-passes", "4", "--tol", "1e-9")
    check_peak(flat, tmp_path, options, 70_000_000)


def check_peak(data: Path, folder: Path, options: tuple[str, ...], budget: int) -> None:
    command = [sys.executable, "-m", "bigsvd.cli", "svd", str(data), str(folder / "f"), "-k", "10"]
    command += ["--memory", str(budget), "--json", "--quiet", *options]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(outcome.stdout)
    used = facts["peak_memory_bytes"] - facts["baseline_memory_bytes"]
    assert used <= facts["planned_memory_bytes"] <= budget
