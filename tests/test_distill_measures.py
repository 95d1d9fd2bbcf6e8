"""The measures of an evaluation, against what they are defined as; the table; the plots are drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bigsvd.distill.baselines import ColumnMean, Filled, by_stage, zero_filled
from bigsvd.distill.evaluation import Evaluation
from bigsvd.distill.measures import Tally, Truth, singular_value_errors
from bigsvd.distill.plots import example_figure, write_plots
from bigsvd.distill.records import MEAN, ORACLE, Setting
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Coordinates
from bigsvd.distill.trial import Trial
from tests.test_distill_baselines import AMPLE, K, N, R, model, panels_of, rows_of

M = 120


def complete_rows(noise: float = 0.3) -> Rows:
    values = rows_of(model(noise), M)
    return Rows(0, values, np.ones(values.shape, dtype=bool))


def drawn(setting: Setting, rows: Rows) -> np.ndarray:
    random = np.random.default_rng([setting.seed, rows.start, int(1000 * setting.share)])
    return np.asarray(random.random(rows.values.shape) < setting.share)


def trial(noise: float = 0.3) -> Trial:
    panels = panels_of(complete_rows(noise))
    return Trial(panels, Truth.of(model(noise), K, panels(), AMPLE), drawn)


def evaluation() -> Evaluation:
    basis, run = model(), trial()
    baselines = [
        ColumnMean(basis, K, centred=True), zero_filled(basis, K), by_stage(basis, K, Ridge(basis.prior)),
    ]  # fmt: skip
    settings = [Setting("uniform", share, seed) for share in (0.1, 0.5) for seed in (0, 1)]
    records = [record for setting in settings for record in run.records(setting, baselines)]
    example = run.example(settings[0], baselines, [MEAN, "ridge"])
    return Evaluation(
        tuple(records), {"SoftImpute": "too large"}, K, M, N, tuple(run.truth.s), run.truth.whole, example
    )


def test_singular_values_of_complete_rows_are_exact() -> None:
    rows = complete_rows()
    expected = np.linalg.svd(rows.values, compute_uv=False)[:K]
    assert trial().truth.s == pytest.approx(expected)
    within = Truth.of(model(), K, panels_of(rows)(), memory_bytes=100)
    assert not within.whole
    assert within.s == pytest.approx(np.linalg.svd(rows.values @ model().V, compute_uv=False)[:K])


def test_singular_values_of_few_long_rows_are_exact() -> None:
    rows = complete_rows()
    truth = Truth.of(model(), K, panels_of(rows)(), memory_bytes=8 * N * M)
    assert truth.s == pytest.approx(np.linalg.svd(rows.values, compute_uv=False)[:K])


MODEL, FAINT = model(), model(1e-3)


def test_what_knows_all_errs_in_nothing() -> None:
    run, rows = trial(), complete_rows()
    z = rows.values @ model().V
    tally = Tally(MODEL.V, K)
    hidden = drawn(Setting("uniform", 0.5, 0), rows)
    tally.add(rows, hidden, Filled(MODEL, K, z), z, 1.0)
    assert tally.missed == 0
    assert tally.angle(run.truth) == pytest.approx(0, abs=1e-5)
    assert tally.s == pytest.approx(np.linalg.svd(z, compute_uv=False)[:K])


def test_the_angle_to_other_directions_is_a_right_one() -> None:
    run, rows = trial(noise=1e-3), complete_rows(noise=1e-3)
    z = np.zeros((M, R))
    z[:, K:] = np.random.default_rng(0).normal(size=(M, R - K))
    tally = Tally(FAINT.V, K)
    tally.add(rows, rows.seen, Filled(FAINT, K, z), z, 1.0)
    assert tally.angle(run.truth) == pytest.approx(90, abs=2)


def test_intervals_of_the_true_model_cover_what_they_promise() -> None:
    basis, values = model(), rows_of(model(), 2000)
    whole = Rows(0, values, np.ones(values.shape, dtype=bool))
    panels = panels_of(whole, 500)
    run = Trial(panels, Truth.of(basis, K, panels(), AMPLE), drawn)
    ridge = run.records(Setting("uniform", 0.3, 0), [ColumnMean(basis, K, centred=True),
                                                    by_stage(basis, K, Ridge(basis.prior))])[1]  # fmt: skip
    assert ridge.coverage == pytest.approx(0.9, abs=0.01)
    assert ridge.coordinate_coverage == pytest.approx(0.9, abs=0.06)  # the seen part of noise is known
    assert ridge.covered == pytest.approx((0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99), abs=0.02)
    assert ridge.s_mean < 0.03


def test_a_covariance_that_rows_share_counts_for_each() -> None:
    rows = complete_rows()
    z, C = rows.values @ model().V, np.eye(R)[None]
    one, each = Tally(MODEL.V, K), Tally(MODEL.V, K)
    one.add(rows, rows.seen, Filled(MODEL, K, z, Coordinates(z, C)), z, 1.0)
    each.add(rows, rows.seen, Filled(MODEL, K, z, Coordinates(z, np.repeat(C, M, axis=0))), z, 1.0)
    assert one.s == pytest.approx(each.s)
    assert one.within.shares == pytest.approx(each.within.shares)


def test_shares_recovered_lie_between_the_mean_and_the_oracle() -> None:
    found = evaluation()
    assert {found.mean(MEAN, "uniform", 0.1, "recovered")} == {0.0}
    assert {found.mean(ORACLE, "uniform", 0.1, "recovered")} == {1.0}
    assert 0 < found.mean("ridge", "uniform", 0.1, "recovered") < 1
    assert found.mean("ridge", "uniform", 0.1, "rmse") > found.mean("ridge", "uniform", 0.5, "rmse")
    assert found.mean(ORACLE, "uniform", 0.5, "coordinate_error") == 0
    assert found.spread("ridge", "uniform", 0.1, "rmse") > 0


def test_errors_of_singular_values() -> None:
    assert singular_value_errors(np.array([11.0, 4.0]), np.array([10.0, 5.0])) == pytest.approx((0.15, 0.2))
    assert all(map(np.isnan, singular_value_errors(np.zeros(0), np.ones(3))))


def test_the_table_and_json_say_all() -> None:
    found = evaluation()
    text = found.text
    for word in ("uniform, 10 % seen", "uniform, 50 % seen", "ridge", "oracle", "SoftImpute was left out"):
        assert word in text
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(values["records"]) == 4 * 4
    assert values["records"][0]["covered"] == []
    assert values["records"][0]["coverage"] is None


def test_plots_are_drawn(tmp_path: Path) -> None:
    paths = write_plots(evaluation(), tmp_path, (6, 10))
    assert sorted(path.name for path in paths) == ["calibration.png", "error.png", "example.png", "sigma.png"]
    assert all(path.stat().st_size > 10_000 for path in paths)


def test_a_sample_of_two_axes_is_an_image_any_other_a_line() -> None:
    example = evaluation().example
    assert all(panel.images for panel in example_figure(example, (6, 10)).axes[:-1])
    lines = example_figure(example, (60,)).axes
    assert [panel.get_title().split(":")[0] for panel in lines] == ["column mean", "ridge", "oracle"]


def test_coordinates_of_a_basis_that_has_moved_are_compared_along_the_teachers() -> None:
    rows = complete_rows()
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(K, K)))[0]
    V = MODEL.V.copy()
    V[:, :K] = V[:, :K] @ turn
    moved, tally = replace(MODEL, V=V), Tally(MODEL.V, K)
    z = rows.values @ MODEL.V
    tally.add(rows, rows.seen, Filled(moved, K, rows.values @ V), z, 1.0)
    assert tally.coordinate_error == pytest.approx(0, abs=1e-7)
