"""Left Ritz triplets lie between the right ones and the truth, and what is said of them holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bigsvd
from benchmarks import left as benchmark
from benchmarks.__main__ import main
from bigsvd.events import unheard
from bigsvd.methods.left import LeftRitz, Outside, left_ritz
from bigsvd.methods.subspace import Ritz, Subspace
from bigsvd.results.certificate import Certificate
from bigsvd.sources.open import open_source
from bigsvd.verify import verify
from tests.spectra import FAMILIES, with_values

M, N, K = 240, 90, 7
SPECTRA = ("flat", "clustered", "sorted_rows", "noise")


def subspace_of(A: np.ndarray, width: int, steps: int) -> tuple[Subspace, Ritz]:
    """A block Krylov subspace of exact products, as so many passes leave it."""
    space = Subspace(A.shape[1], steps * width)
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((A.shape[1], width)))[0]
    for _ in range(steps):
        Q = np.linalg.qr(Q - space.K @ (space.K.T @ Q))[0]
        Q = np.linalg.qr(Q - space.K @ (space.K.T @ Q))[0]
        space.append(Q, A.T @ (A @ Q))
        Q = space.Z[:, -width:]
    return space, space.ritz(space.width)


def outside_of(A: np.ndarray, space: Subspace, ritz: Ritz, seen: float = 0.0) -> Outside:
    energy = float(np.linalg.norm(A) ** 2 - np.sum(ritz.theta))
    return Outside(max(0.0, energy), 1e-14 * float(np.linalg.norm(A)) ** 2, seen, 0.0)


@pytest.mark.parametrize("family", SPECTRA)
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("count", [K, 15])
def test_values_lie_between_the_right_ones_and_the_true(family: str, steps: int, count: int) -> None:
    A = FAMILIES[family](np.random.default_rng(0), M, N)
    space, ritz = subspace_of(A, 15, steps)
    found = LeftRitz.of(ritz, outside_of(A, space, ritz), count)
    s = np.linalg.svd(A, compute_uv=False)
    assert np.all(found.sigma[:count] ** 2 >= ritz.theta[:count] * (1 - 1e-12))
    assert np.all(found.sigma[:count] <= s[:count] * (1 + 1e-12))
    U = A @ (space.K @ found.coordinates(count))
    np.testing.assert_allclose(U.T @ U, np.eye(count), atol=1e-9)
    V = A.T @ U / found.sigma[:count]
    np.testing.assert_allclose(V.T @ V, np.eye(count), atol=1e-9)
    lost = np.linalg.norm(V - space.K @ (space.K.T @ V), axis=0)
    np.testing.assert_allclose(found.lost, lost, atol=1e-9)
    np.testing.assert_allclose(space.K @ found.dual(count), V * found.sigma[:count] - (
        V - space.K @ (space.K.T @ V)
    ) * found.sigma[:count], atol=1e-8 * s[0])  # fmt: skip


@pytest.mark.parametrize("family", SPECTRA)
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("enough", [1e-8, 0.5])
def test_residuals_are_within_their_bound(family: str, steps: int, enough: float) -> None:
    """With τ proved where the truth outside the basis is above σₖ, as the probes would tell, else audited."""
    A = FAMILIES[family](np.random.default_rng(0), M, N)
    space, ritz = subspace_of(A, 15, steps)
    rest = A - (A @ space.K) @ space.K.T
    found = left_ritz(ritz, 15, K, outside_of(A, space, ritz, float(np.linalg.norm(rest, 2))), enough)
    U = A @ (space.K @ found.coordinates(K))
    V = A.T @ U / found.sigma[:K]
    measured = np.linalg.norm(A @ V - U * found.sigma[:K], axis=0) / found.sigma[:K]
    assert np.all(measured <= found.residuals(K)[:K] * (1 + 1e-6) + 1e-10)


def test_a_bound_says_whether_it_is_proved() -> None:
    A = with_values(np.random.default_rng(0), np.arange(1, N + 1) ** -0.5, M, N)
    space, ritz = subspace_of(A, 15, 2)
    s = np.linalg.svd(A, compute_uv=False)
    quiet = LeftRitz.of(ritz, outside_of(A, space, ritz), 15)
    norms, proved = quiet.bounds(K)
    assert not proved[:K].any()
    np.testing.assert_allclose(norms[:K], quiet.sigma[K - 1])
    hidden = LeftRitz.of(ritz, outside_of(A, space, ritz, seen=1.2 * s[0]), 15)
    norms, proved = hidden.bounds(K)
    assert proved.all()
    assert np.all(norms > quiet.sigma[0] / 4)
    unheard_of = LeftRitz.of(ritz, Outside(0.0, 0.0, 0.0, s[0] ** 2), 15)
    assert unheard_of.bounds(K)[1].all()  # nothing is left outside, whatever the probes can show


def test_where_a_flat_spectrum_mixes_all_vectors_only_the_wanted_are() -> None:
    A = FAMILIES["flat"](np.random.default_rng(0), M, N)
    space, ritz = subspace_of(A, 15, 2)
    outside = outside_of(A, space, ritz)
    strict, lax = (left_ritz(ritz, 15, K, outside, enough) for enough in (1e-8, 1.0))
    assert (strict.count, lax.count) == (K, 15)
    assert np.sum(lax.sigma[:K]) >= np.sum(strict.sigma[:K])
    assert np.max(strict.residuals(K)[:K]) <= 1.5 * np.max(ritz.residuals[:K])


def test_growth_is_estimated_from_what_probes_saw() -> None:
    A = with_values(np.random.default_rng(0), np.arange(1, N + 1) ** -1.0, M, N)
    space, ritz = subspace_of(A, 15, 2)
    rest = A - (A @ space.K) @ space.K.T
    outside = outside_of(A, space, ritz, float(np.linalg.norm(rest, 2)))
    found = LeftRitz.of(ritz, outside, 15)
    s = np.linalg.svd(A, compute_uv=False)
    missing = np.sum(s[:K] ** 2) - np.sum(found.sigma[:K] ** 2)
    estimated = np.sum(found.sigma[:K] ** 2 * found.growth(K)[:K])
    bounded = np.sum(found.sigma[:K] ** 2 * found.residuals(K)[:K])
    assert missing <= estimated < bounded


def test_a_widened_one_has_the_more_vectors() -> None:
    A = FAMILIES["noise"](np.random.default_rng(0), M, N)
    space, ritz = subspace_of(A, 15, 1)
    found = LeftRitz.of(ritz, outside_of(A, space, ritz), K)
    assert found.widened(K) is found
    assert found.widened(K + 3).coordinates(K + 3).shape == (15, K + 3)


def test_one_read_suffices_for_the_error_of_a_slow_decay() -> None:
    sigma = np.arange(1, 301) ** -0.5
    A = with_values(np.random.default_rng(0), sigma, 6_000, 300).astype(np.float32)
    factors = bigsvd.svd(A, 12, method="krylov", stop="error", tol=1e-3)
    s = np.linalg.svd(A.astype(np.float64), compute_uv=False)
    best = np.sqrt(np.sum(s[12:] ** 2) / np.sum(s**2))
    c = factors.certificate
    assert c.converged
    assert 0 <= c.relative_error - best <= 1e-3
    assert c.basis == "left"
    assert factors.provenance["costs"]["passes"] <= 2.4


def test_a_certificate_tells_in_words_that_it_is_audited() -> None:
    A = with_values(np.random.default_rng(0), np.arange(1, 301) ** -0.5, 2_000, 300).astype(np.float32)
    c = bigsvd.svd(A, 12, method="krylov").certificate
    assert c.audited
    first, residual, *_ = str(c).splitlines()
    assert first.endswith("of a true one, if nothing above sigma_k was missed, as the audit says")
    assert residual.endswith("(tol 0.01 on residual, audited)")
    proved = str(replace(c, audited=False))
    assert "nothing above sigma_k was missed" not in proved
    assert "audited" not in proved
    values: dict[str, Any] = json.loads(json.dumps(c.to_dict()))
    assert Certificate.from_dict(values) == c
    del values["audited"]
    assert not Certificate.from_dict(values).audited  # a store of before


def test_verify_contradicts_no_random_certificate() -> None:
    """A short lane of `benchmarks left`, which looks at 2,000."""
    rng = np.random.default_rng(5)
    looked = [benchmark.look_at(benchmark.draw(rng, number)) for number in range(45)]
    assert [row for row in looked if row["findings"]] == []
    assert sum(row["basis"] == "left" for row in looked) > 20
    assert sum(row["audited"] for row in looked) > 3


def test_in_a_wide_flat_bulk_an_audited_bound_holds() -> None:
    """Ten probes see little of two thousand values that are nearly alike: less than σₖ, which is taken."""
    case = next(case for case in benchmark.bulks(0) if case.options["max_passes"] == 2)
    factors = benchmark.decompose(A := benchmark.matrix_of(case), case.k, **case.options)
    c, outcome = factors.certificate, verify(factors, open_source(A), unheard)
    assert c.audited
    assert outcome.findings == ()
    assert outcome.max_residual is not None
    assert 0.5 * c.max_residual <= outcome.max_residual <= c.max_residual


def test_a_false_certificate_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = benchmark.Case("slow", (90, 60), "float64", 4, {"method": "krylov", "center": False}, 3)
    assert benchmark.look_at(case)["findings"] == []
    other = benchmark.matrix_of(case) * 1.01
    monkeypatch.setattr(benchmark, "open_source", lambda _: bigsvd.sources.open.open_source(other))
    assert benchmark.look_at(case)["findings"]


def test_the_command_writes_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SIZE", 120)
    monkeypatch.setattr(benchmark, "BULK_SHAPE", (260, 200))
    monkeypatch.setitem(main.commands["left"].callback.__globals__["LEFT_CASES"], "tiny", 9)  # type: ignore[union-attr]
    ended = CliRunner().invoke(main, ["left", "--out", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    results = json.loads((tmp_path / "left-tiny.json").read_text(encoding="utf-8"))
    assert len(results["nine"]) == 9
    for row in results["nine"]:
        assert row["reads"][0]["excess"] >= -1e-9
        assert row["reads"][1]["excess"] <= row["reads"][0]["excess"] + 1e-9
        assert row["reads"][0]["certified"] == pytest.approx(row["reads"][0]["excess"], abs=1e-6, rel=1e-3)
    assert "contradicts 0 of 13" in (tmp_path / "left-tiny.md").read_text(encoding="utf-8")
