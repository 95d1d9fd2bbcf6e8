"""File systems that refuse flock, fsync of folders or exchange: a result is published all the same."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
from dataclasses import asdict, replace
from json import dumps
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import bigsvd
from bigsvd.errors import OutputBusyError, RequestError
from bigsvd.results.export import check_plot, write_region
from bigsvd.results.factors import open_factors
from bigsvd.results.lock import Holder
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


def refusing_locks(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


NO_LOCK = [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL]


@pytest.mark.parametrize("code", NO_LOCK)
def test_without_flock_one_run_at_a_time_holds_an_output(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refusing_locks(monkeypatch, code)
    out = tmp_path / "out"
    with (
        Output(out, overwrite=False),
        pytest.raises(OutputBusyError, match=f"process {os.getpid()}"),
        Output(out, overwrite=False),
    ):
        pass
    publish(out, original, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("flock", [True, False])
@pytest.mark.parametrize("holder", ["ended", "of a later process", "elsewhere", "unknown"])
def test_a_lock_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flock: bool, holder: str
) -> None:
    """Of an ended process of this machine it is taken over; of another machine what to do is said."""
    if not flock:
        refusing_locks(monkeypatch, errno.ENOSYS)
    here = Holder.here(flocked=False)
    left = {
        "ended": replace(here, pid=2**22 + 1),
        "of a later process": replace(here, started=here.started - 1000),
        "elsewhere": replace(here, machine="other"),
    }
    lock = tmp_path / ".out.bigsvd-lock"
    lock.write_text(dumps(asdict(left[holder])) if holder in left else "")
    os.utime(lock, (1e9, 1e9))
    if holder == "elsewhere":
        with (
            pytest.raises(OutputBusyError, match="on other, since") as caught,
            Output(tmp_path / "out", overwrite=False),
        ):
            pass
        assert f"delete {lock}" in caught.value.remedy
        return
    with Output(tmp_path / "out", overwrite=False):
        pass
    assert list(tmp_path.iterdir()) == []


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
        check_plot(str(tmp_path / name), open_factors(tmp_path / "factors"))
