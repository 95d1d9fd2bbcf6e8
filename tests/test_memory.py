"""`--memory` is a budget that holds: the peak of a whole process against its plan."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd.certify import excess_of_memory
from bigsvd.devices.cpu import CpuDevice
from bigsvd.machine import rates
from bigsvd.machine.monitor import ProcessMemory, return_large_buffers
from bigsvd.sources.open import open_source
from bigsvd.units import human_bytes
from tests.clusters import worker_processes


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


def test_many_wide_passes_over_a_flat_tail_stay_under_the_plan(tmp_path: Path) -> None:
    """Their basis is wide when the long factor is formed: a QR of it took twice the plan."""
    array = zarr.create_array(tmp_path / "a.zarr", shape=(12_000, 700), chunks=(1_200, 700), dtype="int8")
    rng = np.random.default_rng(0)
    array[...] = rng.binomial(2, rng.uniform(0.05, 0.95, 700), (12_000, 700)).astype(np.int8)
    check_peak(tmp_path / "a.zarr", tmp_path, ("-k", "40", "--max-passes", "5"), 130_000_000)


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        ((), 150_000_000),
        ((), 70_000_000),
        (("--center", "--scale"), 200_000_000),
    ],
    ids=["krylov", "small budget", "scaled"],
)
def test_peak_memory_stays_under_the_plan(
    data: Path, tmp_path: Path, options: tuple[str, ...], budget: int
) -> None:
    check_peak(data, tmp_path, ("--max-passes", "3", *options), budget)


def test_a_gram_matrix_stays_under_the_plan(tmp_path: Path) -> None:
    """What it takes hangs on the columns: 64 MB of data show as much as any number of rows."""
    array = zarr.create_array(tmp_path / "a.zarr", shape=(8_000, 2_000), chunks=(500, 2_000), dtype="float32")
    array[...] = np.random.default_rng(0).standard_normal(array.shape, np.float32)
    check_peak(tmp_path / "a.zarr", tmp_path, ("--method", "gram"), 500_000_000)


def test_many_wide_passes_stay_under_the_plan(tmp_path: Path) -> None:
    """Y of all of them are read to form the long factor, one after the other."""
    flat = stored_bytes(tmp_path / "a.zarr", 100_000, 200)
    options = ("--method", "krylov", "--center", "--max-passes", "4", "--tol", "1e-9")
    check_peak(flat, tmp_path, options, 70_000_000)


def test_packed_entries_stay_under_the_plan(tmp_path: Path) -> None:
    """Their slabs are float64 first, also where no mean is subtracted; in chunks as long as a slab is."""
    shape, chunks = (30_000, 1_000), (3_000, 1_000)
    array = zarr.create_array(tmp_path / "a.zarr", shape=shape, chunks=chunks, dtype="int16")
    array.attrs.update({"scale_factor": 0.01, "add_offset": 5.0, "_FillValue": -32_767})
    rng = np.random.default_rng(0)
    array[...] = rng.integers(-1_000, 1_000, shape, np.int16)
    check_peak(tmp_path / "a.zarr", tmp_path, ("--method", "krylov", "--max-passes", "2"), 68_000_000)


@pytest.mark.parametrize("axis", [1, 2])
def test_stacked_axes_stay_under_the_plan(tmp_path: Path, axis: int) -> None:
    """What is read is boxes of chunks of which each has several pieces of a row; two chunks make one up."""
    shape, chunks = [16, 50], [8, 50]
    shape.insert(axis, 20_000)
    chunks.insert(axis, 1_000)
    array = zarr.create_array(tmp_path / "a.zarr", shape=shape, chunks=tuple(chunks), dtype="float32")
    array[...] = np.random.default_rng(0).standard_normal(shape, np.float32)
    check_peak(tmp_path / "a.zarr", tmp_path, ("--dim", str(axis), "--max-passes", "2"), 60_000_000)


@pytest.mark.parametrize("selection", [("--rows", "::3"), ("--cols", "::7")])
def test_some_lines_of_all_stay_under_the_plan(
    data: Path, tmp_path: Path, selection: tuple[str, ...]
) -> None:
    check_peak(data, tmp_path, ("--max-passes", "2", *selection), 80_000_000)


def check_peak(data: Path, folder: Path, options: tuple[str, ...], budget: int) -> None:
    command = [sys.executable, "-m", "bigsvd.cli", "svd", str(data), str(folder / "f"), "-k", "10"]
    command += ["--memory", str(budget), "--json", "--quiet", *options]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(outcome.stdout)
    used = facts["peak_memory_bytes"] - facts["baseline_memory_bytes"]
    assert used <= facts["planned_memory_bytes"] <= budget
    assert facts["memory_exceeded_bytes"] == 0
    assert not any("exceeded" in text for text in facts["certificate"]["warnings"])


def costs(grown: int, planned: int) -> dict[str, int]:
    """Of a process that had 100 MB and has grown so much."""
    exceeded = max(0, grown - planned)
    return {
        "baseline_memory_bytes": 10**8,
        "peak_memory_bytes": 10**8 + grown,
        "planned_memory_bytes": planned,
        "memory_exceeded_bytes": exceeded,
    }


@pytest.mark.parametrize(
    ("grown", "planned", "said"),
    [(573, 199, True), (199, 199, False), (230, 199, False), (1050, 1000, False), (1150, 1000, True)],
)
def test_a_run_says_that_it_held_more_than_planned(grown: int, planned: int, *, said: bool) -> None:
    text = excess_of_memory(costs(grown * 10**6, planned * 10**6))
    assert bool(text) == said
    assert not said or f"exceeded the plan's {human_bytes(planned * 1e6)} by" in text


def test_what_cuda_takes_on_first_use_is_no_excess() -> None:
    grown = costs(220 * 10**6, 37 * 10**6)  # measured on an H200: the first decomposition of a process
    assert excess_of_memory(grown)
    assert not excess_of_memory(grown, 2**28)


def test_what_a_run_says_is_in_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProcessMemory, "exceeded_bytes", lambda _, planned: 10**9 + planned)
    with pytest.warns(UserWarning, match=r"exceeded the plan's .* report this"):
        factors = bigsvd.svd(np.random.default_rng(0).standard_normal((300, 40)), 3, tmp_path / "f", seed=1)
    info = bigsvd.open(tmp_path / "f").info()
    assert info["memory_exceeded_bytes"] == 10**9 + info["planned_memory_bytes"]
    assert any("exceeded the plan's" in text for text in factors.certificate.warnings)


def test_what_is_measured_before_a_plan_stays_within_its_budget(tmp_path: Path) -> None:
    """Memory to touch, slabs to multiply: they were as large for a budget of any size."""
    array = zarr.create_array(tmp_path / "a.zarr", shape=(2_000, 3_000), chunks=(100, 3_000), dtype="float32")
    array[...] = 1
    source = open_source(tmp_path / "a.zarr")
    tracemalloc.start()
    with patch("mmap.mmap", wraps=mmap.mmap) as fresh:
        read = rates.measure_reading(source, CpuDevice(), 10**9)
        rates.measure_products(read, source, CpuDevice(), "float64", 16_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fresh.call_args.args == (-1, 4_000_000)
    assert peak < 16_000_000


def test_on_a_cluster_memory_is_that_of_the_processes_with_the_panels(tmp_path: Path) -> None:
    """The driver has none of them: there each worker is held against the plan, which is for each."""
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(24_000, 1_000), chunks=(1_000, 1_000), dtype="float32"
    )
    array[...] = np.random.default_rng(0).standard_normal(array.shape, np.float32)
    with worker_processes(2) as client:
        factors = bigsvd.svd(tmp_path / "a.zarr", 5, client=client, memory=80_000_000, tol=0.5)
        pids = set(client.run(os.getpid).values())
    costs = factors.provenance["costs"]
    grown = [seen["peak_bytes"] - seen["baseline_bytes"] for seen in costs["memory_by_process"]]
    assert {int(seen["process"].split("-")[1]) for seen in costs["memory_by_process"]} == pids
    assert max(grown) == costs["peak_memory_bytes"] - costs["baseline_memory_bytes"]
    assert all(5_000_000 < size <= costs["planned_memory_bytes"] for size in grown)
    assert costs["memory_exceeded_bytes"] == 0
