"""Readers of Zarr chunks side by side: what is run, and what is said of a reader that is not there."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from benchmarks import report_readers
from benchmarks.__main__ import main
from benchmarks.data import open_store
from benchmarks.readers import NAMES, OWN, SIZES, THREADS, ReaderFailedError, ensure_store, started, stores
from benchmarks.readers_child import BY_NAME, CONTENDERS, Contender, Rounds, checksum
from bigsvd.chunks.guard import GuardStore
from bigsvd.chunks.reader import ChunkReader
from tests.benchmark_runs import results_of

CHOSEN = "sharded-zstd-int8"
TINY = {store.name: store for store in stores(SIZES["tiny"])}
ALWAYS_THERE = [contender for contender in CONTENDERS if not contender.why_not()]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    words = ["readers", "--size", "tiny", "--repeat", "2", "--only", CHOSEN]
    return results_of(words, out / "readers-tiny.json", data, 5_000)


def test_every_contender_has_a_row_and_those_installed_have_figures(results: dict[str, Any]) -> None:
    assert [(row["threads"], row["contender"]) for row in results["runs"]] == [
        (threads, contender.name)
        for threads in THREADS
        for contender in CONTENDERS
        if contender.runs_with(threads)
    ]
    for row in results["runs"]:
        why_not = BY_NAME[row["contender"]].why_not()
        assert row["status"] == (why_not or "done")
        if not why_not:
            assert row["same_bits"]
            assert len(row["seconds"]) == len(row["cpu_seconds"]) == 2
            assert row["slowest_bytes_per_second"] <= row["bytes_per_second"]
            assert row["bytes_per_second"] <= row["fastest_bytes_per_second"]
            assert row["peak_memory_bytes"] > row["panels_bytes"] > 0


def test_ratios_are_to_the_reader_of_bigsvd_with_as_many_threads(results: dict[str, Any]) -> None:
    for threads in THREADS:
        rows = [row for row in results["runs"] if row["threads"] == threads and row["status"] == "done"]
        own = next(row for row in rows if row["contender"] == OWN)
        assert [row["ratio"] for row in rows] == [
            row["bytes_per_second"] / own["bytes_per_second"] for row in rows
        ]


def test_the_report_is_made_again_and_names_what_is_not_installed(
    results: dict[str, Any], tmp_path: Path
) -> None:
    changed = deepcopy(results)
    for row in changed["runs"]:
        if row["contender"] == "zarrs":
            row["status"] = "not installed: zarrs"
    path = tmp_path / "readers-tiny.json"
    path.write_text(json.dumps(changed), encoding="utf-8")
    ended = CliRunner().invoke(main, ["report", str(path)])
    assert ended.exit_code == 0, ended.output
    table = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "* zarrs: not installed: zarrs" in table
    assert results["command"] in table
    assert path.with_suffix(".png").stat().st_size > 5_000


def test_other_bits_are_told(results: dict[str, Any]) -> None:
    changed = deepcopy(results)
    changed["runs"][0]["same_bits"] = False
    table = report_readers.markdown(changed)
    assert "OTHER BITS" in table
    assert "1 of" in table


@pytest.mark.parametrize("name", NAMES)
def test_stores_are_as_described_and_of_chunks_that_bigsvd_decodes_itself(name: str, tmp_path: Path) -> None:
    store = TINY[name]
    path = ensure_store(store, tmp_path)
    array = open_store(path)
    assert (array.shape, array.chunks, array.shards) == (store.shape, store.chunks, store.shards)
    assert ChunkReader.of("a", array, GuardStore(array.store)) is not None
    values = np.asarray(array[:])
    assert values.nbytes == store.data_bytes
    tops = range(0, store.shape[0], store.panel_rows)
    assert array.attrs["checksums"] == [checksum(values[top : top + store.panel_rows]) for top in tops]
    assert ensure_store(store, tmp_path) == path


@pytest.mark.parametrize("size", SIZES)
def test_stores_of_one_size_have_the_same_bytes(size: str) -> None:
    found = stores(SIZES[size])
    assert len({store.data_bytes for store in found}) == 1
    assert len({store.shape[0] // store.panel_rows for store in found}) == 1


@pytest.mark.parametrize("contender", ALWAYS_THERE, ids=[contender.name for contender in ALWAYS_THERE])
def test_rounds_read_every_panel(contender: Contender, tmp_path: Path) -> None:
    store = TINY["both-axes-blosc-lz4-float32"]
    path = ensure_store(store, tmp_path)
    with zarr.config.set(contender.settings(2)):  # which puts back what was set
        rounds = Rounds(contender, path, store.panel_rows, 2)
        assert rounds.check()["checksums"] == open_store(path).attrs["checksums"]
        assert rounds.read()["seconds"] > 0


def test_a_pipeline_that_zarr_replaces_by_another_is_not_measured(tmp_path: Path) -> None:
    path = ensure_store(TINY["tall-zstd-int8"], tmp_path)
    with pytest.raises(ValueError, match="zarr took BatchedCodecPipeline for"):
        Contender("other", "other", "some.OtherPipeline").reads(path, 1)


def test_a_reader_that_fails_leaves_its_last_words(tmp_path: Path) -> None:
    job = {"name": OWN, "store": str(tmp_path / "none.zarr"), "panel_rows": 1, "threads": 1}
    with started(job, 300.0) as reader, pytest.raises(ReaderFailedError, match="Error"):
        reader.ask("read")


def test_a_reader_that_takes_too_long_is_stopped_and_says_so(tmp_path: Path) -> None:
    path = ensure_store(TINY["tall-zstd-int8"], tmp_path)
    job = {"name": OWN, "store": str(path), "panel_rows": 10, "threads": 1}
    with started(job, 0.01) as reader, pytest.raises(ReaderFailedError, match=r"not done after 0\.01 s"):
        reader.ask("read")
