"""`map` on data whose best estimator is known: linear-Gaussian, with equal and with unequal noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest

from bigsvd.distill.basis import Basis
from bigsvd.distill.holds import HOLDS
from bigsvd.distill.observed import observe
from bigsvd.distill.prior import Reestimate, first_of_best, fit_prior, rows_needed
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows

N, R, M, NEW = 80, 8, 4000, 600


@dataclass(frozen=True)
class Law:
    """x = V·z + e with known variances, and what was drawn of it: a teacher and new rows with gaps.

    Attributes:
        seed: of all. unequal: how far the noise of columns differs (a power of 10).
        stretch: by what the new rows' coordinates are larger than the teacher's, (r,).

    """

    seed: int
    unequal: float = 0.7
    stretch: tuple[float, ...] = (1.0,) * R

    @cached_property
    def truth(self) -> Basis:
        random = np.random.default_rng(self.seed)
        V = np.linalg.qr(random.standard_normal((N, R)))[0]
        noise = 10.0 ** random.uniform(-self.unequal, self.unequal, N)
        variances = np.geomspace(300, 20, R) + noise @ V**2
        return Basis(V, np.sqrt(M * variances), noise, M)

    def drawn(self, count: int, seed: int, stretch: np.ndarray) -> np.ndarray:
        random = np.random.default_rng((self.seed, seed))
        z = random.standard_normal((count, R)) * np.sqrt(self.truth.prior) * stretch
        noise = random.standard_normal((count, N)) * np.sqrt(self.truth.noise)
        return np.asarray(z @ self.truth.V.T + noise)

    @cached_property
    def teacher(self) -> Basis:
        A = self.drawn(M, 1, np.ones(R))
        _, s, Vt = np.linalg.svd(A, full_matrices=False)
        left = np.mean((A - A @ Vt[:R].T @ Vt[:R]) ** 2, axis=0)
        return Basis(Vt[:R].T, s[:R], Basis.floored(left, s[:R], M), M)

    @cached_property
    def new(self) -> tuple[np.ndarray, Rows]:
        """Complete rows, and the same with gaps."""
        x = self.drawn(NEW, 2, np.array(self.stretch))
        seen = np.random.default_rng((self.seed, 3)).random(x.shape) < 0.25
        return x, Rows(0, x * seen, seen)

    @cached_property
    def best(self) -> float:
        """RMSE of the optimal linear estimator, which knows the law."""
        return self.error(self.truth, Ridge(self.truth.prior * np.array(self.stretch) ** 2))

    def error(self, basis: Basis, stage: Ridge) -> float:
        """RMSE on what was not seen."""
        x, rows = self.new
        z = stage.infer(observe(basis, rows)).mean
        return float(np.sqrt(np.mean((x - z @ basis.V.T)[~rows.seen] ** 2)))


def isotropic(basis: Basis) -> Basis:
    return replace(basis, noise=np.full(N, np.mean(basis.noise)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("unequal", [0.0, 0.7])
def test_map_is_within_a_hundredth_of_the_best_there_is(seed: int, unequal: float) -> None:
    law = Law(seed, unequal)
    found = fit_prior(law.teacher, [law.new[1]], seed)
    assert law.best < law.error(law.teacher, found.stage) < 1.01 * law.best
    assert found.hold is HOLDS[0]  # what is not otherwise is not estimated otherwise


@pytest.mark.parametrize("seed", range(3))
def test_one_noise_for_all_columns_is_worse_where_it_is_not_so(seed: int) -> None:
    law = Law(seed)
    basis = isotropic(law.teacher)
    assert law.error(basis, Ridge(basis.prior)) > 1.05 * law.best


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("stretch", [(0.4,) * R, (2.5,) * R, tuple(np.geomspace(2.5, 0.4, R).tolist())])
def test_map_follows_data_that_vary_otherwise(seed: int, stretch: tuple[float, ...]) -> None:
    law = Law(seed, 0.7, stretch)
    ridge = law.error(law.teacher, Ridge(law.teacher.prior))
    found = fit_prior(law.teacher, [law.new[1]], seed)
    assert law.error(law.teacher, found.stage) < min(ridge, 1.02 * law.best)
    variances = np.diag(
        law.teacher.V.T @ law.truth.V @ np.diag(law.truth.prior) @ law.truth.V.T @ law.teacher.V
    )
    np.testing.assert_allclose(np.diag(found.prior), variances * np.array(stretch) ** 2, rtol=0.35)


def test_where_nothing_was_seen_the_prior_stays() -> None:
    law = Law(0)
    nothing = law.new[1].hide(np.ones((NEW, N), dtype=bool))
    found = fit_prior(law.teacher, [nothing])
    np.testing.assert_allclose(found.prior, np.diag(law.teacher.prior), rtol=1e-12)
    assert found.hold is HOLDS[0]
    assert set(found.errors.values()) == {0.0}
    assert found.stage.name == "map"


def test_it_is_the_same_again_and_knows_few_rows_of_each_panel() -> None:
    law = Law(1)
    rows = law.new[1]
    parts = [
        Rows(start, rows.values[start : start + 300], rows.seen[start : start + 300]) for start in (0, 300)
    ]
    once, again = fit_prior(law.teacher, parts, 3), fit_prior(law.teacher, parts, 3)
    assert isinstance(once, Reestimate)
    np.testing.assert_array_equal(once.prior, again.prior)
    assert once.errors == again.errors != fit_prior(law.teacher, parts, 4).errors
    assert [rows_needed(r) for r in (8, 64, 300)] == [1024, 384, 384]


@pytest.mark.parametrize(("stretch", "better"), [(1.0, 0), (5.0, 1)])
def test_of_alike_stages_the_first_answers_and_else_the_better(stretch: float, better: int) -> None:
    law = Law(3, stretch=(stretch,) * R)
    stages = [Ridge(law.teacher.prior * scale) for scale in (1.0, 25.0)]
    assert first_of_best(stages, law.teacher, [law.new[1]]) is stages[better]


def test_a_teacher_that_left_no_noise_gives_a_prior_all_the_same() -> None:
    random = np.random.default_rng(5)
    A = random.standard_normal((25, N))
    _, s, Vt = np.linalg.svd(A - A.mean(axis=0), full_matrices=False)
    basis = Basis(Vt[:24].T, s[:24], Basis.floored(np.zeros(N), s, 25), 25)  # no more than it has of its own
    x, seen = random.standard_normal((300, N)), random.random((300, N)) < 0.4
    found = fit_prior(basis, [Rows(0, x * seen, seen)])
    assert np.all(np.linalg.eigvalsh(found.prior) > 0)
    assert np.all(np.isfinite(found.stage.infer(observe(basis, Rows(0, x * seen, seen))).mean))
