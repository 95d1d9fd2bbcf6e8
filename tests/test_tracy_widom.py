"""The law of Tracy & Widom, and the test of genotypes' components by it, also in the rank table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.methods.fourth import fourth_powers
from bigsvd.report.table import format_table
from bigsvd.results import tracy_widom
from bigsvd.results.rank import Spectrum
from bigsvd.results.tracy_widom import Moments, airy, upper_tail
from tests.populations import drawn, standardised


@pytest.mark.parametrize(
    ("x", "p"),
    # Quantiles of Bejan 2005, table 1; the probability at 0 is of Prähofer & Spohn's tables.
    [(-3.1808, 0.95), (-2.7824, 0.90), (0.4501, 0.10), (0.9793, 0.05), (2.0234, 0.01), (3.2724, 0.001)],
)
def test_known_quantiles(x: float, p: float) -> None:
    assert upper_tail(x) == pytest.approx(p, rel=2e-3, abs=2e-5)


def test_the_tail_is_that_of_its_first_term() -> None:
    """1 − F₁(x) ≈ ½∫Ai from x on, which is exp(−⅔x^1.5)/(4√π·x^¾) far out."""
    for x in (20.0, 50.0):
        first = math.exp(-2 / 3 * x**1.5) / (4 * math.sqrt(math.pi) * x**0.75)
        assert upper_tail(x) == pytest.approx(first, rel=0.02)
    assert upper_tail(-12.0) == 1.0
    assert upper_tail(1e4) == 0.0


def test_the_function_of_airy() -> None:
    """Values of Abramowitz & Stegun, table 10.11."""
    found = airy(np.array([-10.0, -1.0, 0.0, 1.0, 10.0]))
    wanted = [0.0402412385, 0.535560883, 0.355028054, 0.135292416, 1.10475326e-10]
    np.testing.assert_allclose(found, wanted, rtol=5e-9)


def test_fourth_powers_are_estimated_to_a_few_per_cent_of_what_is_uneven() -> None:
    random = np.random.default_rng(0)
    B = random.standard_normal((3000, 150)) * np.sqrt(np.linspace(0.5, 1.5, 150))
    B[:, :2] *= 4
    H = B.T @ B
    K = np.linalg.qr(H @ random.standard_normal((150, 8)))[0]
    W = random.standard_normal((150, 10))
    squares, exact = float(np.sum(B**2)), float(np.sum(H**2))
    found, error = fourth_powers(K, H @ K, W, H @ W, squares)
    even = squares**2 / 150
    assert abs(found - exact) < 4 * error < 0.1 * (exact - even)
    whole = np.linalg.qr(random.standard_normal((150, 150)))[0]
    assert fourth_powers(whole, H @ whole, W, H @ W, squares) == pytest.approx((exact, 0.0))


def test_it_is_exact_where_the_gram_matrix_is_summed() -> None:
    """And estimated within its standard error by the other method; both know the statistics of each other."""
    genotypes = drawn((200, 200), 1500, fst=0.05)
    X = standardised(genotypes, 1.0)
    s = np.linalg.svd(X, compute_uv=False)
    exact = float(np.sum(s**4) / np.sum(s**2) ** 2)
    of = {}
    for method in ("gram", "krylov"):
        options: dict[str, Any] = {
            "samples": "columns", "center": True, "scale": "patterson", "method": method,
        }  # fmt: skip
        factors = bigsvd.svd(genotypes, 2, tol=1e-2, **options)
        audit, of[method] = factors.certificate.audit, factors.spectrum().tests
        assert audit is not None
        assert audit.fourth == pytest.approx(exact, abs=4 * audit.fourth_error + 1e-6 * exact)
        assert (audit.fourth_error > 0) == (method == "krylov")
    for by_gram, by_krylov in zip(of["gram"] or (), of["krylov"] or (), strict=True):
        assert by_gram.error == 0
        assert abs(by_gram.statistic - by_krylov.statistic) < 4 * by_krylov.error


def test_noise_is_told_from_populations() -> None:
    """Two populations differ in one direction; of noise the statistic has the mean of its law, −1.2065."""
    first, second = [], []
    for seed in range(4):
        factors = bigsvd.svd(
            drawn((40, 40), 3000, fst=0.02, seed=seed), 4, samples="columns", center=True, scale="patterson"
        )
        tests = factors.spectrum().tests
        assert tests is not None
        first.append(tests[0].p_value)
        second.append(tests[1].statistic)
    assert max(first) < 1e-6
    assert abs(np.mean(second) + 1.2065) < 1.5


def test_the_effective_number_of_variants_is_their_number_where_they_are_independent() -> None:
    random = np.random.default_rng(1)
    B = random.standard_normal((100, 2000))
    B -= B.mean(axis=0)
    s = np.linalg.svd(B, compute_uv=False)
    test = tracy_widom.tested(
        s[:3], float(np.linalg.norm(s)), Moments(float(np.sum(s**4) / np.sum(s**2) ** 2), 0.0, 99)
    )[0]
    assert test.effective == pytest.approx(2000, rel=0.05)
    assert -4 < test.statistic < 2


def test_the_table_shows_it_of_genotypes_alone(tmp_path: Path) -> None:
    genotypes = drawn((30, 30), 500, fst=0.05)
    options: dict[str, Any] = {"samples": "columns", "center": True}
    for scale, shown in (("binom2", True), (True, False)):
        factors = bigsvd.svd(genotypes, 3, f"{tmp_path}/{scale}", scale=scale, **options)
        ended = CliRunner().invoke(main, ["rank", f"{tmp_path}/{scale}"])
        assert ended.exit_code == 0
        assert ("Tracy-Widom" in ended.output) == shown
        assert ("p-value" in ended.output) == shown
    told = json.loads(CliRunner().invoke(main, ["rank", f"{tmp_path}/binom2", "--json"]).output)
    spectrum = bigsvd.open(f"{tmp_path}/binom2").spectrum()
    assert spectrum.tests is not None
    assert told["tracy_widom"] == [test.to_dict() for test in spectrum.tests]
    again = Spectrum.from_dict(json.loads(json.dumps(spectrum.to_dict())))
    assert again.tests == spectrum.tests
    assert format_table(again, ()) == format_table(spectrum, ())
    few = bigsvd.open(f"{tmp_path}/binom2").truncate(2).spectrum().tests
    assert few == spectrum.tests[:2]
    assert factors.spectrum().tests is None


def test_what_no_noise_can_be_is_not_tested() -> None:
    """All values alike, or nothing left: there is no number of variants that has such a spectrum."""
    even = tracy_widom.tested(np.ones(2), math.sqrt(10), Moments(0.1, 0.0, 10))[0]
    assert math.isnan(even.p_value)
    assert even.to_dict() == dict.fromkeys(("statistic", "p_value", "error", "effective"))
    assert all(
        math.isnan(test.p_value) for test in tracy_widom.tested(np.zeros(2), 0.0, Moments(0.0, 0.0, 10))
    )
