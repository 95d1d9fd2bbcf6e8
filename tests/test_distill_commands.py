"""`bigsvd distill fit` and `predict` as they are typed: from a decomposition to factors of data with gaps."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd import distill
from tests.commands import done, refused
from tests.students import Law, N, R, gaps

LAW = Law.of()


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A command takes over Ctrl-C; the tests take it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, its data, and new data with gaps."""
    folder = tmp_path_factory.mktemp("commands")
    complete = LAW.rows(300, 2)
    zarr.create_array(folder / "old.zarr", data=LAW.rows(800, 1), chunks=(200, N))
    zarr.create_array(folder / "new.zarr", data=np.where(gaps(complete.shape, 0.3), np.nan, complete))
    bigsvd.svd(folder / "old.zarr", R, folder / "teacher", center=True)
    done(
        "distill", "fit", folder / "teacher", "-o", folder / "student", "--stages", "ridge,mixture", "--quiet"
    )
    return folder


def test_a_fit_says_beforehand_what_it_will_hold(home: Path) -> None:
    told = done("distill", "fit", home / "teacher", "-o", home / "no", "--plan", "--stages", "ridge").out
    assert "holds" in told
    assert not (home / "no").exists()
    shutil.copytree(home / "old.zarr", home / "moved.zarr")
    where = ("--source", home / "moved.zarr", "--plan", "--stages", "ridge")
    assert "holds" in done("distill", "fit", home / "teacher", "-o", home / "no", *where).out
    line = refused(2, "distill", "fit", home / "teacher", "-o", home / "no", "--memory", "1MB", "--quiet")
    assert line.startswith("error[E_MEMORY]")


def test_a_student_that_was_fitted_predicts(home: Path, tmp_path: Path) -> None:
    ended = done("distill", "predict", home / "student", home / "new.zarr", tmp_path / "out", "-k", 3)
    assert "mixture" in ended.err
    factors = bigsvd.open(tmp_path / "out")
    assert factors.predicted is not None
    assert factors.predicted.teacher == str(home / "teacher")
    again = distill.predict(home / "student", home / "new.zarr", tmp_path / "again", k=3)
    np.testing.assert_array_equal(again.U[:], factors.U[:])


def test_what_cannot_teach_is_refused_in_one_line(home: Path, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "gone.zarr", data=LAW.rows(50, 1), chunks=(50, N))
    bigsvd.svd(tmp_path / "gone.zarr", 2, tmp_path / "teacher")
    shutil.rmtree(tmp_path / "gone.zarr")
    where = ("-o", tmp_path / "student", "--quiet", "--stages", "ridge")
    assert "error[E_TEACHER]" in refused(2, "distill", "fit", tmp_path / "teacher", *where)
    assert "error[E_K]" in refused(2, "distill", "fit", home / "teacher", *where, "--components", R + 1)
    assert "error[E_FACTORS]" in refused(2, "distill", "fit", home / "student", *where)
    out = ("-o", home / "student", "--quiet", "--stages", "ridge")
    assert "error[E_OUTPUT_EXISTS]" in refused(2, "distill", "fit", home / "teacher", *out)
    assert not (tmp_path / "student").exists()


SCRIPT = """
import os, signal, sys
from bigsvd.cli import main
from bigsvd.distill import learning
fitted = learning.fit_mixture
def struck(*given):
    os.kill(os.getpid(), signal.SIGINT)
    return fitted(*given)
learning.fit_mixture = struck
main(sys.argv[1:])
"""


def test_a_fit_that_was_interrupted_goes_on(home: Path, tmp_path: Path) -> None:
    given = ("distill", "fit", home / "teacher", "-o", tmp_path / "student", "--stages", "ridge,mixture")
    command = [sys.executable, "-c", SCRIPT, *map(str, given)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    last = ended.stderr.splitlines()[-1]
    assert last == "error[E_INTERRUPTED]: stopped; run the same command again to resume"
    assert not (tmp_path / "student").exists()
    done(*given)
    found, whole = (distill.open_student(path) for path in (tmp_path / "student", home / "student"))
    for name, values in whole.learnt["mixture"].items():
        np.testing.assert_array_equal(found.learnt["mixture"][name], values)
