"""The span alarm: it sounds where new data have left the teacher's span, and hardly ever where not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bigsvd.distill.basis import Basis
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.intervals import NINETY, entry_deviations, interval_scale, ratios, row_deviations
from bigsvd.distill.observed import observe
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows
from bigsvd.distill.span import Span, span_of, surprise
from bigsvd.distill.stage import Coordinates

N, R, K, M = 80, 8, 4, 200
# Eight components of the teacher, and four that it did not store.
VARIANCES = np.geomspace(60, 1.2, R + 4)


def directions(random: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(random.normal(size=(N, R + 4)))[0]


def basis_of(W: np.ndarray, noise: np.ndarray) -> Basis:
    """A teacher of very many rows: what it did not store is noise of its columns to it."""
    left = noise + W[:, R:] ** 2 @ VARIANCES[R:]
    s = np.sqrt((VARIANCES[:R] + noise @ W[:, :R] ** 2) * 5000)
    return Basis(W[:, :R], s, left, 5000)


def rows_of(
    random: np.random.Generator, W: np.ndarray, variances: np.ndarray, noise: np.ndarray, share: float = 0.3
) -> tuple[Rows, np.ndarray]:
    x = (random.normal(size=(M, W.shape[1])) * np.sqrt(variances)) @ W.T
    x += random.normal(size=(M, N)) * np.sqrt(noise)
    seen = random.random((M, N)) < share
    return Rows(0, x * seen, seen), x


def look(seed: int, scale: np.ndarray | float = 1.0, noise_scale: float = 1.0, turn: bool = False) -> Span:
    """At data whose coordinates are scaled, of which the stage knows the variances."""
    random = np.random.default_rng(seed)
    W, noise = directions(random), 0.2 * np.exp(random.normal(size=N) / 2)
    basis = basis_of(W, noise)
    factors = np.ones(R + 4)
    factors[:R] = scale
    factors[R:] = noise_scale
    used = directions(random) if turn else W
    rows, _ = rows_of(random, used, VARIANCES * factors, noise * noise_scale)
    return span_of([rows], basis, Ridge(basis.prior * scale), Holdout(seed), K)


def test_data_of_the_same_kind_hardly_ever_sound_it() -> None:
    assert sum(bool(look(seed).outside) for seed in range(40)) == 0


@pytest.mark.parametrize(
    ("scale", "noise_scale"),
    [(6.25, 1.0), (6.25, 6.25), (0.16, 0.16), (np.geomspace(4, 0.5, R), 1.0)],
    ids=["larger", "all larger", "all smaller", "tilted"],
)
def test_data_of_another_scale_do_not_sound_it(scale: np.ndarray | float, noise_scale: float) -> None:
    assert [look(seed, scale, noise_scale).outside for seed in range(5)] == [""] * 5


def test_a_weak_signal_beside_what_the_teacher_did_not_store_sounds_it() -> None:
    for seed in range(5):
        found = look(seed, 0.05)
        assert found.doubtful
        assert "are no larger than what may lie outside" in found.outside
        assert not found.is_left


def test_data_in_other_directions_sound_it() -> None:
    for seed in range(5):
        found = look(seed, turn=True)
        assert found.is_left
        assert "times its noise" in found.outside


def test_nothing_hidden_says_nothing_of_residuals() -> None:
    random = np.random.default_rng(1)
    basis = basis_of(directions(random), np.full(N, 0.2))
    empty = Rows(0, np.zeros((5, N)), np.zeros((5, N), dtype=bool))
    found = span_of([empty], basis, Ridge(basis.prior), Holdout(0), K)
    assert np.isnan(found.residual)
    assert found.outside == ""


def posterior(random: np.random.Generator) -> tuple[Basis, Rows, np.ndarray, Coordinates]:
    W, noise = directions(random), 0.2 * np.exp(random.normal(size=N) / 2)
    basis = basis_of(W, noise)
    rows, x = rows_of(random, W, VARIANCES, noise)
    return basis, rows, x, Ridge(basis.prior).infer(observe(basis, rows))


def test_deviations_are_those_of_the_model() -> None:
    basis, _, _, found = posterior(np.random.default_rng(2))
    entries = entry_deviations(basis, found)
    exact = basis.V[3] @ found.covariance[7] @ basis.V[3] + basis.noise[3]
    np.testing.assert_allclose(entries[7, 3] ** 2, exact, rtol=1e-12)
    np.testing.assert_allclose(row_deviations(basis, found, R) ** 2, np.mean(entries**2, axis=1), rtol=1e-12)
    shared = Coordinates(found.mean, found.covariance[:1])
    np.testing.assert_allclose(row_deviations(basis, shared, R), row_deviations(basis, found, R)[0])


def test_a_row_s_deviation_counts_what_is_not_published() -> None:
    basis, _, _, found = posterior(np.random.default_rng(3))
    gap = (found.mean[:, K:] @ basis.V[:, K:].T) ** 2
    expected = row_deviations(basis, found, R) ** 2 + np.mean(gap, axis=1)
    np.testing.assert_allclose(row_deviations(basis, found, K) ** 2, expected, rtol=1e-12)


def test_the_scale_makes_intervals_cover_nine_of_ten() -> None:
    basis, rows, x, found = posterior(np.random.default_rng(4))
    predicted, deviations = found.mean @ basis.V.T, entry_deviations(basis, found) * 3
    complete = replace(rows, values=x)
    hidden = ~rows.seen & (np.arange(N) < 40)
    scale = interval_scale([ratios(complete, hidden, predicted, deviations)])
    assert 0.3 < scale < 0.37
    others = ~rows.seen & (np.arange(N) >= 40)
    assert 0.88 < np.mean(ratios(complete, others, predicted, deviations * scale) < NINETY) < 0.92


def test_too_few_hidden_entries_change_nothing() -> None:
    assert interval_scale([np.full(10, 9.0)]) == 1.0
    assert interval_scale([]) == 1.0


def test_rows_of_the_teacher_s_kind_surprise_by_one() -> None:
    basis, rows, _, found = posterior(np.random.default_rng(5))
    usual = surprise(observe(basis, rows), found)
    assert 0.95 < np.mean(usual) < 1.05
    louder = replace(rows, values=rows.values * 4)
    observed = observe(basis, louder)
    assert np.all(surprise(observed, Ridge(basis.prior).infer(observed)) > usual)
    unseen = rows.hide(rows.seen)
    observed = observe(basis, unseen)
    np.testing.assert_array_equal(surprise(observed, Ridge(basis.prior).infer(observed)), 0)


def test_a_stage_that_expects_more_than_it_misses_is_no_alarm_and_no_division_by_zero() -> None:
    random = np.random.default_rng(6)
    W, noise = directions(random), np.full(N, 1e-3)
    basis = basis_of(W, noise)
    rows, _ = rows_of(random, W, VARIANCES * 1e-6, noise * 1e-6)
    found = span_of([rows], basis, Ridge(basis.prior), Holdout(0), K)
    assert found.residual == 0
    assert np.all(np.isfinite(found.ratios))
    assert found.outside == ""


def test_errors_that_the_stage_expects_are_no_alarm_however_little_noise_there_is() -> None:
    assert not Span(residual=5.4, missed=1.55, scale=1.0, ratios=(2.0,)).is_left
    assert Span(residual=11.0, missed=6.0, scale=1.0, ratios=(2.0,)).is_left
