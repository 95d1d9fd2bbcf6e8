"""The warm starts: a sample that also preconditions, and published factors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.devices.cpu import CpuDevice
from bigsvd.errors import FactorStoreError, RequestError
from bigsvd.events import Event, PassEnded, PassStarted
from bigsvd.execution.dask_executor import DaskExecutor
from bigsvd.execution.passes import Context, panels_kept
from bigsvd.facts import Machine
from bigsvd.methods.matrix import Matrix
from bigsvd.methods.starts import Sample
from bigsvd.planning.planner import make_plan
from bigsvd.request import Request
from bigsvd.scratch import Scratch
from bigsvd.slabs.transform import Transform
from bigsvd.sources.open import open_source

M, N, K = 6000, 200, 8


def slow(m: int = M, seed: int = 0) -> np.ndarray:
    """Rows with variances 1/i along a fixed rotation: what a sample shows well."""
    Q = np.linalg.qr(np.random.default_rng(99).standard_normal((N, N)))[0]
    return np.asarray((np.random.default_rng(seed).standard_normal((m, N)) * np.arange(1, N + 1) ** -0.5) @ Q)


def store(path: Path, A: np.ndarray) -> Path:
    zarr.create_array(path, data=A, chunks=(50, A.shape[1]), overwrite=True)
    return path


def worst(factors: bigsvd.Factors, A: np.ndarray) -> float:
    exact = np.linalg.svd(A, compute_uv=False)[: factors.k]
    return float(np.max(np.abs(factors.s - exact) / exact))


def test_corrections_solve_the_equation_they_are_of(tmp_path: Path, client: Client) -> None:
    """For a sample of everything, (θ − P·BᵀB·P)t = r up to the first term left out of the series."""
    A = slow(1000)
    source = open_source(store(tmp_path / "a.zarr", A))
    plan = make_plan(Request("a", K, method="krylov", tol=1e-8), source.facts, Machine(10**9, 2))
    plan = replace(plan, sample=tuple(range(plan.panels)))
    context = Context(
        DaskExecutor(client), plan, source, Scratch(tmp_path / "scratch"), CpuDevice(), lambda _: None
    )
    matrix = Matrix(context, Transform(), "float64")
    random = np.random.default_rng(0)
    V = np.linalg.svd(A)[2][:40].T
    K_, _ = np.linalg.qr(V + 1e-3 * random.standard_normal(V.shape))
    H = A.T @ A
    theta = np.diag(K_.T @ H @ K_)[:K]
    R = H @ K_[:, :K] - K_[:, :K] * theta
    with panels_kept(context):
        t = Sample(matrix).correct("fix", R, theta, K_)
    P = np.eye(N) - K_ @ K_.T
    B: np.ndarray = P @ H @ P
    left_out: np.ndarray = B @ (B @ (B @ (P @ R))) / theta**3
    found, expected = np.asarray(t * theta - B @ t), np.asarray(P @ R - left_out)
    np.testing.assert_allclose(found, expected, atol=1e-9 * float(np.linalg.norm(R)))
    assert np.max(np.linalg.norm(left_out, axis=0) / np.linalg.norm(P @ R, axis=0)) < 0.1


def test_two_full_passes_do_where_the_sample_resembles_the_data(tmp_path: Path) -> None:
    A = slow()
    factors = bigsvd.svd(store(tmp_path / "a.zarr", A), K, method="krylov")
    costs = factors.provenance["costs"]
    assert factors.certificate.converged
    assert len(costs["pass_seconds"]) == 2
    assert worst(factors, A) < 1e-4
    assert costs["bytes_read"] == A.nbytes


class StoppedError(Exception):
    """Raised by a progress callback to end a run in the middle."""


@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_a_run_stopped_in_its_sample_phase_takes_the_sample_again(tmp_path: Path, stop_after: int) -> None:
    """Of the first block (1, 4) or of a correction (6); nothing was recorded, and the bits are the same."""
    path, seen = store(tmp_path / "a.zarr", slow()), list[str]()

    def stop(event: Event) -> None:
        if isinstance(event, PassEnded) and event.sample:
            seen.append(event.name)
            if len(seen) == stop_after:
                raise StoppedError

    options: dict[str, Any] = {"method": "krylov", "tol": 3e-3}
    whole = bigsvd.svd(path, K, tmp_path / "whole", **options)
    with pytest.raises(StoppedError):
        bigsvd.svd(path, K, tmp_path / "stopped", progress=stop, **options)
    done = [file.parent.parent.name for file in (tmp_path / "stopped.scratch").glob("*/done/zarr.json")]
    assert all(name.startswith("krylov") for name in done)
    again = bigsvd.svd(path, K, tmp_path / "stopped", progress=stop, **options)
    assert seen[:stop_after] == seen[stop_after : 2 * stop_after]
    for name in ("U", "s", "Vt"):
        np.testing.assert_array_equal(getattr(again, name)[:], getattr(whole, name)[:])


@pytest.mark.parametrize("strength", [1.5, 3.0])
def test_a_direction_that_the_sample_lacks_is_found(tmp_path: Path, strength: float) -> None:
    """In one panel alone, and one that is not in the sample."""
    A = slow()
    path = store(tmp_path / "a.zarr", A)
    plan = bigsvd.plan(path, K, method="krylov")
    hidden = next(panel for panel in range(plan.panels) if panel not in plan.sample)
    start, stop = plan.panel(hidden)
    direction = np.random.default_rng(5).standard_normal(N)
    s = np.linalg.svd(A, compute_uv=False)
    u = np.random.default_rng(6).standard_normal(stop - start)
    A[start:stop] += (
        strength * s[K - 1] * np.outer(u / np.linalg.norm(u), direction / np.linalg.norm(direction))
    )
    factors = bigsvd.svd(store(path, A), K, method="krylov")
    assert factors.certificate.converged
    assert worst(factors, A) < 1e-3


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_unchanged_data_take_one_pass(tmp_path: Path, *, center: bool, wide: bool) -> None:
    A = slow().T + 0.5 if wide else slow() + 0.5
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=A, chunks=(N, 50) if wide else (50, N))
    options: dict[str, Any] = {"center": center, "method": "krylov"}
    first = bigsvd.svd(path, K, tmp_path / "first", **options)
    again = bigsvd.svd(path, K, tmp_path / "again", warm_start=first, **options)
    assert again.provenance["costs"]["passes"] == 1
    assert again.certificate.converged
    assert worst(again, A - A.mean(axis=0) * center) < 1e-4
    assert "the factors" in str(bigsvd.plan(path, K, warm_start=str(first.path), method="krylov"))


def test_a_centred_wide_matrix_takes_the_passes_of_a_tall_one(tmp_path: Path) -> None:
    """Rows of B are centred exactly at once: nothing of the first look has to be looked at again."""
    names: dict[str, list[str]] = {"wide": [], "tall": []}
    wide = slow(1000).T + np.linspace(1, 2, 1000)
    for name, A in {"wide": wide, "tall": wide.T - wide.T.mean(axis=1, keepdims=True)}.items():
        path = tmp_path / name
        zarr.create_array(path, data=A, chunks=(N, 50) if name == "wide" else (50, N))

        def note(event: Event, found: list[str] = names[name]) -> None:
            if isinstance(event, PassStarted):
                found.append(event.name)

        bigsvd.svd(path, K, center=name == "wide", method="krylov", progress=note)
    assert [name for name in names["wide"] if name.startswith("start-0-")] == ["start-0-0"]
    assert names["wide"] == names["tall"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_correction_is_made_for_a_pass_that_may_not_follow(tmp_path: Path) -> None:
    names: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, PassStarted):
            names.append(event.name)

    A = slow(2000)
    for most in (1, 2):
        names.clear()
        bigsvd.svd(store(tmp_path / "a.zarr", A), K, method="krylov", max_passes=most, progress=note)
        assert any(name.startswith("correct-") for name in names) == (most == 2)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_residuals_do_as_they_are_where_their_square_is_well_below_the_tolerance(tmp_path: Path) -> None:
    """Then the sample is not gone over again."""
    names: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, PassStarted):
            names.append(event.name)

    path = store(tmp_path / "a.zarr", slow(2000))
    options: dict[str, Any] = {"method": "krylov", "progress": note}
    after_one = bigsvd.svd(path, K, max_passes=1, tol=1e-4, **options).certificate.max_residual
    assert after_one < 0.3
    for times, corrected in ((2.5, False), (1.0, True)):
        names.clear()
        factors = bigsvd.svd(path, K, tol=times * after_one**2, **options)
        assert factors.certificate.converged
        assert len(factors.provenance["costs"]["pass_seconds"]) == 2
        assert any(name.startswith("correct-") for name in names) == corrected


@pytest.mark.parametrize("what", ["rows", "columns"])
def test_appended_data_start_from_what_is_known(tmp_path: Path, what: str) -> None:
    A = slow()
    before = A[:-60] if what == "rows" else A[:, :-4]
    first = bigsvd.svd(store(tmp_path / "a.zarr", before), K, tmp_path / "first", method="krylov")
    grown = store(tmp_path / "b.zarr", A)
    again = bigsvd.svd(grown, K, warm_start=tmp_path / "first", method="krylov")
    cold = bigsvd.svd(grown, K, method="krylov")
    if what == "rows":  # new columns have new entries of V, of which the old factors know nothing
        assert again.provenance["costs"]["passes"] <= cold.provenance["costs"]["passes"]
    assert again.certificate.converged
    assert worst(again, A) < 1e-3
    assert first.shape != again.shape


def test_factors_that_cannot_be_a_start_are_refused(tmp_path: Path) -> None:
    A = slow(1000)
    path = store(tmp_path / "a.zarr", A)
    bigsvd.svd(path, K, tmp_path / "first")
    less = store(tmp_path / "b.zarr", A[:, :150])
    with pytest.raises(RequestError, match="200 columns, this one has 150"):
        bigsvd.svd(less, K, warm_start=str(tmp_path / "first"), method="krylov")
    with pytest.raises(FactorStoreError):
        bigsvd.svd(path, K, warm_start=str(tmp_path / "nothing"), method="krylov")
    with pytest.raises(RequestError):
        bigsvd.plan(path, K, warm_start="")
