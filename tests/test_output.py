"""The place of a result: the old one or the new one, never a third state, and one run at a time."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import bigsvd
from bigsvd.errors import OutputBusyError, OutputExistsError, StorageError
from bigsvd.results.factors import open_factors
from bigsvd.results.folders import scratch_path
from bigsvd.results.output import Output
from bigsvd.results.store import seal
from bigsvd.scratch import MARK, Scratch

A = np.random.default_rng(5).standard_normal((40, 12))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, client: Client) -> Path:
    """A published store of A."""
    path = tmp_path_factory.mktemp("original") / "factors"
    bigsvd.svd(A, 3, path, client=client)
    return path


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may replace."""
    return Path(shutil.copytree(original, tmp_path / "factors"))


def sealed(folder: Path, original: Path, values: float = 0.0) -> Scratch:
    """Scratch of an output at `folder` with a sealed copy of a store, marked by its first singular value."""
    scratch = Scratch(scratch_path(folder))
    (scratch.path / MARK).mkdir(parents=True, exist_ok=True)
    shutil.copytree(original, scratch.path / "factors")
    if values:
        scratch.open("factors/s")[:1] = values
    kept = ("request", "plan", "certificate", "source", "costs")
    attributes: Any = zarr.open_group(original, mode="r").attrs.asdict()["bigsvd"]
    seal(scratch, {name: attributes[name] for name in kept})
    return scratch


def test_nothing_is_there_until_it_is_published(original: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with Output(out, overwrite=False) as output:
        sealed(out, original)
        assert not out.exists()
        factors = output.publish()
        assert not (output.scratch / "factors").exists()
        output.sweep()
    np.testing.assert_array_equal(factors.s, open_factors(original).s)
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]


def test_overwriting_keeps_the_old_result_until_the_new_one_is_whole(original: Path, store: Path) -> None:
    old = open_factors(store).s[0]
    with Output(store, overwrite=True) as output:
        sealed(store, original, values=9e9)
        assert open_factors(store).s[0] == old
        output.publish()
        assert open_factors(store).s[0] == 9e9
        output.sweep()
    assert sorted(path.name for path in store.parent.iterdir()) == ["factors"]


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot exchange two folders in one step."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: object())


def test_overwriting_without_an_atomic_exchange(
    original: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_exchange(monkeypatch)
    with Output(store, overwrite=True) as output:
        sealed(store, original, values=9e9)
        assert output.publish().s[0] == 9e9


def test_a_run_killed_between_two_renames_leaves_the_old_result(
    original: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_exchange(monkeypatch)
    old = open_factors(store).s[0]
    rename = Path.rename

    def killed(path: Path, target: Any) -> Path:
        if path.name == "factors" and path.parent.parent.name == MARK:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with Output(store, overwrite=True) as output:
        sealed(store, original, values=9e9)
        with pytest.raises(KeyboardInterrupt):
            output.publish()
    monkeypatch.undo()
    assert not store.exists()
    assert open_factors(store).s[0] == old
    with pytest.raises(OutputExistsError), Output(store, overwrite=False):
        pass
    assert store.exists()
    assert open_factors(store).s[0] == old


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failing_publication_changes_nothing(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    out = tmp_path / "out"
    if overwrite:
        shutil.copytree(original, out)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with Output(out, overwrite=overwrite) as output:
        sealed(out, original, values=9e9)
        with pytest.raises(StorageError, match="No space left on device"):
            output.publish()
        assert out.exists() == overwrite
        assert (output.scratch / "factors").exists()
    if overwrite:
        assert open_factors(out).s[0] != 9e9


def test_one_run_at_a_time_holds_an_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Output(out, overwrite=False):
        with pytest.raises(OutputBusyError, match="another run"), Output(out, overwrite=True):
            pass
        with Output(tmp_path / "other", overwrite=False):
            pass
    with Output(out, overwrite=False):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_there_is_not_overwritten_unasked(store: Path, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(OutputExistsError, match="mine"), Output(tmp_path / "mine", overwrite=overwrite):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputExistsError, match="file"), Output(tmp_path / "file", overwrite=overwrite):
        pass
    if not overwrite:
        with pytest.raises(OutputExistsError, match="already exists"), Output(store, overwrite=False):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["factors", "file", "mine"]


def test_overwriting_another_zarr_store_is_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "data.zarr", data=A)
    with (
        pytest.raises(OutputExistsError, match="not a factor store"),
        Output(tmp_path / "data.zarr", overwrite=True),
    ):
        pass
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "data.zarr", mode="r")[:], A)


def test_without_a_path_the_store_lives_as_long_as_its_factors(original: Path) -> None:
    with Output(None, overwrite=False) as output:
        folder = output.path.parent
        sealed(output.path, original)
        factors = output.publish()
        output.sweep()
    assert factors[0:2, 0:2].shape == (2, 2)
    part = factors.truncate(2)
    del factors
    gc.collect()
    assert part[0:2, 0:2].shape == (2, 2)
    del part
    gc.collect()
    assert not folder.exists()


def test_a_temporary_output_that_was_never_published_is_removed() -> None:
    with Output(None, overwrite=False) as output:
        folder = output.path.parent
        assert folder.exists()
    assert not folder.exists()
