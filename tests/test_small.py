"""Small matrices: what a run costs besides its arithmetic, by counts, which do not hang on the machine."""

from __future__ import annotations

import gc
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zarr

import bigsvd
from bigsvd.planning.plan import Plan
from bigsvd.scratch import HeldScratch, Scratch
from tests.spectra import with_values

K = 10
NOISE = np.random.default_rng(0).standard_normal((2000, 300))


@dataclass
class Taken:
    """What a run has taken: orders of its eigenproblems, and how often each of the other things."""

    orders: list[int] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)


def counted(taken: Taken, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*arguments: Any, **options: Any) -> Any:
        taken.times[name] += 1
        return function(*arguments, **options)

    return counting


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    found, eigh = Taken(), np.linalg.eigh

    def noted(G: np.ndarray, *arguments: Any) -> Any:
        found.orders.append(len(G))
        return eigh(G, *arguments)

    monkeypatch.setattr(np.linalg, "eigh", noted)
    for place in (
        "bigsvd.nodes._write_chunk",
        "bigsvd.nodes._write_metadata",
        "bigsvd.scratch.group_metadata",
        "zarr.open_array",
    ):
        folder, _, name = place.rpartition(".")
        original = getattr(__import__(folder, fromlist=[name]), name)
        monkeypatch.setattr(place, counted(found, name.strip("_"), original))
    return found


def check(factors: bigsvd.Factors, A: np.ndarray, passes: int, method: str) -> None:
    costs = factors.provenance["costs"]
    assert (costs["method"], costs["passes"]) == (method, passes)
    assert factors.certificate.converged
    exact = np.linalg.svd(A, compute_uv=False)[: factors.k]
    np.testing.assert_allclose(factors.s, exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "method", "passes"),
    [
        ((2000, 300), "gram", 2),
        ((500, 5000), "gram", 2),
        ((10000, 100), "gram", 2),
        ((200, 50), "krylov", 1),  # a block spans all columns
    ],
)
def test_a_small_matrix_in_memory_takes_one_eigenproblem_of_its_size(
    taken: Taken, shape: tuple[int, int], method: str, passes: int
) -> None:
    A = NOISE if shape == NOISE.shape else np.random.default_rng(0).standard_normal(shape)
    factors = bigsvd.svd(A, K)
    large = [order for order in taken.orders if order > 2 * (K + 10)]
    assert len(large) <= (1 if method == "gram" else 4)
    assert taken.times["write_chunk"] <= 4  # of the factors themselves
    assert taken.times["write_metadata"] + taken.times["group_metadata"] <= 6
    assert taken.times["open_array"] == 3
    check(factors, A, passes, method)


@pytest.mark.parametrize("options", [{}, {"center": True, "scale": True}, {"stop": "error"}], ids=str)
def test_a_small_store_takes_two_passes_too(tmp_path: Path, taken: Taken, options: dict[str, Any]) -> None:
    zarr.create_array(tmp_path / "a", data=NOISE + 1, chunks=(200, 300))
    factors = bigsvd.svd(tmp_path / "a", K, tmp_path / "u", **options)
    A = NOISE + 1 - (NOISE + 1).mean(axis=0) * ("center" in options)
    A /= A.std(axis=0) if "scale" in options else 1.0
    assert len([order for order in taken.orders if order > 2 * (K + 10)]) == 1
    check(factors, A, 2, "gram")


def test_a_rank_rule_is_followed_from_the_gram_matrix() -> None:
    strong = with_values(np.random.default_rng(1), np.array([500.0, 400.0, 300.0]), *NOISE.shape)
    factors = bigsvd.svd(NOISE + strong, "auto")
    assert factors.k == 3
    check(factors, NOISE + strong, 2, "gram")


@pytest.mark.parametrize("span", [6, 12, 300])
def test_a_steep_spectrum_is_as_exact_as_certified(span: int) -> None:
    """The Gram matrix squares it: where that hides values, further passes find them or the rank is lower."""
    sigma = 10.0 ** -np.linspace(0, span, 300)
    A = with_values(np.random.default_rng(2), sigma, *NOISE.shape)
    told: Any = pytest.warns(UserWarning, match="numerical rank") if span == 300 else nullcontext()
    with told:
        factors = bigsvd.svd(A, 20)
    U, V = np.asarray(factors.U[:]), np.asarray(factors.Vt[:]).T
    residuals = np.maximum(
        np.linalg.norm(A @ V - U * factors.s, axis=0), np.linalg.norm(A.T @ U - V * factors.s, axis=0)
    )
    promised = np.array(factors.certificate.residuals)
    assert np.all(residuals / factors.s <= 1.05 * promised + 1e-12 * factors.s[0] / factors.s)
    assert factors.k == 20 if span < 300 else 12 <= factors.k < 20


def test_many_runs_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    A, process = NOISE[:200, :70], psutil.Process()

    def held() -> tuple[int, int]:
        gc.collect()
        return process.num_fds(), threading.active_count()

    for _ in range(3):
        bigsvd.svd(A, 3)
    before, grown = held(), process.memory_info().rss
    for _ in range(30):
        bigsvd.svd(A, 3)
    assert list(tmp_path.iterdir()) == []
    for now, then in zip(held(), before, strict=True):
        assert now < then + 10  # clusters of other tests may come and go
    assert process.memory_info().rss - grown < 2**23  # 30 matrices and their scratch would be 8 MiB


def test_scratch_held_in_memory_is_a_term_of_the_plan(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held: list[int] = []
    of = HeldScratch.of

    def noted(scratch: Scratch, most: int) -> HeldScratch:
        held.append(most)
        return of(scratch, most)

    monkeypatch.setattr(HeldScratch, "of", noted)
    roomy = Plan.from_dict(bigsvd.svd(NOISE, K).provenance["plan"])
    least = roomy.memory_bytes - roomy.memory["scratch held in memory"]
    tight = Plan.from_dict(bigsvd.svd(NOISE, K, memory=least).provenance["plan"])
    stored = Plan.from_dict(bigsvd.svd(NOISE, K, tmp_path / "u").provenance["plan"])
    assert held == [roomy.held_scratch_bytes, tight.held_scratch_bytes]
    assert roomy.held_scratch_bytes == roomy.memory["scratch held in memory"] == 2**24
    assert tight.memory_bytes <= tight.budget_bytes
    assert tight.held_scratch_bytes < 2**20
    assert stored.held_scratch_bytes == 0
