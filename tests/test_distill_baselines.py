"""The baselines: each is what its source says, and what it is measured by is what it is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from bigsvd.distill.baselines import (
    Baseline,
    ColumnMean,
    Panels,
    by_stage,
    complete_coordinates,
    gappy,
    isotropic,
    oracle,
    zero_filled,
)
from bigsvd.distill.basis import Basis
from bigsvd.distill.kernel_regression import KernelRegression
from bigsvd.distill.plain_network import PlainNetwork
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows
from bigsvd.distill.soft_impute import SoftImpute

N, R, K = 60, 6, 3
AMPLE = 10**9


def model(noise: float = 0.3, seed: int = 0) -> Basis:
    V = np.linalg.qr(np.random.default_rng(seed).normal(size=(N, R)))[0]
    variances = np.geomspace(60, 2, R)
    return Basis(V, np.sqrt(variances * 1000), np.full(N, noise**2), 1000)


def rows_of(basis: Basis, m: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    z = random.normal(size=(m, R)) * np.sqrt(basis.s**2 / basis.samples)
    return np.asarray(z @ basis.V.T + random.normal(size=(m, N)) * np.sqrt(basis.noise))


def with_gaps(values: np.ndarray, share: float, seed: int = 2) -> Rows:
    seen = np.random.default_rng(seed).random(values.shape) < share
    return Rows(0, values * seen, seen)


def panels_of(rows: Rows, size: int = 40) -> Panels:
    def panels() -> Iterator[Rows]:
        for start in range(0, len(rows), size):
            some = slice(start, start + size)
            yield Rows(start, rows.values[some], rows.seen[some])

    return panels


def error(baseline: Baseline, rows: Rows, values: np.ndarray) -> float:
    filler = baseline.fit(panels_of(rows))
    found = np.vstack([filler.fill(part).entries for part in panels_of(rows)()])
    return float(np.sqrt(np.mean((found - values)[~rows.seen] ** 2)))


def test_gappy_least_squares_finds_what_lies_in_the_span() -> None:
    basis = model()
    z = np.random.default_rng(3).normal(size=(20, K))
    rows = with_gaps(z @ basis.V[:, :K].T, 0.5)
    found = gappy(basis, K).fit(panels_of(rows)).fill(rows)
    assert found.coordinates == pytest.approx(z, abs=1e-10)


def test_zero_filled_projection_is_that() -> None:
    basis, values = model(), rows_of(model(), 10)
    rows = with_gaps(values, 0.4)
    found = zero_filled(basis, K).fit(panels_of(rows)).fill(rows)
    assert found.entries == pytest.approx(rows.values @ basis.V[:, :K] @ basis.V[:, :K].T)


def test_the_mean_is_the_teachers_or_that_of_what_was_seen() -> None:
    basis, values = model(), rows_of(model(), 300) + 5
    rows = with_gaps(values, 0.4)
    rows = rows.hide(np.arange(N) == 7)
    own = ColumnMean(basis, K, centred=False).fit(panels_of(rows)).fill(rows).entries[0]
    assert own[7] == 0
    assert own[8] == pytest.approx(np.mean(values[rows.seen[:, 8], 8]))
    assert not np.any(ColumnMean(basis, K, centred=True).fit(panels_of(rows)).fill(rows).entries)


def test_equal_noise_is_the_ridge_where_noise_is_equal() -> None:
    basis = model()
    rows = with_gaps(rows_of(basis, 10), 0.4)
    same = isotropic(basis, K).fit(panels_of(rows)).fill(rows).coordinates
    assert same == pytest.approx(
        by_stage(basis, K, Ridge(basis.prior)).fit(panels_of(rows)).fill(rows).coordinates
    )
    unequal = replace(basis, noise=basis.noise * np.geomspace(0.1, 10, N))
    ridge = by_stage(unequal, K, Ridge(unequal.prior)).fit(panels_of(rows)).fill(rows).coordinates
    assert not np.allclose(
        isotropic(unequal, K).fit(panels_of(rows)).fill(rows).coordinates, ridge, rtol=1e-2
    )


def test_complete_rows_that_lack_entries_are_projected_by_the_others() -> None:
    basis = model()
    z = np.random.default_rng(4).normal(size=(5, R))
    values = z @ basis.V.T
    seen = np.ones(values.shape, dtype=bool)
    seen[2, :5] = False
    assert complete_coordinates(basis.V, Rows(0, values * seen, seen)) == pytest.approx(z, abs=1e-9)


def test_the_oracle_is_better_than_every_way_that_sees_less() -> None:
    basis, values = model(), rows_of(model(), 200)
    rows = with_gaps(values, 0.3)
    best = oracle(basis, K).fill(Rows(0, values, np.ones(values.shape, dtype=bool))).entries
    bound = float(np.sqrt(np.mean((best - values)[~rows.seen] ** 2)))
    rivals: list[Baseline] = [
        ColumnMean(basis, K, centred=True),
        zero_filled(basis, K),
        gappy(basis, K),
        by_stage(basis, K, Ridge(basis.prior)),
    ]
    errors = [error(each, rows, values) for each in rivals]
    assert min(errors) > bound
    assert errors[-1] == min(errors)


def test_soft_impute_finds_a_matrix_of_low_rank_without_a_teacher() -> None:
    values = rows_of(model(), 200)
    rows = with_gaps(values, 0.5)
    assert error(SoftImpute(model(seed=9), K, 0, AMPLE), rows, values) < 1.3 * 0.3


def test_soft_impute_of_nothing_is_nothing() -> None:
    rows = with_gaps(rows_of(model(), 20), 0.0)
    assert not np.any(SoftImpute(model(), K, 0, AMPLE).fit(panels_of(rows)).fill(rows).entries)


def test_kernel_regression_remembers_rows_that_it_knows() -> None:
    basis = model(noise=1e-3)
    known = rows_of(basis, 50)
    rows = with_gaps(known[:10], 0.5)
    assert error(KernelRegression(known, basis, K, 0, AMPLE), rows, known[:10]) < 0.01
    nothing = rows.hide(rows.seen)
    filled = KernelRegression(known, basis, K, 0, AMPLE).predict(nothing, 1.0)
    assert filled == pytest.approx(np.tile(np.mean(known, axis=0), (10, 1)))


def test_a_plain_network_learns() -> None:
    basis = model()
    known, values = rows_of(basis, 400, seed=5), rows_of(basis, 100)
    rows = with_gaps(values, 0.5)
    trained = PlainNetwork(known, basis, K, (0.3, 0.7), 0, AMPLE, epochs=15).trained()
    nothing = error(ColumnMean(basis, K, centred=True), rows, values)
    assert error(trained, rows, values) < 0.8 * nothing


def test_what_cannot_be_streamed_is_refused_above_a_size() -> None:
    basis, known = model(), rows_of(model(), 50)
    small = 10**4
    for why in (
        SoftImpute(basis, K, 0, small).refusal(1000),
        KernelRegression(known, basis, K, 0, small).refusal(1000),
        PlainNetwork(known, basis, K, (0.1, 0.5), 0, small).refusal(),
    ):
        assert why is not None
        assert "10,000" in why
        assert "cannot be streamed" in why
    assert SoftImpute(basis, K, 0, AMPLE).refusal(1000) is None
