"""The benchmarks run, at a size of seconds, and what they report is finite and plausible."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from benchmarks import report_peers
from benchmarks.__main__ import main
from benchmarks.data import SIZES, Dataset, ensure_data, open_store
from benchmarks.machine import scarce_memory
from benchmarks.measure import accuracy, measure
from benchmarks.peers import BARE_READ, BY_NAME, PEERS
from benchmarks.reference import ReferenceMismatchError, compute_reference, ensure_reference
from tests.benchmark_runs import only_the_first_of_a_kind_is_a_process

FIGURES = (
    "seconds",
    "reads",
    "passes",
    "peak_memory_bytes",
    "imported_bytes",
    "sigma_error",
    "pve",
    "angle_radians",
)
CHOSEN = ("bigsvd-krylov", "dask-qr-q0", "sklearn-randomized", "sklearn-ipca")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    words = ["peers", "--size", "tiny", "--repeat", "1", "--data", str(data), "--out", str(out)]
    with pytest.MonkeyPatch.context() as patched:
        only_the_first_of_a_kind_is_a_process(patched)
        ended = CliRunner().invoke(main, [*words, *(word for name in CHOSEN for word in ("--only", name))])
    assert ended.exit_code == 0, ended.output
    assert (out / "peers-tiny.png").stat().st_size > 10_000
    assert "bigsvd krylov" in (out / "peers-tiny.md").read_text(encoding="utf-8")
    text = (out / "peers-tiny.json").read_text(encoding="utf-8")
    assert str(data.parent) not in text
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def row(results: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in results["peers"] if row["name"] == name)
    return found


@pytest.mark.parametrize("name", CHOSEN)
def test_figures_are_finite(results: dict[str, Any], name: str) -> None:
    found = row(results, name)
    assert found["status"] == "done"
    assert all(np.isfinite(found[figure]) and found[figure] >= 0 for figure in FIGURES)


def test_ours_is_accurate(results: dict[str, Any]) -> None:
    found = row(results, "bigsvd-krylov")
    assert found["pve"] < 1e-3
    assert found["runs"][0]["facts"]["converged"]


def test_dask_reads_the_store_twice_without_power_iterations(results: dict[str, Any]) -> None:
    assert row(results, "dask-qr-q0")["passes"] == pytest.approx(2, abs=0.05)


def test_machine_and_versions_are_recorded(results: dict[str, Any]) -> None:
    assert results["machine"]["cores"] >= 1
    assert {"bigsvd", "dask", "zarr"} <= set(results["versions"])
    assert results["bare_read"]["seconds"] > 0


def test_a_peer_that_does_not_fit_is_refused(data: Path, tmp_path: Path) -> None:
    arguments = [
        "peers",
        "--memory-limit",
        "0.001",
        "--only",
        "dask-svd",
        "--data",
        str(data),
        "--out",
        str(tmp_path),
    ]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 0, ended.output
    found = json.loads((tmp_path / "peers-tiny.json").read_text(encoding="utf-8"))["peers"][0]
    assert found["status"].startswith("refused: 4 × the matrix")
    assert "seconds" not in found


def test_reference_is_the_svd_of_the_stored_data(data: Path) -> None:
    dataset = SIZES["tiny"]
    A = np.asarray(open_store(ensure_data(dataset, data))[:], dtype=np.float64)
    reference = ensure_reference(dataset, data)
    for found, exact in ((reference.raw, A), (reference.centred, A - A.mean(axis=0))):
        _, s, Vt = np.linalg.svd(exact, full_matrices=False)
        np.testing.assert_allclose(found.sigma, s, rtol=1e-11)
        assert accuracy(s[:5], Vt[:5], found).angle_radians < 1e-9


def test_errors_of_a_perturbed_answer_are_what_the_perturbation_makes_them(data: Path) -> None:
    reference = compute_reference(open_store(ensure_data(SIZES["tiny"], data)), 15).raw
    turned = reference.Vt[:5].copy()
    turned[4] = np.cos(0.1) * reference.Vt[4] + np.sin(0.1) * reference.Vt[5]
    found = accuracy(reference.sigma[:5] * (1 + 1e-3), turned, reference)
    assert found.angle_radians == pytest.approx(0.1, abs=1e-9)
    assert found.sigma_error == pytest.approx(1e-3)
    assert found.pve == pytest.approx((1.001**2 - 1) * (reference.sigma[0] / reference.sigma[5]) ** 2)


def test_data_is_the_same_each_time_and_damage_is_noticed(tmp_path: Path) -> None:
    dataset = Dataset("slow_decay", 60, 12, 2, 3)
    path = ensure_data(dataset, tmp_path / "a")
    again = ensure_data(dataset, tmp_path / "b")
    np.testing.assert_array_equal(open_store(path)[:], open_store(again)[:])
    ensure_reference(dataset, tmp_path / "a")
    zarr.open_array(path, mode="r+")[0, 0] = 7.0
    with pytest.raises(ReferenceMismatchError, match="slow_decay"):
        ensure_reference(dataset, tmp_path / "a")


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(PEERS) + 2


@pytest.mark.parametrize(("version", "limit"), [(1, "memory.limit_in_bytes"), (2, "memory.max")])
def test_memory_is_made_scarce_by_a_control_group(
    version: int, limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that stands for the kernel's, whose files vanish with their group."""
    parent = tmp_path / "memory" if version == 1 else tmp_path
    parent.mkdir(exist_ok=True)
    monkeypatch.setattr(Path, "rmdir", shutil.rmtree)
    with scarce_memory(1_500, tmp_path) as within:
        ran = subprocess.run([*within, "sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
        (group,) = (path for path in parent.iterdir() if path.is_dir())
        assert (group / limit).read_text() == "1500"
        assert (group / "cgroup.procs").read_text() == ran.stdout  # the command itself is in it
    assert not group.exists()
    with scarce_memory(None, tmp_path) as within:
        assert within == []


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="only Linux forgets files when asked to")
def test_a_peer_is_measured_within_what_is_put_before_it(data: Path, results: dict[str, Any]) -> None:
    del results  # which made the data
    store = ensure_data(SIZES["tiny"], data)
    found = measure(BARE_READ, store, 5, None, 120, ["env", "BIGSVD_WITHIN=1"])
    assert found.status == "done"
    assert found.facts["decoded_bytes"] == SIZES["tiny"].data_bytes


def test_a_table_says_that_memory_was_scarce(results: dict[str, Any]) -> None:
    scarce = results | {"parameters": results["parameters"] | {"scarce_bytes": 1_300_000_000}}
    assert "1.3 GB of memory" in report_peers.markdown(scarce).splitlines()[0]
    assert "may hold 1.3 GB in all" in report_peers.markdown(scarce)
    assert "of memory" not in report_peers.markdown(results).splitlines()[0]
