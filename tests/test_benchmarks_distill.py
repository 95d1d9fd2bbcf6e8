"""`benchmarks distill` at a tiny size: data, DINEOF and bars are what they say, and cases run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import dineof, distill_speed
from benchmarks import distill as suite
from benchmarks.__main__ import DISTILL_CASES, main
from benchmarks.distill_bars import at_least, at_most, holds, ratios, within, worst_at_least, worst_at_most
from benchmarks.distill_data import (
    Clouds,
    Hole,
    LinearGaussian,
    Scattered,
    linear_gaussian,
    scaled,
    scaled_gaussian,
    sea_surface,
    travelling_bumps,
)
from tests.benchmark_runs import check_report_is_made_again


def test_the_optimum_is_the_joint_gaussian_conditioned() -> None:
    model = LinearGaussian.drawn(0, 7, np.array([4.0, 1.0]), 0.7)
    x = model.rows(1, (1,))
    seen = np.array([[True, False, True, True, False, False, True]])
    covariance = model.V * model.variances @ model.V.T + np.diag(model.noise)
    there, gone = np.flatnonzero(seen[0]), np.flatnonzero(~seen[0])
    expected = covariance[np.ix_(gone, there)] @ np.linalg.solve(
        covariance[np.ix_(there, there)], x[0, there]
    )
    assert model.best(x, seen)[0, gone] == pytest.approx(expected)


def test_rows_are_scaled_as_they_say() -> None:
    problem = linear_gaussian(0, 0.0, 600, 400, n=30)
    model = problem.truth
    assert model is not None
    whole, thrice = problem.new @ model.V, scaled_gaussian(problem, 3.0, "thrice", 0).new @ model.V
    assert thrice.var() / whole.var() == pytest.approx(9, rel=0.1)
    halved = scaled(problem, 0.5, "halved")
    mean = problem.training.mean(axis=0)
    _, _, Vt = np.linalg.svd(problem.training - mean)
    known, rest = Vt[: problem.wide].T, Vt[problem.wide :].T
    assert (halved.new - mean) @ known == pytest.approx(0.5 * (problem.new - mean) @ known)
    assert (halved.new - mean) @ rest == pytest.approx((problem.new - mean) @ rest)


@pytest.mark.parametrize("gaps", [Scattered(0.3), Clouds(0.3, 2)])
def test_gaps_leave_the_share_that_they_say(gaps: Clouds | Scattered) -> None:
    seen = gaps.seen(0, 200, (12, 20))
    assert seen.mean() == pytest.approx(0.3, abs=0.03)
    assert np.array_equal(seen, gaps.seen(0, 200, (12, 20)))
    assert not np.array_equal(seen, gaps.seen(1, 200, (12, 20)))


def test_clouds_hang_together_and_a_hole_is_a_square() -> None:
    def edges(seen: np.ndarray) -> float:
        return float(np.mean(seen[:, 1:] != seen[:, :-1]))

    assert edges(Clouds(0.5, 4).seen(0, 50, (200,))) < 0.3 * edges(Scattered(0.5).seen(0, 50, (200,)))
    gone = ~Hole(5).seen(0, 9, (12, 12)).reshape(9, 12, 12)
    assert all(np.any(picture, axis=axis).sum() == 5 for picture in gone for axis in (0, 1))


def test_dineof_finds_rank_and_gaps_of_a_matrix_of_low_rank() -> None:
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 40)) + 2
    seen = np.vstack([np.ones((30, 40), dtype=bool), Clouds(0.7, 3).seen(0, 30, (40,))])
    data = whole + 0.3 * rng.standard_normal(whole.shape)
    filled = dineof.fill(data, seen, 10, 0)
    assert 3 <= filled.rank <= 5
    assert np.sqrt(np.mean((filled.values - whole)[~seen] ** 2)) < 0.3 * whole.std()
    assert np.array_equal(filled.values[seen], data[seen])


def test_bars_say_whether_they_are_met() -> None:
    assert at_most("a", [1.0, 2.0], 1.5).met
    assert not at_most("a", [1.0, 2.1], 1.5).met
    assert at_least("a", [1.0, 2.0], 1.5).met
    assert within("a", [0.9, 0.9], 0.87, 0.93).met
    assert not worst_at_most("a", [0.01, 0.2], 0.1).met
    assert not worst_at_least("a", [2.5, 249.0], 20.0).met
    assert not worst_at_least("a", [], 20.0).met
    assert not holds("a", "b", [True, False]).met
    for nothing in (at_most("a", [], 1), at_least("a", [], 1), within("a", [], 0, 1), holds("a", "b", [])):
        assert not nothing.met
    rows = [
        {"problem": "p", "setting": "s", "seed": seed, "method": method, "rmse": value}
        for seed in (1, 0)
        for method, value in (("one", 2.0 + seed), ("other", 2.0))
    ]
    assert ratios(rows, "p", "s", ("one", "other")) == [1.0, 1.5]


def test_bumps_lie_on_no_plane() -> None:
    problem = travelling_bumps(0, 500, 10, n=64)
    s = np.linalg.svd(problem.training - problem.training.mean(axis=0), compute_uv=False)
    assert s[problem.k] < 0.1 * s[0]
    assert s[4] > 0.3 * s[0]


@pytest.mark.parametrize("case", ["gaussian", "gaps", "speed"])
def test_the_command_writes_its_report(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(suite.CASES["gaps"], problems=lambda _, seed: iter([(sea_surface(seed),)]))
    one = {"gaps": few}.get(case, suite.CASES["gaussian"])
    monkeypatch.setitem(suite.SIZES, "tiny", replace(suite.SIZES["tiny"], rows=200, new=40))
    monkeypatch.setitem(suite.CASES, case, replace(one, gaps=(Scattered(0.3),)))
    monkeypatch.setattr(distill_speed, "in_fresh_process", distill_speed.run_child)
    words = ["distill", case, "--seeds", "1", "--data", str(tmp_path / "data"), "--out", str(tmp_path)]
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / f"distill-{case}.json").read_text(encoding="utf-8"))
    assert results["rows"]
    assert results["bars"]
    assert str(tmp_path) not in json.dumps(results)
    check_report_is_made_again(results, tmp_path / f"distill-{case}.json")


def test_the_optimum_is_best_and_the_mean_is_worst(tmp_path: Path) -> None:
    case = replace(suite.CASES["gaussian"], gaps=(Scattered(0.3),))
    problem = linear_gaussian(1, 1.0, 800, 150, n=60)
    (rows,) = suite.run_problems(case, (problem,), replace(suite.SIZES["tiny"], stages=("ridge",)), 1)
    rmse = {row["method"]: row["rmse"] for row in rows}
    assert rmse["optimal linear"] < rmse["ridge"] < rmse["ridge, equal noise"] < rmse["column mean"]
    assert rmse["published"] < 1.05 * rmse["optimal linear"]


def test_every_case_has_a_command() -> None:
    assert {*suite.CASES, "speed"} == set(DISTILL_CASES)
