"""What the spectrum of a sample tells of a run: its passes, and the method that it goes on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigsvd
from bigsvd.events import Event, PlanMade, PlanRevised
from bigsvd.execution import placement
from bigsvd.execution.placement import nominal_plan
from bigsvd.planning.outlook import Seen, bulk_values, full_spectrum, outlook, revised
from bigsvd.planning.plan import Plan
from bigsvd.scratch import Scratch
from bigsvd.solve import make_request, run
from bigsvd.sources.open import open_source
from tests.spectra import with_values
from tests.test_signal import spiked, stored


def seen_of(A: np.ndarray, plan: Plan) -> Seen:
    """What the sample of a plan shows, computed by LAPACK."""
    rows = np.concatenate([np.arange(*plan.panel(panel)) for panel in plan.sample])
    S = A[rows].T @ A[rows] * (plan.rows / rows.size)
    theta = np.maximum(np.linalg.eigvalsh(S)[::-1], 0.0)
    return Seen(theta[: 2 * plan.narrow], float(np.trace(S)), rows.size)


@pytest.mark.parametrize("shape", [(3000, 300), (300, 3000), (500, 500)])
def test_the_bulk_is_that_of_a_random_matrix(shape: tuple[int, int]) -> None:
    A = np.random.default_rng(0).standard_normal(shape) / max(shape) ** 0.5
    values = np.linalg.svd(A, compute_uv=False) ** 2
    np.testing.assert_allclose(bulk_values(min(shape), shape), values, atol=0.08)


def test_what_a_sample_lifts_is_put_back() -> None:
    """Of a tenth of the rows the bulk ends at 4, of all at 1.7; components come out as all rows have them."""
    A = spiked((6000, 600), [20, 8, 4], 0)
    S = A[:600].T @ A[:600] * 10
    theta = np.linalg.eigvalsh(S)[::-1]
    values, signal = full_spectrum(Seen(theta[:100], float(np.trace(S)), 600), A.shape)
    exact = np.linalg.svd(A, compute_uv=False) ** 2
    assert signal == 3
    assert theta[3] > 2 * exact[3]
    np.testing.assert_allclose(values[:3], exact[:3], rtol=0.15)
    np.testing.assert_allclose(values[3:200], exact[3:200], rtol=0.05)
    assert values.sum() == pytest.approx(np.trace(S))


def test_a_sample_of_an_exact_low_rank_has_no_bulk() -> None:
    A = with_values(np.random.default_rng(0), np.array([5.0, 3.0, 2.0]), 900, 200)
    S = A.T @ A
    theta = np.maximum(np.linalg.eigvalsh(S)[::-1], 0.0)
    values, signal = full_spectrum(Seen(theta[:80], float(np.trace(S)), 900), A.shape)
    assert signal >= 3
    np.testing.assert_allclose(values[:3], [25, 9, 4], rtol=1e-6)
    np.testing.assert_allclose(values[3:], 0, atol=1e-6)


# Made where they are wanted: every process of the tests imports this file.
MATRICES: dict[str, Callable[[], np.ndarray]] = {
    "noise": lambda: spiked((3000, 500), [], 0),
    "spiked": lambda: spiked((3000, 500), [30, 20, 10], 0),
    "slow": lambda: with_values(np.random.default_rng(0), np.arange(1, 501) ** -0.5, 3000, 500),
    "slower": lambda: with_values(np.random.default_rng(0), np.arange(1, 501) ** -0.25, 3000, 500),
    "fast": lambda: with_values(np.random.default_rng(0), 0.9 ** np.arange(500.0), 3000, 500),
}


@cache
def flat() -> np.ndarray:
    """A Gram matrix of so many columns costs less than its passes, and more than those of a steep one."""
    return spiked((3000, 800), [30, 20, 10], 0)


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
@pytest.mark.parametrize("name", MATRICES)
def test_the_passes_are_foretold_to_half_as_many_again(name: str, tol: float) -> None:
    seen: list[Event] = []
    factors = bigsvd.svd(stored(MATRICES[name]()), 10, method="krylov", tol=tol, progress=seen.append)
    (told,) = [event for event in seen if isinstance(event, PlanRevised)]
    passes = factors.provenance["costs"]["passes"]
    likely = factors.provenance["plan"]["expected_passes"]
    assert told.passes_low <= likely <= told.passes_high
    assert likely / 1.5 <= passes <= likely * 1.5, (told, passes)
    assert told.method == "krylov"


def test_a_flat_spectrum_turns_the_run_to_the_gram_matrix(tmp_path: Path) -> None:
    A = flat()
    seen: list[Event] = []
    factors = bigsvd.svd(stored(A), 10, tmp_path / "u", progress=seen.append)
    (made,) = [event for event in seen if isinstance(event, PlanMade)]
    (told,) = [event for event in seen if isinstance(event, PlanRevised)]
    assert (made.plan.method, told.method) == ("krylov", "gram")
    assert "3 of k=10 values stand above the noise" in told.why
    costs = factors.provenance["costs"]
    assert costs["method"] == "gram"
    assert costs["passes"] == pytest.approx(told.passes_high)
    assert factors.certificate.converged
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:10], rtol=1e-6)
    assert made.plan.memory_bytes <= made.plan.budget_bytes


@pytest.mark.parametrize("out", ["u", None])
def test_when_a_run_has_turned_its_plan_says_what_the_gram_matrix_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | None
) -> None:
    """Within the bound that it was accepted with, which what the sample has held counts against too.

    At nominal rates: where they are measured, panels that are read quickly are not kept.
    """
    monkeypatch.setattr(placement, "_WORTH_A_LOOK_SECONDS", 1e9)
    given = None if out is None else tmp_path / out
    seen: list[Event] = []
    factors = bigsvd.svd(stored(flat()), 10, given, progress=seen.append)
    (made,) = [event.plan for event in seen if isinstance(event, PlanMade)]
    turned = Plan.from_dict(factors.provenance["plan"])
    asked = bigsvd.plan(stored(flat()), 10, given, method="gram", overwrite=True)
    assert (made.method, turned.method) == ("krylov", "gram")
    assert turned.memory_bytes == made.memory_bytes
    assert turned.cache_bytes == turned.memory["decoded panels kept"] == asked.cache_bytes
    for name in asked.memory:
        assert turned.memory[name] == asked.memory[name], name
    assert set(turned.memory) - set(asked.memory) <= {"held before the method changed"}
    assert "Gram matrices" not in made.memory
    assert factors.provenance["costs"]["planned_memory_bytes"] == turned.memory_bytes
    assert factors.provenance["costs"]["memory_exceeded_bytes"] == 0


def test_where_the_passes_allowed_do_not_suffice_it_turns_to_what_needs_no_more() -> None:
    A = flat()
    factors = bigsvd.svd(stored(A), 10, max_passes=2)
    assert factors.provenance["costs"]["method"] == "gram"
    assert factors.certificate.converged
    plan = bigsvd.plan(stored(A), 10)
    assert revised(replace(plan, max_passes=1), seen_of(A, plan))[0].method == "krylov"


def test_what_was_decided_once_stays_decided() -> None:
    A = flat()
    plan = bigsvd.plan(stored(A), 10)
    seen = seen_of(A, plan)
    assert plan.turn is not None
    assert revised(plan, seen)[0].method == "gram"
    assert revised(plan, seen, "krylov")[0].method == "krylov"
    steep = seen_of(with_values(np.random.default_rng(0), 0.9 ** np.arange(800.0), *flat().shape), plan)
    assert revised(plan, steep)[0].method == "krylov"
    assert revised(plan, steep, "gram")[0].method == "gram"


@pytest.mark.parametrize("when", ["it has just turned", "its last pass has begun"])
def test_a_run_that_turned_gives_the_same_bits_from_its_scratch(tmp_path: Path, when: str) -> None:
    """Killed before or behind the pass for the Gram matrix; its plan is saved with the method to turn to."""
    source = open_source(stored(flat().astype(np.float32)))
    plan = Plan.from_json(nominal_plan(make_request(source, 10, None), source.facts).to_json())

    def svd(out: Path, **options: Any) -> bigsvd.Factors:
        request = make_request(source, 10, out, **options)
        return run(request, source, plan=replace(plan, request=request), **hooks)

    hooks: dict[str, Any] = {}
    whole = svd(tmp_path / "whole")
    passes = 0

    def killed(event: Event) -> None:
        nonlocal passes
        passes += event.kind == "pass" and not event["sample"]
        if passes == 2 or (when == "it has just turned" and isinstance(event, PlanRevised)):
            raise KeyboardInterrupt

    hooks["progress"] = killed
    with pytest.raises(KeyboardInterrupt):
        svd(tmp_path / "u")
    hooks.clear()
    left = Scratch(tmp_path / "u.scratch")
    assert left.recorded("revision") == {"method": "gram"}
    assert bool(list(left.path.glob("gram-*"))) == (when != "it has just turned")
    resumed = svd(tmp_path / "u")
    assert resumed.provenance["costs"]["method"] == "gram"
    for name in ("U", "Vt"):
        np.testing.assert_array_equal(getattr(resumed, name)[:], getattr(whole, name)[:])
    np.testing.assert_array_equal(resumed.s, whole.s)


@pytest.mark.parametrize(
    "options", [{"method": "krylov"}, {"max_passes": 1}, {"memory": "46MB"}, {"k": "auto"}], ids=str
)
def test_it_may_turn_only_where_that_was_left_to_the_planner_and_fits(options: dict[str, Any]) -> None:
    A = stored(np.zeros((flat().shape[0], 1000), np.float32))
    assert bigsvd.plan(A, 10).turn is not None
    plan = bigsvd.plan(A, **({"k": 10} | options))
    assert plan.method == "krylov"
    assert plan.turn is None


def test_signal_alone_is_foretold_to_take_fewer_passes() -> None:
    plan = bigsvd.plan(stored(flat()), 10)
    seen = seen_of(flat(), plan)
    of_signal = outlook(seen, replace(plan, request=replace(plan.request, stop="signal")))
    of_all = outlook(seen, plan)
    assert of_all.flat
    assert not of_signal.flat
    assert of_signal.high < of_all.low
