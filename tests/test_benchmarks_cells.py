"""`benchmarks cells` at a tiny size, without scanpy: its results, its table and plot, and the made cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.cells_data import SIZES
from tests.benchmark_runs import check_report_is_made_again


def counts_in(path: Path) -> np.ndarray:
    """The made counts, dense."""
    group: Any = zarr.open_group(path, mode="r")["X"]
    parts = tuple(group[name][:] for name in ("data", "indices", "indptr"))
    return np.asarray(sp.csr_matrix(parts, shape=group.attrs["shape"]).toarray(), dtype=np.float64)


def test_the_command_writes_its_report(tmp_path: Path) -> None:
    words = ["cells", "--out", str(tmp_path), "--data", str(tmp_path / "data"), "--memory", "300MB"]
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / "cells-tiny.json").read_text(encoding="utf-8"))
    made = SIZES["tiny"]
    path = tmp_path / "data" / f"{made.stem}.zarr"
    A = counts_in(path)
    assert np.mean(A > 0) == pytest.approx(made.density, rel=0.1)
    variable: Any = zarr.open_group(path, mode="r")["var/highly_variable"]
    B = np.log1p(A * 1e4 / A.sum(axis=1, keepdims=True))
    for task, genes in zip(results["tasks"], (variable[:], slice(None)), strict=True):
        s = np.linalg.svd(B[:, genes] - B[:, genes].mean(axis=0), compute_uv=False)
        run = task["runs"]["bigsvd"]
        np.testing.assert_allclose(run["variance"], s[: made.k] ** 2 / (made.cells - 1), rtol=1e-3)
        assert run["peak_rss_bytes"] > run["imported_bytes"]
    check_report_is_made_again(results, tmp_path / "cells-tiny.json")
