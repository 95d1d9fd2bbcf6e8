"""CPU against GPU: what is measured without a GPU, what the rows of one say then, and what fractions mean."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import cpu_gpu
from benchmarks.__main__ import main
from benchmarks.cpu_gpu import SIZES, Machine, run_cpu_gpu
from benchmarks.cpu_gpu_ceilings import _read_by_bigsvd, load, machine_ceilings, read_rates
from benchmarks.cpu_gpu_child import in_fresh_process
from benchmarks.cpu_gpu_data import Matrix, ensure_matrix
from benchmarks.cpu_gpu_runs import BY_NAME, CONTENDERS, KINDS
from benchmarks.data import open_store
from bigsvd.devices.choose import choose_device
from bigsvd.devices.cpu import CpuDevice
from tests.benchmark_runs import only_the_first_of_a_kind_is_a_process
from tests.devices import LEDGERS, ApartDevice, Ledger

REASON = "CuPy is not installed"
CHOSEN = ("bigsvd-krylov-cpu", "bigsvd-gram-cpu", "sklearn", "bigsvd-krylov-gpu", "torch-lowrank")


def without_gpu(asked: str) -> tuple[CpuDevice, str]:
    return CpuDevice(), REASON


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    only = [word for name in CHOSEN for word in ("--only", name)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cpu_gpu, "choose_device", without_gpu)
        patched.setattr(cpu_gpu, "SIZES", {"tiny": shortened()})
        only_the_first_of_a_kind_is_a_process(patched)
        arguments = ["cpu-gpu", "--size", "tiny", "--repeat", "1", "--data", str(data), "--out", str(out)]
        ended = CliRunner().invoke(main, [*arguments, *only])
    assert ended.exit_code == 0, ended.output
    assert (out / "cpu-gpu-tiny.png").stat().st_size > 10_000
    table = (out / "cpu-gpu-tiny.md").read_text(encoding="utf-8")
    assert f"Nothing was measured on a GPU: no CUDA device ({REASON})" in table.replace("\n", " ")
    assert ended.output.endswith(table + "\n")
    text = (out / "cpu-gpu-tiny.json").read_text(encoding="utf-8")
    assert str(data.parent) not in text + table
    again = CliRunner().invoke(main, ["report", str(out / "cpu-gpu-tiny.json")])
    assert again.exit_code == 0, again.output
    assert (out / "cpu-gpu-tiny.md").read_text(encoding="utf-8") == table
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_some_matrices_of_a_size_are_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is lent for some minutes is given one after the other."""
    seen: list[cpu_gpu.Size] = []

    def look(size: cpu_gpu.Size, *_: object) -> Iterator[dict[str, Any]]:
        seen.append(size)
        yield {"suite": "nothing was measured"}

    def write(*_: object) -> Path:
        (tmp_path / "table").write_text("a table")
        return tmp_path / "table"

    monkeypatch.setattr(cpu_gpu, "run_cpu_gpu", look)
    monkeypatch.setattr("benchmarks.__main__._write", write)
    chosen = ["cpu-gpu", "--size", "full", "--matrix", "3", "--matrix", "1"]
    assert CliRunner().invoke(main, chosen).exit_code == 0
    assert seen[0].matrices == (SIZES["full"].matrices[2], SIZES["full"].matrices[0])
    refused = CliRunner().invoke(main, ["cpu-gpu", "--size", "full", "--matrix", "5"])
    assert refused.exit_code == 2
    assert "size full has 4 matrices" in refused.output


def shortened() -> cpu_gpu.Size:
    """Only the last matrix, of int8."""
    return replace(SIZES["tiny"], matrices=SIZES["tiny"].matrices[-1:])


def rows(results: dict[str, Any], device: str) -> list[dict[str, Any]]:
    return [row for matrix in results["matrices"] for row in matrix["rows"] if row["device"] == device]


def test_without_a_gpu_every_row_of_one_says_so_and_has_no_figure(results: dict[str, Any]) -> None:
    found = rows(results, "gpu")
    assert {row["name"] for row in found} == {"bigsvd-krylov-gpu", "torch-lowrank"}
    assert {row["status"] for row in found} == {f"no CUDA device ({REASON})"}
    assert not any(set(row) & {"seconds", "runs", "pve", "sigma_error"} for row in found)
    assert results["device"] == {"name": None, "reason": f"no CUDA device ({REASON})"}
    assert results["ceilings"]["copy"] is None
    assert set(results["ceilings"]["products"]) == {"cpu"}


def test_the_rows_of_the_cpu_are_measured_and_accurate(results: dict[str, Any]) -> None:
    found = rows(results, "cpu")
    assert {(row["name"], row["source"]) for row in found} == {
        (name, kind) for name in CHOSEN for kind in BY_NAME[name].kinds if BY_NAME[name].device == "cpu"
    }
    for row in found:
        assert row["status"] == "done", row["status"]
        assert 0 < row["fastest_seconds"] <= row["seconds"] <= row["slowest_seconds"]
        assert 0 <= row["sigma_error"] < 0.05
        assert 0 <= row["pve"] < 0.1
        if row["family"] == "bigsvd":
            assert row["pve"] < 1e-2
            assert row["runs"][0]["facts"]["plan_device"] == "cpu"


def test_passes_reach_a_plausible_fraction_of_their_ceilings(results: dict[str, Any]) -> None:
    for matrix in results["matrices"]:
        for row in matrix["rows"]:
            if row["family"] != "bigsvd" or row["device"] != "cpu":
                continue
            facts = row["runs"][0]["facts"]
            assert [found["seconds"] for found in row["passes"]] == facts["pass_seconds"]
            for found in row["passes"]:
                assert found["bytes_read"] + found["cached_bytes"] == matrix["data_bytes"]
                gram = found["name"].startswith("gram")
                assert found["columns"] == matrix["n"] if gram else matrix["k"] <= found["columns"]
                wanted = {"products"} if row["source"] == "host" else {"read", "products"}
                assert set(found["fractions"]) == wanted
                assert all(0 <= value < 20 for value in found["fractions"].values())  # on a busy machine, too
                assert found["nearest"] == max(found["fractions"], key=lambda n: found["fractions"][n])


def test_ceilings_and_provenance_are_recorded(results: dict[str, Any]) -> None:
    ceilings = results["ceilings"]
    assert ceilings["status"] == "done"
    assert all(rate > 1e8 for rate in ceilings["products"]["cpu"].values())
    for matrix in results["matrices"]:
        read = matrix["read"]
        assert read["bytes_per_second"] == max(read["rates"].values()) > 1e6
    assert {"bigsvd", "dask", "zarr"} <= set(results["versions"])
    assert results["machine"]["cores"] >= 1
    assert results["command"].startswith("python -m benchmarks cpu-gpu --size tiny")


def test_a_gpu_that_fails_is_told_as_a_failure_not_as_an_error(data: Path) -> None:
    if choose_device("auto")[0].name != "cpu":
        pytest.skip("there is a GPU, which does not fail")
    matrix = SIZES["tiny"].matrices[0]
    store, _ = ensure_matrix(matrix, data)
    folder = data / "failing"
    folder.mkdir()
    status, measured = in_fresh_process(
        "measure", folder, 60, folder=str(folder), name="bigsvd-krylov-gpu", store=str(store), kind="host",
        k=matrix.k, data_bytes=matrix.data_bytes, repeat=1, slow=1.0,
    )  # fmt: skip
    assert status.startswith("failed: ")
    assert str(data) not in status
    assert measured == {}


def test_what_time_does_not_suffice_for_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_gpu, "choose_device", without_gpu)
    *_, last = run_cpu_gpu(shortened(), data, ["sklearn"], Machine(1, 1.0, 60.0, 1e-9), lambda _: None)
    assert {row["status"] for row in rows(last, "cpu")} == {"not run: the time was used up"}
    assert {matrix["read"]["status"] for matrix in last["matrices"]} == {"not run: the time was used up"}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_matrices_are_as_described_and_their_reference_exact(dtype: str, tmp_path: Path) -> None:
    matrix = Matrix(300, 24, 3, dtype)
    path, reference = ensure_matrix(matrix, tmp_path)
    array = open_store(path)
    assert (array.shape, array.dtype.name, array.chunks[1]) == ((300, 24), dtype, 24)
    values = load(path)
    np.testing.assert_array_equal(values, array[:])
    wide = values.astype(np.float64)
    np.testing.assert_allclose(reference.sigma, np.linalg.svd(wide, compute_uv=False), rtol=1e-9)
    if dtype == "int8":
        assert 15 < np.std(wide) < 25
    again, kept = ensure_matrix(matrix, tmp_path)
    assert again == path
    np.testing.assert_array_equal(kept.sigma, reference.sigma)


def test_rates_are_positive_and_of_both_readers(tmp_path: Path) -> None:
    path, _ = ensure_matrix(Matrix(300, 24, 3, "float32"), tmp_path)
    found = read_rates(str(path), gpu=False)
    assert found["to_gpu"] == {}
    assert set(found["rates"]) == {"zarr-python", "bigsvd"}
    assert min(found["rates"].values()) > 0
    assert machine_ceilings(64, 1000, gpu=False)["gpu"] is None


def test_what_does_not_reach_a_gpu_says_why(tmp_path: Path) -> None:
    path, _ = ensure_matrix(Matrix(300, 24, 3, "float32"), tmp_path)
    if choose_device("auto")[0].has_own_memory:
        pytest.skip("there is a GPU")
    found = read_rates(str(path), gpu=True)["to_gpu"]
    assert set(found) == {"zarr-python, enable_gpu", "zarr-python, enable_gpu, kvikio GDSStore", "bigsvd"}
    assert all(re.match(r"\w+Error: ", said) for said in found.values())


def test_our_reader_sends_every_byte_to_the_device(tmp_path: Path) -> None:
    path, _ = ensure_matrix(Matrix(300, 24, 3, "float32"), tmp_path)
    LEDGERS["bench"] = ledger = Ledger()
    _read_by_bigsvd(path, ApartDevice(ledger="bench"))
    assert sum(ledger.sent) == 300 * 24 * 4
    del LEDGERS["bench"]


def test_every_row_has_a_name_and_known_sources() -> None:
    assert len(BY_NAME) == len(CONTENDERS)
    assert all(set(row.kinds) <= set(KINDS) and row.device in ("cpu", "gpu") for row in CONTENDERS)
    assert {"bigsvd-krylov", "bigsvd-gram"} <= {re.sub("-(cpu|gpu)$", "", name) for name in BY_NAME}


@pytest.mark.gpu
@pytest.mark.skipif(choose_device("auto")[0].name == "cpu", reason="no CUDA GPU")
@pytest.mark.parametrize("name", [row.name for row in CONTENDERS if row.device == "gpu"])
def test_on_a_gpu_its_rows_are_measured(name: str, data: Path) -> None:
    limits = Machine(1, 60.0, 300.0)
    *_, last = run_cpu_gpu(shortened(), data, [name], limits, lambda _: None)
    assert last["ceilings"]["status"] == "done"
    assert min(last["ceilings"]["copy"].values()) > 0
    for row in rows(last, "gpu"):
        assert row["status"] == "done" or row["status"].startswith("not installed"), row["status"]
        assert row.get("pve", 0.0) < 0.1
        for found in row["passes"]:
            assert {"copy, pinned", "device memory", "products"} <= set(found["fractions"])
