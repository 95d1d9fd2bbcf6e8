"""File systems that refuse file locks, fsync of folders or exchange: a result is published all the same."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import bigsvd
from bigsvd.errors import OutputBusyError, RequestError
from bigsvd.results.export import check_plot, write_region
from bigsvd.results.factors import open_factors
from bigsvd.results.lock import Holder, Lease, holder_of
from bigsvd.results.output import Output
from bigsvd.scratch import MARK
from tests.test_output import A


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, client: Client) -> Path:
    """A published store of A."""
    path = tmp_path_factory.mktemp("original") / "factors"
    bigsvd.svd(A, 3, path, client=client)
    return path


def publish(out: Path, original: Path, *, overwrite: bool) -> None:
    with Output(out, overwrite=overwrite) as output:
        (output.scratch / MARK).mkdir(parents=True)
        shutil.copytree(original, output.scratch / "factors")
        output.publish()
        output.sweep()


@pytest.mark.parametrize("name", ["flock", "lockf", "fcntl"])
def test_without_file_locks_one_run_at_a_time_holds_an_output(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, name, refuse)
    out = tmp_path / "out"
    with (
        Output(out, overwrite=False),
        pytest.raises(OutputBusyError, match=f"process {os.getpid()}"),
        Output(out, overwrite=False),
    ):
        pass
    publish(out, original, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def lock_left_by(holder: Holder, tmp_path: Path, touched: float) -> Path:
    """A lock as its holder has left it, renewed then last."""
    lock = tmp_path / ".out.bigsvd-lock"
    lock.mkdir()
    (lock / holder.name).touch()
    os.utime(lock / holder.name, (touched, touched))
    return lock


HERE = Holder.here(Lease(), since=1_000_000_000)
ELSEWHERE = replace(HERE, process=replace(HERE.process, machine="node7 other"))
PARENT = replace(HERE.process, pid=os.getppid(), started=HERE.process.started - 1000)
LEFT = {
    "ended": replace(HERE, process=replace(HERE.process, pid=2**22 + 1)),
    "of a later process": replace(HERE, process=PARENT),
    "of this process": HERE,
    "run out": replace(ELSEWHERE, attempt=4),
}


@pytest.mark.parametrize("holder", LEFT)
def test_a_lock_that_was_left_is_taken_over(tmp_path: Path, holder: str) -> None:
    """At once where its process was of this machine and has ended, else when its lease has run out."""
    lock = lock_left_by(LEFT[holder], tmp_path, 1e9 if holder == "run out" else time.time())
    (tmp_path / f".out.bigsvd-lock.{'0' * 32}").mkdir()  # by one who was killed while it waited
    found = holder_of(lock)
    assert found is not None
    assert not found.alive
    with Output(tmp_path / "out", overwrite=False):
        now = holder_of(lock)
        assert now is not None
        assert now.alive
        assert (now.attempt, now.process) == (found.attempt + 1, HERE.process)
    assert holder_of(lock) is None
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_another_machine_is_respected_while_its_lease_runs(tmp_path: Path) -> None:
    lock = lock_left_by(ELSEWHERE, tmp_path, time.time())
    with (
        pytest.raises(
            OutputBusyError, match=rf"{os.getpid()} on node7, since 2001-.* lasts 1[0-9] s"
        ) as caught,
        Output(tmp_path / "out", overwrite=False),
    ):
        pass
    assert "if it has died, run again once that is over" in caught.value.remedy
    assert [entry.name for entry in lock.iterdir()] == [ELSEWHERE.name]
    assert [entry.name for entry in tmp_path.iterdir()] == [lock.name]


@pytest.mark.parametrize("kind", ["file of an older version", "folder of others"])
def test_what_is_no_lock_is_named(tmp_path: Path, kind: str) -> None:
    lock = tmp_path / ".out.bigsvd-lock"
    if kind == "folder of others":
        lock.mkdir()
    mine = lock / "thesis.txt" if lock.is_dir() else lock
    mine.write_text("mine")
    with pytest.raises(OutputBusyError) as caught, Output(tmp_path / "out", overwrite=False):
        pass
    assert str(lock) in caught.value.message
    assert "delete it" in caught.value.remedy
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_that_cannot_be_synced(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, overwrite: bool
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))
        real(handle)

    if overwrite:
        shutil.copytree(original, tmp_path / "out")
    monkeypatch.setattr(os, "fsync", fsync)
    publish(tmp_path / "out", original, overwrite=overwrite)
    assert open_factors(tmp_path / "out").k == 3


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV])
def test_folders_that_cannot_be_exchanged(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    class Refusing:
        def renameat2(self, *_: Any) -> int:
            ctypes.set_errno(code)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: Refusing())
    shutil.copytree(original, tmp_path / "out")
    publish(tmp_path / "out", original, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert open_factors(tmp_path / "out").k == 3


def test_data_that_came_to_the_output_during_a_run_are_kept(original: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Output(out, overwrite=True) as output:
        (output.scratch / MARK).mkdir(parents=True)
        shutil.copytree(original, output.scratch / "factors")
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
        with pytest.raises(bigsvd.errors.OutputExistsError, match="not a factor store"):
            output.publish()
    assert (out / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["x.csv", "x.png", "factors/x.npy", "factors"])
def test_a_region_is_stored_as_npy_or_zarr_where_nothing_is(
    original: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(original, tmp_path / "factors")
    names = sorted(tmp_path.rglob("*"))
    with pytest.raises(RequestError):
        write_region(open_factors(tmp_path / "factors"), (slice(0, 2), slice(0, 2)), str(tmp_path / name))
    assert sorted(tmp_path.rglob("*")) == names


@pytest.mark.parametrize("name", ["none/x.png", "x.pdf", "data.png", "factors/x.png", "factors/zarr.json"])
def test_a_plot_replaces_nothing_but_a_plot(original: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(original, tmp_path / "factors")
    (tmp_path / "data.png").write_text("1,2")
    with pytest.raises(RequestError):
        check_plot(str(tmp_path / name), tmp_path / "factors")
