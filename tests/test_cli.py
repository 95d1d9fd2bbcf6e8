"""Every command on a tiny matrix: what it prints, what it leaves behind, and its exit code."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd import cli
from bigsvd.results.output import Output
from tests.commands import Ended, done, refused, run

M, N = 400, 200
HARD_SIGMA = np.arange(1, N + 1) ** -0.5


def orthonormal(rows: int, cols: int, seed: int) -> np.ndarray:
    return np.asarray(np.linalg.qr(np.random.default_rng(seed).standard_normal((rows, cols)))[0])


HARD = (orthonormal(M, N, 1) * HARD_SIGMA) @ orthonormal(N, N, 2).T
EASY = np.ascontiguousarray(HARD[:60, :20]) + 0.1


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A command takes over Ctrl-C; the tests take it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matrix that takes several passes."""
    path = tmp_path_factory.mktemp("hard") / "data.zarr"
    zarr.create_array(path, data=HARD, chunks=(40, N))
    return path


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matrix that one pass decomposes exactly."""
    path = tmp_path_factory.mktemp("easy") / "data.zarr"
    zarr.create_array(path, data=EASY, chunks=(20, 10))
    return path


@pytest.fixture(scope="module")
def factors(easy: Path) -> Path:
    """Its factors."""
    out = easy.with_name("factors")
    done("svd", easy, out, "-k", 5)
    return out


def info_of(path: Path) -> Any:
    """The facts of a store as JSON has them."""
    return json.loads(json.dumps(bigsvd.open(path).info(), allow_nan=False))


# svd


def test_svd_publishes_what_numpy_computes(easy: Path, tmp_path: Path) -> None:
    ended = done("svd", easy, tmp_path / "u", "-k", 3, "--center", "--scale", "--memory", "1GB")
    assert "converged" in ended.out
    assert f"{tmp_path}/u: k=3" in ended.out
    assert "pass 1     [" in ended.err
    scaled = (EASY - EASY.mean(axis=0)) / EASY.std(axis=0)
    np.testing.assert_allclose(bigsvd.open(tmp_path / "u").s, np.linalg.svd(scaled)[1][:3], rtol=1e-10)
    assert [path.name for path in tmp_path.iterdir()] == ["u"]


def test_svd_prints_its_facts_as_json(easy: Path, tmp_path: Path) -> None:
    ended = done("svd", easy, tmp_path / "u", "-k", 3, "--json", "--quiet")
    assert ended.err == ""
    assert ended.facts == info_of(tmp_path / "u")


@pytest.mark.parametrize("method", ["krylov", "gram", "tall_skinny", "compressed"])
def test_svd_by_every_method(easy: Path, tmp_path: Path, method: str) -> None:
    facts = done(
        "svd", easy, tmp_path / "u", "-k", 2, "--method", method, "--tol", 0.5, "--json", "--quiet"
    ).facts
    assert facts["method"] == method
    np.testing.assert_allclose(facts["s"], np.linalg.svd(EASY)[1][:2], rtol=0.05)


def test_a_file_url_is_called_as_in_python(easy: Path, tmp_path: Path) -> None:
    """Else neither goes on from what the other has left in scratch."""
    url = f"file://{easy}"
    done("svd", url, tmp_path / "u", "-k", 2, "--tol", 0.5, "--quiet")
    there = bigsvd.open(tmp_path / "u").provenance["request"]["source"]
    assert there == bigsvd.plan(url, 2).request.source == str(easy)


def test_parameters_of_dask_reach_its_method(easy: Path, tmp_path: Path) -> None:
    options = ("--method", "compressed", "--power-iterations", 3, "--iterator", "QR", "--oversampling", 9)
    done("svd", easy, tmp_path / "u", "-k", 2, *options, "--no-compute", "--quiet")
    request = bigsvd.open(tmp_path / "u").provenance["request"]
    assert request["power_iterations"] == 3
    assert request["oversampling"] == 9
    assert request["compute"] is False


def relative_errors(values: np.ndarray) -> np.ndarray:
    """Relative error of the best approximation for k = 1, 2, ..."""
    squares = values**2
    return np.asarray(np.sqrt(np.maximum(0, 1 - np.cumsum(squares) / squares.sum())))


@pytest.mark.parametrize(
    ("option", "value", "k"),
    [
        ("--energy", 0.9, np.argmax(1 - relative_errors(np.linalg.svd(EASY)[1]) ** 2 >= 0.9) + 1),
        ("--error", 0.2, np.argmax(relative_errors(np.linalg.svd(EASY)[1]) <= 0.2) + 1),
        ("--max-bytes", "3kB", 3000 // (8 * (60 + 20 + 1))),
    ],
)
def test_the_rank_follows_the_rule(easy: Path, tmp_path: Path, option: str, value: Any, k: int) -> None:
    facts = done("svd", easy, tmp_path / "u", option, value, "--json", "--quiet").facts
    assert facts["k"] == k
    again = done("svd", easy, tmp_path / "v", "-k", "auto", option, value, "--json", "--quiet").facts
    assert again["s"] == facts["s"]


def test_noise_decides_where_no_rule_is_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    strong = (orthonormal(150, 3, 4) * [90.0, 80.0, 70.0]) @ orthonormal(60, 3, 5).T
    zarr.create_array(tmp_path / "a.zarr", data=strong + rng.standard_normal((150, 60)), chunks=(50, 60))
    assert done("svd", tmp_path / "a.zarr", tmp_path / "u", "-k", "auto", "--json", "--quiet").facts["k"] == 3


def test_stopping_by_error_takes_fewer_passes(hard: Path, tmp_path: Path) -> None:
    options = ("-k", 3, "--json", "--quiet", "--tol", 1e-3, "--method", "krylov")
    by_error = done("svd", hard, tmp_path / "u", *options, "--stop", "error").facts
    by_residual = done("svd", hard, tmp_path / "v", *options).facts
    assert by_error["certificate"]["converged"]
    assert by_error["passes"] < by_residual["passes"]
    best = relative_errors(HARD_SIGMA)[2]
    assert by_error["certificate"]["relative_error"] - best <= 1e-3
    assert by_residual["certificate"]["max_residual"] <= 1e-3


def test_a_run_stopped_by_its_pass_budget_is_valid_and_continues(hard: Path, tmp_path: Path) -> None:
    """By the method it began with: what the sample shows may turn a run to another that needs two passes."""
    options = ("-k", 3, "--tol", 1e-8, "--memory", "300MB", "--method", "krylov")
    first = done("svd", hard, tmp_path / "u", *options, "--max-passes", 1)
    assert "NOT converged" in first.out
    assert "warning: tolerance 1e-08 not reached (stopped after 1 passes" in first.out
    assert "--max-passes 2 and --overwrite" in first.out
    half = done("info", tmp_path / "u", "--json").facts
    assert not half["certificate"]["converged"]
    assert half["certificate"]["max_residual"] > 1e-8
    assert "holds what its certificate promises" in done("verify", tmp_path / "u", hard).out
    assert (tmp_path / "u.scratch").exists()

    second = done("svd", hard, tmp_path / "u", *options, "--max-passes", 30, "--overwrite")
    assert f"resuming the run kept in {tmp_path}/u.scratch: 1 pass is done" in second.err
    assert "pass 1     [" not in second.err
    assert "pass 2     [" in second.err
    assert not (tmp_path / "u.scratch").exists()

    whole = done("svd", hard, tmp_path / "v", *options, "--max-passes", 30)
    assert "pass 1     [" in whole.err
    resumed, uninterrupted = bigsvd.open(tmp_path / "u"), bigsvd.open(tmp_path / "v")
    assert resumed.certificate.converged
    assert resumed.provenance["costs"]["passes"] == uninterrupted.provenance["costs"]["passes"]
    for name in ("U", "s", "Vt"):
        np.testing.assert_array_equal(getattr(resumed, name)[:], getattr(uninterrupted, name)[:])


def test_a_deadline_ends_a_run_well(hard: Path, tmp_path: Path) -> None:
    options = ["-k", 3, "--tol", 1e-9, "--method", "krylov", "--deadline", 1e-6, "--quiet"]
    ended = done("svd", hard, tmp_path / "u", *options)
    assert "would miss the deadline" in ended.out
    assert bigsvd.open(tmp_path / "u").provenance["costs"]["passes"] < 2


INTERRUPTING = """
import signal
import sys
from bigsvd.cli import commands

class Interrupting(commands.Console):
    awaited = int(sys.argv.pop())

    def __call__(self, event):
        super().__call__(event)
        while self.awaited and event.kind == "certificate":
            self.awaited -= 1
            signal.raise_signal(signal.SIGINT)

commands.Console = Interrupting
commands.main()
"""


def interrupted(data: Path, out: Path, times: int) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that gets Ctrl-C that often right after its first certificate."""
    options = ("-k", "3", "--tol", "1e-9", "--method", "krylov")
    command = [sys.executable, "-c", INTERRUPTING, "svd", str(data), str(out), *options, str(times)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_interrupt_publishes_what_there_is(hard: Path, tmp_path: Path) -> None:
    ended = interrupted(hard, tmp_path / "u", times=1)
    assert ended.returncode == 0, ended.stderr
    assert "stopping after this pass" in ended.stderr
    assert "stopped by its user" in ended.stdout
    factors = bigsvd.open(tmp_path / "u")
    assert not factors.certificate.converged
    assert (tmp_path / "u.scratch").exists()


def test_two_interrupts_end_a_run_at_once_and_it_resumes(hard: Path, tmp_path: Path) -> None:
    ended = interrupted(hard, tmp_path / "u", times=2)
    assert ended.returncode == 3, ended.stderr
    assert "error[E_INTERRUPTED]" in ended.stderr
    assert not (tmp_path / "u").exists()
    resumed = done(
        "svd", hard, tmp_path / "u", "-k", 3, "--tol", 1e-9, "--method", "krylov", "--max-passes", 3
    )
    assert f"resuming the run kept in {tmp_path}/u.scratch: " in resumed.err
    assert bigsvd.open(tmp_path / "u").provenance["costs"]["passes"] >= 2


def test_a_missed_tolerance_is_one_line_and_with_strict_an_exit_code(hard: Path, tmp_path: Path) -> None:
    options = ("-k", 3, "--tol", 1e-8, "--max-passes", 1, "--quiet")
    ended = done("svd", hard, tmp_path / "u", *options)
    (line,) = ended.err.splitlines()
    assert line.startswith("warning[E_NOT_CONVERGED]: tolerance 1e-08 not reached (stopped after 1 passes")
    strict = run("svd", hard, tmp_path / "v", *options, "--strict", "--json")
    assert strict.code == 4
    (line,) = strict.err.splitlines()
    assert line.startswith("error[E_NOT_CONVERGED]: tolerance 1e-08 not reached (stopped after 1 passes")
    assert strict.facts["certificate"]["warnings"][0].partition("; ")[0] in line
    assert "--max-passes 2 and --overwrite" in line
    assert run("svd", hard, tmp_path / "w", "-k", 3, "--strict", "--quiet").code == 0


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_closed_streams_stop_no_run(easy: Path, tmp_path: Path, closed: str) -> None:
    command = f'"{sys.executable}" -m bigsvd svd "{easy}" "{tmp_path}/u" -k 2 {closed}'
    ended = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert bigsvd.open(tmp_path / "u").k == 2


# plan


def test_a_plan_is_printed_without_reading_anything(hard: Path, tmp_path: Path) -> None:
    shutil.copytree(hard, tmp_path / "data.zarr")
    shutil.rmtree(tmp_path / "data.zarr" / "c")
    text = done("plan", tmp_path / "data.zarr", "-k", 3).out
    for part in (
        "method",
        "orientation",
        "panels",
        "lanes",
        "passes",
        "bytes to read",
        "peak memory",
        "scratch",
    ):
        assert part in text


def test_a_saved_plan_is_the_one_that_runs(hard: Path, tmp_path: Path) -> None:
    saved = done("plan", hard, "-k", 3, "--seed", 7, "--memory", "200MB", "--json").out
    (tmp_path / "plan.json").write_text(saved)
    done("svd", hard, tmp_path / "u", "--plan", tmp_path / "plan.json", "--quiet")
    ran = bigsvd.open(tmp_path / "u").provenance
    plan = bigsvd.Plan.from_json(saved)
    for name in ("lanes", "sample", "panel_rows", "width", "compute_dtype", "memory", "budget_bytes"):
        assert getattr(bigsvd.Plan.from_dict(ran["plan"]), name) == getattr(plan, name)
    assert ran["request"]["seed"] == 7
    assert ran["request"]["k"] == 3


def test_a_plan_for_other_data_is_refused(hard: Path, easy: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(done("plan", hard, "-k", 3, "--json").out)
    assert "E_PLAN" in refused(2, "svd", easy, tmp_path / "u", "--plan", tmp_path / "plan.json")
    assert "E_PLAN" in refused(2, "svd", easy, tmp_path / "u", "--plan", tmp_path / "nothing.json")


# Errors


def test_bad_input_is_refused_in_one_line(hard: Path, tmp_path: Path) -> None:
    out = tmp_path / "u"
    assert "E_REQUEST" in refused(2, "svd", hard, out)
    assert "E_REQUEST" in refused(2, "svd", hard, out, "-k", 3, "--tol", 7)
    assert "E_REQUEST" in refused(2, "svd", hard, out, "-k", 3, "--tol", "x")
    assert "E_REQUEST" in refused(2, "svd", hard, out, "-k", 3, "--sigma")
    assert "E_REQUEST" in refused(2, "svd", hard, out, "-k", 3, "--energy", 0.5)
    assert "E_REQUEST" in refused(2, "svd", hard)
    assert "E_REQUEST" in refused(2, "factorise", hard)
    assert "1..200" in refused(2, "svd", hard, out, "-k", 201)
    assert "1..min(m, n)" in refused(2, "svd", hard, out, "-k", 0)
    assert "E_K" in refused(2, "svd", hard, out, "-k", "many")
    assert "E_SOURCE" in refused(2, "svd", tmp_path / "nothing.zarr", out, "-k", 3)
    assert "E_SOURCE" in refused(2, "svd", hard.parent, out, "-k", 3)
    memory = refused(2, "svd", hard, out, "-k", 3, "--memory", "100kB")
    assert "E_MEMORY" in memory
    assert "100.0 kB" in memory
    assert "E_FACTORS" in refused(2, "info", hard)
    assert list(tmp_path.iterdir()) == []


def test_a_published_result_is_kept_unless_overwritten(easy: Path, factors: Path) -> None:
    before = bigsvd.open(factors).info()
    assert "E_OUTPUT_EXISTS" in refused(2, "svd", easy, factors, "-k", 2, "--quiet")
    assert bigsvd.open(factors).info() == before


def test_overwriting_the_data_itself_is_refused(easy: Path, tmp_path: Path) -> None:
    shutil.copytree(easy, tmp_path / "data.zarr")
    data = tmp_path / "data.zarr"
    assert "E_OUTPUT_EXISTS" in refused(2, "svd", data, data, "-k", 2, "--overwrite", "--quiet")
    np.testing.assert_array_equal(zarr.open_array(data, mode="r")[:], EASY)


def test_a_busy_output_is_a_failed_run(easy: Path, tmp_path: Path) -> None:
    with Output(tmp_path / "u", overwrite=False):
        assert "E_OUTPUT_BUSY" in refused(3, "svd", easy, tmp_path / "u", "-k", 2, "--quiet")


def test_data_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    values = EASY.copy()
    values[33, 4] = np.nan
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(20, 10))
    error = refused(2, "svd", tmp_path / "a.zarr", tmp_path / "u", "-k", 2, "--quiet")
    assert "E_NONFINITE" in error
    assert "row 33, column 4" in error
    done("svd", tmp_path / "a.zarr", tmp_path / "u", "-k", 2, "--missing", "mean", "--quiet", "--overwrite")


def test_a_scheduler_that_is_not_there_is_a_failed_run(
    easy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigsvd.execution.cluster._CONNECT_SECONDS", 0.3)
    error = refused(3, "svd", easy, tmp_path / "u", "-k", 2, "--scheduler", "tcp://127.0.0.1:1", "--quiet")
    assert "no scheduler answers at tcp://127.0.0.1:1 within 0.3 s" in error


@pytest.mark.parametrize("option", ["--tls-ca", "--tls-cert", "--tls-key", "--wait-workers"])
def test_options_of_a_cluster_are_refused_without_one(easy: Path, tmp_path: Path, option: str) -> None:
    for command in (("svd", easy, tmp_path / "u", "-k", 2), ("plan", easy, "-k", 2), ("verify", tmp_path)):
        assert f"{option} has no effect without --scheduler" in refused(2, *command, option, 3)


def test_a_part_of_a_tls_identity_is_refused(easy: Path) -> None:
    error = refused(2, "plan", easy, "-k", 2, "--scheduler", "tls://127.0.0.1:1", "--tls-ca", "ca.pem")
    assert "1 of --tls-ca, --tls-cert and --tls-key are given; give all three, or none" in error


def test_help_is_no_error() -> None:
    assert "Results:" in done().out
    for name in cli.main.commands:
        assert "Usage:" in done(name, "--help").out
    assert bigsvd.__version__ in done("--version").out


# info, rank


def test_info_prints_what_the_store_holds(factors: Path) -> None:
    text = done("info", factors).out
    assert "60 x 20, k=5" in text
    assert "converged" in text
    facts = done("info", factors, "--json").facts
    assert facts == info_of(factors)
    assert {"shape", "k", "s", "method", "passes", "bytes_read", "seconds", "peak_memory_bytes"} <= set(facts)
    assert {"relative_error", "max_residual", "tol", "converged"} <= set(facts["certificate"])


def test_rank_prints_a_row_for_each_k_and_what_the_rules_choose(factors: Path, tmp_path: Path) -> None:
    options = ("--energy", 0.5, "--error", 0.5, "--max-bytes", "2kB")
    facts = done("rank", factors, *options, "--json").facts
    assert [row["k"] for row in facts["rows"]] == [1, 2, 3, 4, 5]
    errors = relative_errors(np.linalg.svd(EASY)[1])
    np.testing.assert_allclose([row["relative_error"] for row in facts["rows"]], errors[:5], rtol=1e-9)
    assert facts["choices"][-1]["rule"].startswith("size")
    assert facts["choices"][-1]["k"] == 2000 // (8 * 81)
    text = done("rank", factors, *options, "--plot", tmp_path / "scree.png").out
    assert len(text.splitlines()) > 5
    assert (tmp_path / "scree.png").read_bytes().startswith(b"\x89PNG")
    assert "E_REQUEST" in refused(2, "rank", factors, "--energy", 2)


# reconstruct


def best(k: int = 5) -> np.ndarray:
    u, s, vt = np.linalg.svd(EASY, full_matrices=False)
    return np.asarray((u[:, :k] * s[:k]) @ vt[:k])


def test_reconstruct_prints_a_region(factors: Path) -> None:
    printed = done("reconstruct", factors, "--rows", "3:7", "--cols", ":4").out
    np.testing.assert_allclose(np.loadtxt(printed.splitlines()), best()[3:7, :4], rtol=1e-6)
    facts = done("reconstruct", factors, "--rows=-2", "--cols", "5", "--json").facts
    np.testing.assert_allclose(facts["values"], best()[-2:-1, 5:6], rtol=1e-10)


@pytest.mark.parametrize("k", [None, 2])
def test_reconstruct_writes_arrays(factors: Path, tmp_path: Path, k: int | None) -> None:
    options = () if k is None else ("-k", k)
    done("reconstruct", factors, tmp_path / "a.npy", *options)
    facts = done("reconstruct", factors, tmp_path / "a.zarr", *options, "--rows", "10:", "--json").facts
    assert facts["shape"] == [50, 20]
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), best(k or 5), rtol=0, atol=1e-12)
    stored = np.asarray(zarr.open_array(tmp_path / "a.zarr", mode="r")[:])
    np.testing.assert_allclose(stored, best(k or 5)[10:], rtol=0, atol=1e-12)
    assert "already exists" in refused(2, "reconstruct", factors, tmp_path / "a.npy")


@pytest.mark.parametrize("rows", ["5:5", "70:80", "x", "1:2:3", "60", "-61"])
def test_ranges_that_select_nothing_are_refused(factors: Path, rows: str) -> None:
    assert "E_REQUEST" in refused(2, "reconstruct", factors, f"--rows={rows}")


def test_more_triplets_than_there_are_is_refused(factors: Path) -> None:
    assert "1..5" in refused(2, "reconstruct", factors, "-k", 6)


# verify, demo


def test_verify_says_that_a_good_store_holds(factors: Path, easy: Path) -> None:
    assert "holds what its certificate promises" in done("verify", factors).out
    facts = done("verify", factors, easy, "--json").facts
    assert facts["holds"] is True
    assert facts["findings"] == []
    assert facts["relative_error"] == pytest.approx(bigsvd.open(factors).certificate.relative_error, abs=1e-9)
    assert facts["max_residual"] < 1e-6


def test_verify_finds_what_does_not_hold(factors: Path, easy: Path, tmp_path: Path) -> None:
    shutil.copytree(factors, tmp_path / "bad")
    array: Any = zarr.open_array(tmp_path / "bad" / "U", mode="r+")
    array[0, 0] += 0.5
    ended = run("verify", tmp_path / "bad", "--json")
    assert ended.code == 3
    assert ended.facts["holds"] is False
    assert "E_VERIFY" in ended.err.splitlines()[-1]
    assert run("verify", tmp_path / "bad", easy).code == 3


def test_more_numbers_than_a_screen_holds_are_refused(tmp_path: Path) -> None:
    bigsvd.svd(np.ones((400, 300)), 1, tmp_path / "u")
    for options in ((), ("--json",)):
        assert "400 x 300 = 120,000 numbers, at most 100,000 are printed; give OUT" in refused(
            2, "reconstruct", tmp_path / "u", *options
        )
    assert len(done("reconstruct", tmp_path / "u", "--rows", "0:2").out.split()) == 600
    done("reconstruct", tmp_path / "u", tmp_path / "whole.npy")


def test_verify_finds_other_data(factors: Path, hard: Path, tmp_path: Path) -> None:
    assert "E_FACTORS" in refused(2, "verify", factors, hard)
    zarr.create_array(tmp_path / "other.zarr", data=EASY + 0.01, chunks=(20, 10))
    assert run("verify", factors, tmp_path / "other.zarr").code == 3


def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    facts = done("demo", "--size", "2MB", "--memory", "60MB", "-k", 8, "--dir", folder, "--json").facts
    assert facts["converged"]
    assert facts["worst_sigma_error"] < 1e-3
    assert facts["relative_error"] == pytest.approx(facts["best_relative_error"], rel=1e-3)
    assert facts["data_bytes"] == pytest.approx(2e6, rel=0.5)
    assert sorted(path.name for path in folder.iterdir()) == ["factors", "spectrum.png"]
    assert "E_OUTPUT_EXISTS" in refused(2, "demo", "--dir", folder)


def test_the_demo_tells_its_story_and_keeps_its_data_if_asked(tmp_path: Path) -> None:
    arguments = ("demo", "--size", "1MB", "--memory", "60MB", "-k", 4, "--keep", "--dir", tmp_path / "demo")
    text = done(*arguments).out
    for part in ("computed sigma", "Certificate: converged", "Best possible", "Peak memory", "passes in"):
        assert part in text
    assert (tmp_path / "demo" / "data.zarr").exists()


def test_a_demo_too_small_to_show_anything_is_refused(tmp_path: Path) -> None:
    assert "E_REQUEST" in refused(2, "demo", "--size", "1kB", "--dir", tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_commands_are_those_of_the_contract() -> None:
    names = {"svd", "plan", "info", "rank", "reconstruct", "verify", "demo", "project"}
    assert names <= set(cli.main.commands)
    assert all(isinstance(cli.main.commands[name], click.Command) for name in names)


def raised(error: Exception, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """How a command ends in which this is raised."""

    def failing(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("bigsvd.cli.here.open_source", failing)
    ended = CliRunner().invoke(cli.main, ["plan", "a.zarr", "-k", "1"], catch_exceptions=False)
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def of(module: str) -> Exception:
    """What another library raises."""
    made: type[Exception] = type("ClientError", (Exception,), {"__module__": module})
    return made("https://someone:sesame@host/a?sig=sesame says no\nmore")


FOREIGN = (
    of("botocore.exceptions"),
    of("obstore.exceptions"),
    zlib.error("bad data"),
    ExceptionGroup("several", [of("gcsfs.retry")]),
)
MISTAKES = (
    TypeError("a"),
    KeyError("a"),
    AttributeError("a"),
    RuntimeError("a"),
    np.linalg.LinAlgError("a"),
    ExceptionGroup("several", [TypeError("a")]),
)


@pytest.mark.parametrize("error", FOREIGN)
def test_what_a_store_raises_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = raised(error, monkeypatch)
    assert ended.code == 3
    assert ended.err.startswith("error[E_STORAGE]")
    assert f"{type(error).__module__}.{type(error).__qualname__}" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert "sesame" not in ended.err


@pytest.mark.parametrize("error", MISTAKES)
def test_a_mistake_in_the_program_is_shown(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(type(error)) as caught:
        raised(error, monkeypatch)
    assert caught.value is error
