"""Panels are kept within their budget, in memory and then on disk, and never change a bit of a result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd import cache as cache_module
from bigsvd.cache import PanelCache, cache_of, close_cache
from bigsvd.chunks import Scrap
from bigsvd.errors import SourceChangedError

BLOCK = np.arange(12.0).reshape(3, 4)


def test_what_fits_is_kept_and_its_memory_taken_over() -> None:
    cache = PanelCache(2 * BLOCK.nbytes)
    assert cache.keep((0, 0), "now", BLOCK)
    assert cache.get((0, 0), "now", Scrap()) is BLOCK
    assert cache.get((0, 0), "later", Scrap()) is None
    assert cache.get((1, 0), "now", Scrap()) is None
    assert not cache.keep((0, 0), "now", BLOCK.copy())
    assert cache.keep((1, 0), "now", BLOCK.copy())
    assert not cache.keep((2, 0), "now", BLOCK.copy())
    assert cache.get((2, 0), "now", Scrap()) is None


def test_what_does_not_fit_is_staged(tmp_path: Path) -> None:
    cache = PanelCache(0, tmp_path)
    view = np.asfortranarray(BLOCK)
    for panel in range(3):
        assert not cache.keep((panel, 0), "now", view + panel)
    assert not list(tmp_path.iterdir())  # the file has no name, so nothing is ever left behind
    for panel in range(3):
        found = cache.get((panel, 0), "now", Scrap())
        assert found is not None
        np.testing.assert_array_equal(found, BLOCK + panel)
    assert cache.get((0, 0), "later", Scrap()) is None
    cache.close()


def test_a_full_disk_ends_staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PanelCache(0, tmp_path)
    cache.keep((0, 0), None, BLOCK)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    cache.keep((1, 0), None, BLOCK)
    monkeypatch.undo()
    cache.keep((2, 0), None, BLOCK)
    assert [cache.get((panel, 0), None, Scrap()) is not None for panel in range(3)] == [True, False, False]
    cache.close()


def test_room_is_left_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_LEAST_FREE_BYTES", 2**62)
    cache = PanelCache(0, tmp_path)
    cache.keep((0, 0), None, BLOCK)
    assert cache.get((0, 0), None, Scrap()) is None
    cache.close()


def test_a_run_has_one_cache_in_a_process() -> None:
    first = cache_of("run", 10, None)
    assert cache_of("run", 10, None) is first
    close_cache("run")
    close_cache("run")
    assert cache_of("run", 10, None) is not first
    close_cache("run")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(1)
    A = (random.standard_normal((4000, 300)) * np.arange(1, 301) ** -0.5 + 0.5).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "a.zarr"
    zarr.create_array(path, data=A, chunks=(50, 300))
    return path


@pytest.mark.parametrize("center", [False, True])
def test_the_bits_do_not_depend_on_what_is_kept(
    data: Path, client: Client, tmp_path: Path, *, center: bool
) -> None:
    options: dict[str, Any] = {"client": client, "center": center, "method": "krylov", "tol": 1e-3}
    plan = bigsvd.plan(data, 5, memory="50MB", client=client, method="krylov", center=center, tol=1e-3)
    assert plan.cache_bytes >= 4000 * 300 * 4
    found = {}
    for name, kept in {"all": plan.cache_bytes, "some": 10**6, "none": 0}.items():
        for stage in (None, tmp_path / "stage"):
            found[name, stage] = _run(data, plan, kept, stage, options)
    whole = found["all", None]
    for (name, stage), factors in found.items():
        np.testing.assert_array_equal(factors.s, whole.s)
        np.testing.assert_array_equal(np.asarray(factors.Vt[:]), np.asarray(whole.Vt[:]))
        rate = factors.provenance["costs"]["cache_hit_rate"]
        assert (rate > 0.5) == (name == "all" or stage is not None)
    assert whole.provenance["costs"]["bytes_read"] == 4000 * 300 * 4
    assert not cache_module._CACHES


def _run(data: Path, plan: Any, kept: int, stage: Path | None, options: dict[str, Any]) -> bigsvd.Factors:
    from dataclasses import replace  # noqa: PLC0415

    from bigsvd.request import Request  # noqa: PLC0415
    from bigsvd.solve import run  # noqa: PLC0415
    from bigsvd.source import open_source  # noqa: PLC0415

    request = Request.from_dict(plan.request | {"stage": None if stage is None else str(stage)})
    changed = replace(plan, request=request.to_dict(), cache_bytes=kept)
    return run(request, open_source(data), plan=changed, client=options["client"])


def test_a_kept_panel_that_changes_is_read_again(tmp_path: Path, client: Client) -> None:
    A = np.random.default_rng(0).standard_normal((800, 60))
    array = zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(20, 60))

    def disturb(event: dict[str, Any]) -> None:
        if event["event"] == "certificate" and event["passes"] == 1:
            array[0, 0] = 99.0

    with pytest.raises(SourceChangedError):
        bigsvd.svd(tmp_path / "a.zarr", 3, client=client, method="krylov", tol=1e-12, progress=disturb)
    assert not cache_module._CACHES
