"""k by a rule: that of LAPACK's values in float64, and that of the finished store's own table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bigsvd
from bigsvd.methods.choosing import RankByRule
from bigsvd.results.rank import Rule, Spectrum
from tests.spectra import with_values

N = 150
SPECTRA = {
    "slow": np.arange(1, N + 1) ** -0.5,
    "clustered": np.repeat([10.0, 5.0, 1.0], [4, 8, N - 12]),
    "geometric": 10.0 ** (-14 * np.arange(N) / (N - 1)),
    "deficient": np.linspace(5, 1, 6),
}


def rule_of_lapack(A: np.ndarray, rule: Rule) -> int | None:
    s = np.linalg.svd(A.astype(np.float64), compute_uv=False)
    return rule.choose(Spectrum(s, float(np.linalg.norm(s)), (A.shape[0], A.shape[1]), A.nbytes, 8)).k


@pytest.mark.parametrize("rule", [{"error": 0.1}, {"error": 3e-4}, {"error": 1e-8}, {"energy": 0.9}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_k_is_the_least_that_lapack_has(spectrum: str, dtype: str, rule: dict[str, Any]) -> None:
    A = with_values(np.random.default_rng(0), SPECTRA[spectrum], 400, N).astype(dtype)
    factors = bigsvd.svd(A, "auto", **rule)
    assert factors.certificate.converged
    assert factors.k == rule_of_lapack(A, Rule(**rule)) == Rule(**rule).choose(factors.spectrum()).k


def test_smooth_float32_data_near_its_precision() -> None:
    g = np.random.default_rng(0)
    A = (g.standard_normal((1500, 12)) * 10.0 ** -np.arange(12.0)) @ g.standard_normal((12, 600))
    A = (A + 1e-5 * g.standard_normal(A.shape)).astype("f4")
    for error in (1e-3, 1e-4):
        factors = bigsvd.svd(A, "auto", error=error)
        assert factors.k == rule_of_lapack(A, Rule(error=error))


def test_more_values_than_the_plan_holds_is_said_with_what_would_do() -> None:
    A = with_values(np.random.default_rng(0), np.arange(1, 1001) ** -0.5, 1000, 1000).astype("f4")
    with pytest.warns(
        UserWarning, match=r"the rank rule was not met .* about [0-9]+ singular.*ask for k=[0-9]+"
    ):
        factors = bigsvd.svd(A, "auto", error=0.1)
    assert factors.certificate.shortfall is not None
    assert "passes" not in factors.certificate.shortfall


def test_a_rule_that_the_formed_factors_do_not_meet_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no further value stands above rounding, so that no more of them can be formed."""
    A = with_values(np.random.default_rng(0), np.repeat([1.0, 1e-12], [3, 37]), 90, 40)
    assert bigsvd.svd(A, "auto", energy=0.9).certificate.converged
    monkeypatch.setattr(RankByRule, "refit", lambda *_args, **_options: None)
    with pytest.warns(UserWarning, match="the rank rule was not met .* ask for less energy"):
        factors = bigsvd.svd(A, "auto", energy=0.9)
    assert not factors.certificate.converged
