"""`benchmarks climate` at a tiny size, without xeofs: its results, its table and plot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.climate_data import NAME, SIZES
from benchmarks.other_python import in_process_of_other
from tests.benchmark_runs import check_report_is_made_again

pytest.importorskip("xarray")


def test_the_command_writes_its_report(tmp_path: Path) -> None:
    words = ["climate", "--out", str(tmp_path), "--data", str(tmp_path / "data"), "--repeat", "1"]
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / "climate-tiny.json").read_text(encoding="utf-8"))
    field = SIZES["tiny"]
    stored: Any = zarr.open_group(tmp_path / "data" / f"{field.stem}.zarr", mode="r")[NAME]
    A = np.asarray(stored[:], dtype=np.float64)
    np.testing.assert_array_equal(np.isnan(A).all(axis=0), ~field.ocean)
    weights = np.sqrt(np.cos(np.deg2rad(field.latitude)))[:, None]
    anomalies = ((A - A.mean(axis=0)) * weights)[:, field.ocean]
    exact = np.linalg.svd(anomalies, compute_uv=False)[: field.k]
    np.testing.assert_allclose(results["sigma"], exact, rtol=1e-9)
    (ours,) = results["ways"]
    assert ours["status"] == "done"
    assert ours["error"] < 1e-5
    assert ours["peak_rss_bytes"] > ours["peak_memory_bytes"] > 0
    check_report_is_made_again(results, tmp_path / "climate-tiny.json")


def test_a_script_of_another_python_is_measured_or_said_to_have_failed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "job = json.loads((folder / 'job.json').read_text())\n"
        "if job['what'] == 'hang': time.sleep(60)\n"
        "if job['what'] == 'fail': raise ValueError('no')\n"
        "(folder / 'measured.json').write_text(json.dumps(job))\n"
    )

    def run(what: str, seconds: float) -> tuple[str, dict[str, Any]]:
        job = {"what": what}
        return in_process_of_other(Path(sys.executable), script, tmp_path, seconds, {}, job)

    assert run("measure", 60) == ("done", {"what": "measure"})
    assert run("fail", 60) == ("failed: ValueError", {})
    assert run("hang", 0.5) == ("stopped after 0 s", {})
