"""The gate: what it hides resembles the gaps, what it chooses is the cheapest within noise of the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bigsvd.distill.basis import Basis
from bigsvd.distill.gate import Candidate, Verdict, judge
from bigsvd.distill.holdout import Holdout, pattern_of
from bigsvd.distill.observed import observe
from bigsvd.distill.prior import fit_prior
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows

N, R = 120, 6


def linear_gaussian(seed: int, m: int = 120, seen: float = 0.3) -> tuple[Basis, Rows]:
    """A model of rows, and rows of it with gaps at random."""
    random = np.random.default_rng(seed)
    V = np.linalg.qr(random.normal(size=(N, R)))[0]
    variances, noise = np.geomspace(60, 2, R), 0.5 * np.exp(random.normal(size=N))
    values = (random.normal(size=(m, R)) * np.sqrt(variances)) @ V.T
    values += random.normal(size=(m, N)) * np.sqrt(noise)
    mask = random.random((m, N)) < seen
    s = np.sqrt((variances + noise @ V**2) * 4000)
    return Basis(V, s, noise, 4000), Rows(0, values * mask, mask)


def stages(basis: Basis, **factors: float) -> list[Candidate]:
    """Ridges whose priors are off by these factors."""
    return [Candidate(name, basis, Ridge(basis.prior * factor)) for name, factor in factors.items()]


def blocks_of(gaps: np.ndarray) -> int:
    """How many runs of gaps lie along the rows."""
    return int(np.sum(gaps[:, 0]) + np.sum(gaps[:, 1:] & ~gaps[:, :-1]))


def with_blocks(random: np.random.Generator, m: int, length: int) -> np.ndarray:
    first = random.integers(0, N - length, m)[:, None]
    place = np.arange(N)
    return (place < first) | (place >= first + length)


def rows_of(seen: np.ndarray, start: int = 0) -> Rows:
    return Rows(start, np.ones(seen.shape) * seen, seen)


def test_the_network_is_chosen_by_chance_hardly_ever() -> None:
    chosen = []
    for seed in range(40):
        basis, rows = linear_gaussian(seed)
        off = np.exp(0.05 * np.random.default_rng(seed + 100).normal(size=R))
        candidates = stages(basis, ridge=1.0, map=1.02, mixture=0.97)
        candidates.append(Candidate("network", basis, Ridge(basis.prior * off)))
        verdict = judge([rows], candidates, holdout=Holdout(seed))
        assert verdict.network_helped == (verdict.choice == "network")
        assert verdict.network_helped or any("did not help" in each for each in verdict.sentences)
        chosen.append(verdict.choice)
    assert chosen.count("network") <= 1
    assert chosen.count("ridge") >= 26  # among closed forms the dearer one is taken more easily


def test_a_closed_form_has_to_show_less_than_the_network() -> None:
    """The same gain in few rows, which may be chance, is enough for a mixture and not for a network."""
    chosen = []
    for seed in range(12):
        basis, rows = linear_gaussian(seed)
        few = [Rows(0, rows.values[:40], rows.seen[:40])]
        worse = Candidate("ridge", basis, Ridge(0.2 * basis.prior))
        for name in ("mixture", "network"):
            better = Candidate(name, basis, Ridge(basis.prior))
            chosen.append(judge(few, [worse, better], holdout=Holdout(seed)).choice)
    assert chosen.count("mixture") > chosen.count("network") + 2


def test_a_network_that_is_better_is_chosen_and_said_to_have_helped() -> None:
    basis, rows = linear_gaussian(1)
    candidates = stages(basis, ridge=0.01, map=0.02, network=1.0)
    verdict = judge([rows], candidates, holdout=Holdout(0))
    assert verdict.choice == "network"
    assert "The network helped" in verdict.text
    assert verdict["ridge"].low > 0
    assert verdict["ridge"].rmse > 1.1 * verdict["network"].rmse


def test_rmse_is_that_of_the_hidden_entries_alone() -> None:
    basis, rows = linear_gaussian(2)
    holdout = Holdout(5)
    hidden = holdout.hidden(rows)
    nothing = Ridge(basis.prior * 1e-12)
    verdict = judge([rows], [Candidate("ridge", basis, nothing)], holdout=holdout)
    assert verdict["ridge"].rmse == pytest.approx(np.sqrt(np.mean(rows.values[hidden] ** 2)), rel=1e-6)
    assert verdict.hidden == np.sum(hidden)
    assert verdict.seen == np.sum(rows.seen)


def test_panels_say_together_what_one_says_alone() -> None:
    basis, rows = linear_gaussian(3, m=100)
    parts = [Rows(at, rows.values[at : at + 50], rows.seen[at : at + 50]) for at in (0, 50)]
    found = judge(parts, stages(basis, ridge=0.5, map=1.0), holdout=Holdout(2))
    hidden = np.vstack([Holdout(2).hidden(part) for part in parts])
    assert found.hidden == np.sum(hidden)
    assert not np.array_equal(hidden[:50], hidden[50:])
    again = judge(parts, stages(basis, ridge=0.5, map=1.0), holdout=Holdout(2))
    assert again == found


def test_rows_and_columns_with_nothing_seen_are_no_obstacle() -> None:
    basis, rows = linear_gaussian(4)
    seen = rows.seen.copy()
    seen[::3], seen[:, :40] = False, False
    rows = Rows(0, rows.values * seen, seen)
    verdict = judge([rows], stages(basis, ridge=1.0, map=1.0), holdout=Holdout(0))
    assert np.isfinite(verdict["map"].rmse)
    assert verdict.rows <= 80


def test_of_ten_rows_a_clear_difference_is_told_and_a_slight_one_is_not() -> None:
    basis, rows = linear_gaussian(5, m=10)
    assert judge([rows], stages(basis, ridge=1.0, network=1.05), holdout=Holdout(0)).choice == "ridge"
    assert judge([rows], stages(basis, ridge=1e-9, network=1.0), holdout=Holdout(0)).choice == "network"


def test_of_fewer_rows_than_tell_noise_the_cheapest_is_chosen() -> None:
    basis, rows = linear_gaussian(6, m=3)
    verdict = judge([rows], stages(basis, ridge=1e-9, map=1.0), holdout=Holdout(0))
    assert verdict.choice == "ridge"
    assert "Fewer than" in verdict.text


def test_where_nothing_was_seen_nothing_is_known() -> None:
    basis, rows = linear_gaussian(7)
    empty = rows.hide(np.ones(rows.seen.shape, dtype=bool))
    verdict = judge([empty], stages(basis, ridge=1.0, network=1.0), holdout=Holdout(0))
    assert (verdict.choice, verdict.table, verdict.hidden) == ("ridge", (), 0)
    assert "nothing is known" in verdict.text


def test_another_basis_is_judged_by_its_own_components() -> None:
    basis, rows = linear_gaussian(8)
    turned = replace(basis, V=np.linalg.qr(np.random.default_rng(0).normal(size=(N, R)))[0])
    candidates = [
        Candidate("ridge", turned, Ridge(basis.prior)),
        Candidate("adapt", basis, Ridge(basis.prior)),
    ]
    assert judge([rows], candidates, holdout=Holdout(0)).choice == "adapt"


def test_only_what_is_published_counts() -> None:
    basis, rows = linear_gaussian(9)
    short = replace(basis, V=basis.V[:, :2], s=basis.s[:2])
    wide = judge([rows], stages(basis, ridge=1.0), holdout=Holdout(0), components=2)["ridge"].rmse
    assert wide > judge([rows], stages(basis, ridge=1.0), holdout=Holdout(0))["ridge"].rmse
    assert wide == pytest.approx(
        judge([rows], stages(short, ridge=1.0), holdout=Holdout(0))["ridge"].rmse, rel=0.05
    )


def test_a_verdict_survives_json() -> None:
    basis, rows = linear_gaussian(10)
    verdict = judge([rows], stages(basis, ridge=0.1, map=1.0), holdout=Holdout(0))
    assert Verdict.from_dict(verdict.to_dict()) == verdict


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_single_gaps_hide_single_entries(share: float) -> None:
    random = np.random.default_rng(0)
    rows = rows_of(random.random((200, N)) < share)
    hidden = Holdout(3).hidden(rows)
    assert pattern_of(rows.seen) == "single"
    assert not np.any(hidden & ~rows.seen)
    assert np.sum(hidden) == pytest.approx(0.1 * np.sum(rows.seen), rel=0.2)


def test_gaps_in_blocks_hide_blocks() -> None:
    rows = rows_of(with_blocks(np.random.default_rng(1), 300, 40))
    hidden = Holdout(3).hidden(rows)
    assert pattern_of(rows.seen) == "blocks"
    assert not np.any(hidden & ~rows.seen)
    assert np.sum(hidden) == pytest.approx(0.1 * np.sum(rows.seen), rel=0.25)
    assert np.sum(hidden) / blocks_of(hidden) > 8
    assert np.all(np.sum(hidden, axis=1) <= np.sum(rows.seen, axis=1) / 3)


def test_columns_that_are_gaps_everywhere_hide_columns_everywhere() -> None:
    seen = np.tile(np.random.default_rng(2).random(N) < 0.4, (30, 1))
    first, second = (Holdout(3).hidden(rows_of(seen, start)) for start in (0, 30))
    assert pattern_of(seen) == "columns"
    assert np.array_equal(first, second)
    assert np.array_equal(np.any(first, axis=0), np.all(first, axis=0))
    assert 0 < np.sum(first[0]) < np.sum(seen[0])


def test_complete_rows_hide_single_entries() -> None:
    rows = rows_of(np.ones((50, N), dtype=bool))
    assert pattern_of(rows.seen) == "single"
    assert np.mean(Holdout(0).hidden(rows)) == pytest.approx(0.1, abs=0.01)


def test_one_row_is_hidden_from_too() -> None:
    rows = rows_of(np.arange(N)[None] % 2 == 0)
    assert 0 < np.sum(Holdout(1).hidden(rows)) < N / 4


def measured(basis: Basis, stage: Ridge, rows: Rows, values: np.ndarray) -> float:
    """RMSE on what was not seen."""
    found = np.asarray(stage.infer(observe(basis, rows)).mean) @ basis.V.T
    return float(np.sqrt(np.mean((found - values)[~rows.seen] ** 2)))


@pytest.mark.parametrize("unequal", [False, True])
def test_on_linear_gaussian_rows_nothing_beats_map_and_the_gate_says_so(unequal: bool) -> None:
    """The optimal linear estimator knows the law; `map` knows a sample of it. No column noise is alike."""
    random = np.random.default_rng(0)
    noise = np.exp(1.5 * random.normal(size=2 * N) * unequal)
    law = Basis(
        np.linalg.qr(random.normal(size=(2 * N, R)))[0], np.geomspace(20, 8, R), noise / noise.mean(), 1
    )

    def drawn(m: int) -> np.ndarray:
        z = random.normal(size=(m, R)) * law.s
        return np.asarray(z @ law.V.T + random.normal(size=(m, 2 * N)) * np.sqrt(law.noise))

    old, new = drawn(2000), drawn(400)
    basis = basis_of(old, 2 * R)
    mask = random.random(new.shape) < 0.2
    rows = Rows(0, new * mask, mask)
    even = replace(basis, noise=np.full(basis.n, np.mean(basis.noise)))
    optimum = measured(law, Ridge(law.s**2), rows, new)
    assert measured(basis, fit_prior(basis, [rows]).stage, rows, new) < 1.01 * optimum
    assert (measured(even, Ridge(even.prior), rows, new) > 1.05 * optimum) == unequal

    holdout = Holdout(0)
    estimate = fit_prior(basis, [rows.hide(holdout.hidden(rows))]).stage
    off = Ridge(basis.prior * np.exp(0.05 * random.normal(size=2 * R)))
    ways = {"ridge": Ridge(basis.prior), "map": estimate, "network": off}
    verdict = judge([rows], [Candidate(name, basis, way) for name, way in ways.items()], holdout=holdout)
    assert verdict.choice in ("ridge", "map")
    assert "The network did not help" in verdict.text


def basis_of(rows: np.ndarray, r: int) -> Basis:
    """The teacher's, by LAPACK."""
    _, s, Vt = np.linalg.svd(rows, full_matrices=False)
    left = np.mean(rows**2, axis=0) - np.sum((s[:r, None] * Vt[:r]) ** 2, axis=0) / len(rows)
    return Basis(Vt[:r].T, s[:r], Basis.floored(left, s[:r], len(rows)), len(rows))
