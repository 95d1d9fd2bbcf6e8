"""Panels are kept within their budget, in memory and then on disk, and never change a bit of a result."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.chunks.buffers import ReusableBuffer
from bigsvd.errors import SourceChangedError
from bigsvd.events import Certified, Event
from bigsvd.execution import panel_cache as cache_module
from bigsvd.execution.panel_cache import CachedBlock, PanelCache, cache_of, close_cache
from bigsvd.slabs.block import DenseBlock
from bigsvd.solve import run
from bigsvd.sources.open import open_source

BLOCK = np.arange(12.0).reshape(3, 4)


def held(cache: PanelCache, panel: int, stamp: str = "now") -> np.ndarray | None:
    found = cache.get((panel, 0), stamp, ReusableBuffer())
    return None if found is None else found.block.rows(slice(None))


def test_what_fits_is_kept_and_its_memory_taken_over() -> None:
    cache, scrap = PanelCache(2 * BLOCK.nbytes), ReusableBuffer()
    first = scrap.take((3, 4), BLOCK.dtype)
    first[...] = BLOCK
    cache.keep((0, 0), "now", CachedBlock(DenseBlock(first), 7, 2), scrap)
    found = cache.get((0, 0), "now", ReusableBuffer())
    assert found is not None
    assert isinstance(found.block, DenseBlock)
    assert found.block.array is first
    assert found.filled == 2
    scrap.take((3, 4), BLOCK.dtype)[...] = -1  # other memory now
    np.testing.assert_array_equal(first, BLOCK)
    assert held(cache, 0, "later") is None
    assert held(cache, 1) is None
    for panel in (1, 2):
        cache.keep((panel, 0), "now", CachedBlock(DenseBlock(BLOCK + panel), 7, 0), scrap)
    np.testing.assert_array_equal(held(cache, 1), BLOCK + 1)
    assert held(cache, 2) is None


def test_a_small_rectangle_does_not_hold_the_memory_of_a_large_one() -> None:
    cache, scrap = PanelCache(BLOCK.nbytes), ReusableBuffer()
    scrap.take((1000, 1000), BLOCK.dtype)
    small = scrap.take((3, 4), BLOCK.dtype)
    small[...] = BLOCK
    cache.keep((0, 0), "now", CachedBlock(DenseBlock(small), 7, 0), scrap)
    small[...] = -1  # the scrap is used again
    found = held(cache, 0)
    np.testing.assert_array_equal(found, BLOCK)
    assert found is not None
    assert found.base is not None
    assert found.base.nbytes == BLOCK.nbytes


def test_what_does_not_fit_is_staged(tmp_path: Path) -> None:
    cache = PanelCache(0, tmp_path)
    view = np.asfortranarray(BLOCK)
    for panel in range(3):
        cache.keep((panel, 0), "now", CachedBlock(DenseBlock(view + panel), 7, panel), ReusableBuffer())
    assert not list(tmp_path.iterdir())  # the file has no name, so nothing is ever left behind
    for panel in range(3):
        found = cache.get((panel, 0), "now", ReusableBuffer())
        assert found is not None
        np.testing.assert_array_equal(found.block.rows(slice(None)), BLOCK + panel)
        assert (found.filled, found.checksum) == (panel, 7)
    assert held(cache, 0, "later") is None
    cache.close()


def test_what_fits_the_device_stays_there_and_leaves_it_when_told() -> None:
    cache = PanelCache(BLOCK.nbytes, device_bytes=BLOCK.nbytes)
    for panel in (0, 1, 2):
        cache.keep(
            (panel, 0),
            "now",
            CachedBlock(DenseBlock(BLOCK + panel), 7, 0),
            ReusableBuffer(),
            sent=DenseBlock(BLOCK - panel),
        )
    first, second = (cache.get((panel, 0), "now", ReusableBuffer()) for panel in (0, 1))
    assert first is not None
    assert first.resident
    np.testing.assert_array_equal(first.block.rows(slice(None)), BLOCK)
    assert second is not None
    assert not second.resident
    np.testing.assert_array_equal(second.block.rows(slice(None)), BLOCK + 1)
    assert held(cache, 2) is None
    cache.leave_device()
    assert held(cache, 0) is None
    np.testing.assert_array_equal(held(cache, 1), BLOCK + 1)
    cache.keep((3, 0), "now", CachedBlock(DenseBlock(BLOCK), 7, 0), ReusableBuffer(), sent=DenseBlock(BLOCK))
    assert held(cache, 3) is None


def test_a_full_disk_ends_staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PanelCache(0, tmp_path)
    cache.keep((0, 0), "now", CachedBlock(DenseBlock(BLOCK), 7, 0), ReusableBuffer())

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    cache.keep((1, 0), "now", CachedBlock(DenseBlock(BLOCK), 7, 0), ReusableBuffer())
    monkeypatch.undo()
    cache.keep((2, 0), "now", CachedBlock(DenseBlock(BLOCK), 7, 0), ReusableBuffer())
    assert [held(cache, panel) is not None for panel in range(3)] == [True, False, False]
    cache.close()


def test_room_is_left_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_LEAST_FREE_BYTES", 2**62)
    cache = PanelCache(0, tmp_path)
    cache.keep((0, 0), "now", CachedBlock(DenseBlock(BLOCK), 7, 0), ReusableBuffer())
    assert held(cache, 0) is None
    cache.close()


def test_a_run_has_one_cache_in_a_process_until_it_ends() -> None:
    token = uuid.uuid4().hex
    first = cache_of(token, partial(PanelCache, 10))
    assert cache_of(token, partial(PanelCache, 10)) is first
    close_cache(token)
    close_cache(token)
    assert first.closed
    late = cache_of(token, partial(PanelCache, 10))
    assert late.closed
    late.keep((0, 0), "now", CachedBlock(DenseBlock(BLOCK[:1, :1]), 7, 0), ReusableBuffer())
    assert held(late, 0) is None
    assert not cache_module._CACHES


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(1)
    A = (random.standard_normal((4000, 300)) * np.arange(1, 301) ** -0.5 + 0.5).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "a.zarr"
    zarr.create_array(path, data=A, chunks=(200, 300))
    return path


@pytest.mark.parametrize("center", [False, True])
def test_the_bits_do_not_depend_on_what_is_kept(
    data: Path, client: Client, tmp_path: Path, *, center: bool
) -> None:
    options: dict[str, Any] = {"client": client, "center": center, "method": "krylov", "tol": 1e-3}
    plan = bigsvd.plan(data, 5, memory="60MB", **options)
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
    request = replace(plan.request, stage=None if stage is None else str(stage))
    changed = replace(plan, request=request, cache_bytes=kept)
    return run(request, open_source(data), plan=changed, client=options["client"])


def test_a_kept_panel_that_changes_is_read_again(tmp_path: Path, client: Client) -> None:
    A = np.random.default_rng(0).standard_normal((800, 60))
    array = zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(20, 60))

    def disturb(event: Event) -> None:
        if isinstance(event, Certified) and event.passes == 1:
            array[0, 0] = 99.0

    with pytest.raises(SourceChangedError):
        bigsvd.svd(tmp_path / "a.zarr", 3, client=client, method="krylov", tol=1e-12, progress=disturb)
    assert not cache_module._CACHES
