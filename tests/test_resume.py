"""What a run finds in scratch is used only where it is what the run would have made itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.errors import MemoryBudgetError, OutputExistsError, SourceChangedError
from bigsvd.events import Event
from bigsvd.execution.panel_cache import _CACHES
from bigsvd.execution.tasks import Tasks
from bigsvd.planning.plan import PLAN_VERSION
from bigsvd.results.folders import scratch_path
from bigsvd.scratch import Scratch
from bigsvd.sources.zarr_dense import ZarrSource
from tests.spectra import with_values

NOISE = np.random.default_rng(0).standard_normal((500, 200))
WIDE = 4 + with_values(np.random.default_rng(1), 20 * 0.9 ** np.arange(60), 60, 800)


class StoppedError(Exception):
    """Raised by a progress callback to end a run in the middle."""


def stop_at(kind: str, number: int) -> Any:
    """A progress callback that ends the run when the pass of that number begins, or is over."""

    def progress(event: Event) -> None:
        if event.kind == kind and event["name"].endswith(f"-{number:03d}"):
            raise StoppedError

    return progress


@pytest.mark.parametrize("method", ["krylov", "gram", "tall_skinny", "compressed"])
def test_means_and_scales_survive_an_interruption(client: Client, tmp_path: Path, method: Any) -> None:
    options: dict[str, Any] = {"method": method, "center": True, "scale": True, "client": client}
    with pytest.raises(StoppedError):
        bigsvd.svd(WIDE, 4, tmp_path / "u", tol=1e-6, progress=stop_at("pass", 1), **options)
    resumed = bigsvd.svd(WIDE, 4, tmp_path / "u", tol=0.5, **options)
    assert np.allclose(resumed.mean, WIDE.mean(axis=0))
    assert np.allclose(resumed.scale, WIDE.std(axis=0))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_data_rewritten_in_place_is_noticed_even_if_no_pass_is_left_to_make(
    client: Client, tmp_path: Path
) -> None:
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=NOISE, chunks=(50, 200))
    options: dict[str, Any] = {"method": "krylov", "max_passes": 2, "client": client}
    bigsvd.svd(array, 5, tmp_path / "u", **options)
    again = bigsvd.svd(array, 5, tmp_path / "u", overwrite=True, **options)
    array[:] = 5 * NOISE
    with pytest.raises(SourceChangedError, match="checksum"):
        bigsvd.svd(array, 5, tmp_path / "u", overwrite=True, **options)
    assert np.array_equal(bigsvd.open(tmp_path / "u").s, again.s)
    renewed = bigsvd.svd(array, 5, tmp_path / "u", overwrite=True, **options)
    assert np.allclose(renewed.s, 5 * again.s)


def stop_at_the_end(event: Event) -> None:
    if event.kind == "phase":
        raise StoppedError


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", ["krylov", "gram"])
def test_a_centred_run_stopped_after_its_last_pass_is_continued(tmp_path: Path, method: str) -> None:
    """It compares the data with what its passes had seen, by a pass that needs means as they did."""
    zarr.create_array(tmp_path / "a.zarr", data=NOISE, chunks=(50, 200))
    options: dict[str, Any] = {"method": method, "center": True, "max_passes": 2}
    with pytest.raises(StoppedError):
        bigsvd.svd(tmp_path / "a.zarr", 5, tmp_path / "u", progress=stop_at_the_end, **options)
    resumed = bigsvd.svd(tmp_path / "a.zarr", 5, tmp_path / "u", **options)
    assert np.array_equal(resumed.s, bigsvd.svd(tmp_path / "a.zarr", 5, **options).s)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("changes", [{"max_passes": 9}, {"tol": 1e-8}, {"stop": "error", "tol": 1e-6}])
def test_an_unconverged_run_is_continued_under_other_terms(
    client: Client, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Among them terms that need float64, or that replay what certified a steep spectrum."""
    A = (np.random.default_rng(2).standard_normal((1_000, 300)) + 6).astype(np.float32)
    s = np.linalg.svd(A.astype(np.float64), compute_uv=False)
    bigsvd.svd(A, 10, tmp_path / "u", method="krylov", max_passes=2, client=client)
    options = {"method": "krylov", "overwrite": True, "client": client} | changes
    continued = bigsvd.svd(A, 10, tmp_path / "u", **options)
    assert np.all(np.abs(continued.s - s[:10]) <= np.array(continued.certificate.sigma_bounds) * continued.s)
    fresh = bigsvd.svd(A, 10, method="krylov", client=client, **changes)
    assert continued.certificate.converged == fresh.certificate.converged


def test_a_large_mean_in_float32_is_iterated_to_the_tolerance(client: Client) -> None:
    """σ₁/σ_k is beyond what float32 products resolve at this tolerance: the run goes on in float64."""
    A = (np.random.default_rng(3).standard_normal((2_000, 300)) + 30).astype(np.float32)
    factors = bigsvd.svd(A, 10, method="krylov", client=client)
    assert factors.certificate.converged
    assert factors.certificate.max_residual <= 1e-2
    s = np.linalg.svd(A.astype(np.float64), compute_uv=False)
    assert np.max(np.abs(factors.s / s[:10] - 1)) <= 1e-3


def test_a_deadline_does_not_discard_finished_passes(client: Client, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "krylov", "tol": 1e-9, "client": client}
    with pytest.raises(StoppedError):
        bigsvd.svd(NOISE, 5, tmp_path / "u", progress=stop_at("pass-end", 2), **options)
    with pytest.warns(UserWarning, match="deadline"):
        factors = bigsvd.svd(NOISE, 5, tmp_path / "u", deadline=1e-6, **options)
    assert factors.provenance["costs"]["passes"] >= 2


def test_a_smaller_budget_than_the_scratch_was_planned_for_is_refused(client: Client, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "krylov", "client": client}
    with pytest.raises(StoppedError):
        bigsvd.svd(NOISE, 5, tmp_path / "u", memory="1GB", progress=stop_at("pass", 1), **options)
    planned = bigsvd.plan(NOISE, 5, tmp_path / "u", memory="1GB", **options).memory_bytes
    with pytest.raises(MemoryBudgetError, match="was planned for"):
        bigsvd.svd(NOISE, 5, tmp_path / "u", memory=int(planned * 0.99), **options)


def test_a_folder_that_only_looks_like_scratch_is_left_alone(client: Client, tmp_path: Path) -> None:
    other = zarr.create_array(str(tmp_path / "d.scratch"), data=NOISE, chunks=(50, 200))
    with pytest.raises(OutputExistsError, match="no scratch of bigsvd"):
        bigsvd.svd(NOISE, 5, tmp_path / "d", client=client)
    assert np.array_equal(other[:], NOISE)


def test_a_sample_that_misjudges_all_deviations_does_not_alarm_the_audit(
    client: Client, tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    A = rng.standard_normal((4_000, 150))
    A[:400] *= 12
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=A, chunks=(100, 150))
    for seed in range(4):
        factors = bigsvd.svd(array, 5, scale=True, method="krylov", tol=0.3, seed=seed, client=client)
        audit = factors.certificate.audit
        assert audit is not None
        assert not audit.flagged
        assert 0.5 < audit.missing_energy / audit.expected < 2


def test_an_interrupted_run_leaves_nothing_that_runs(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lanes are held while they read, until the run waits for their end."""
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=NOISE + 1, chunks=(20, 200))
    options: dict[str, Any] = {"method": "krylov", "memory": "200MB", "client": client}
    reading, held = threading.Event(), threading.Event()
    read, await_end = ZarrSource.read, Tasks.await_end

    def slow(self: ZarrSource, *where: Any) -> np.ndarray:
        reading.set()
        held.wait()
        return read(self, *where)

    def interrupt(_: Any) -> None:
        reading.wait()
        raise KeyboardInterrupt

    def let_go(tasks: Tasks) -> None:
        held.set()
        await_end(tasks)

    def lanes(dask_worker: Any) -> list[str]:
        return list(map(str, dask_worker.active_keys))

    with monkeypatch.context() as patch:
        patch.setattr(ZarrSource, "read", slow)
        patch.setattr(Tasks, "_done", interrupt)
        patch.setattr(Tasks, "await_end", let_go)
        try:
            with pytest.raises(KeyboardInterrupt):
                bigsvd.svd(array, 5, tmp_path / "u", **options)
            assert not any(client.run(lanes).values())
        finally:
            held.set()
    assert not _CACHES
    assert not list(scratch_path(tmp_path / "u").rglob("lane-*"))
    factors = bigsvd.svd(array, 5, tmp_path / "u", center=True, tol=1e-6, **options)
    expected = np.linalg.svd(NOISE - NOISE.mean(axis=0), compute_uv=False)[:5]
    np.testing.assert_allclose(factors.s, expected, rtol=1e-10)


def test_scratch_of_another_version_is_no_obstacle(client: Client, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        bigsvd.svd(NOISE, 5, tmp_path / "u", progress=stop_at("pass", 0), method="krylov", client=client)
    scratch = Scratch(scratch_path(tmp_path / "u"))
    left = scratch.recorded("run")
    assert left is not None
    scratch.record("run", left | {"plan": left["plan"] | {"version": PLAN_VERSION - 1}})
    factors = bigsvd.svd(NOISE, 5, tmp_path / "u", method="krylov", client=client)
    assert factors.certificate.converged
