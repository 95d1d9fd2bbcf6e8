"""What a run leaves behind: nothing of what was refused, and of what was stopped all that continues it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client

import bigsvd
from bigsvd import cli
from bigsvd.errors import BadInputError, FactorStoreError, OutputExistsError
from bigsvd.events import Certified, Event, GivenUp, PlanMade
from bigsvd.planning.plan import PLAN_VERSION
from bigsvd.results import folders
from bigsvd.results.folders import scratch_path
from bigsvd.scratch import Scratch

A = np.random.default_rng(9).standard_normal((120, 40))
SIGMA = np.linalg.svd(A, compute_uv=False)
DASK = da.from_array(A, chunks=(30, 40))


class StoppedError(Exception):
    """Raised by a progress callback to end a run in the middle."""


def stop_after_a_pass(event: Event) -> None:
    if isinstance(event, Certified):
        raise StoppedError


@pytest.fixture(scope="module")
def factors(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Factors of A."""
    path = tmp_path_factory.mktemp("factors") / "factors"
    bigsvd.svd(A, 3, path, client=client)
    return path


def everything_below(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# Zarr's default format


@pytest.mark.parametrize("stopped", [2, 3])
@pytest.mark.parametrize("continued", [2, 3])
def test_a_run_is_continued_whatever_format_is_the_default_of_zarr(
    client: Client, tmp_path: Path, stopped: int, continued: int
) -> None:
    out = tmp_path / "out"
    seen: list[Event] = []
    options: dict[str, Any] = {"method": "krylov", "tol": 1e-9, "client": client}
    with zarr.config.set({"default_zarr_format": stopped}), pytest.raises(StoppedError):
        bigsvd.svd(A, 3, out, progress=stop_after_a_pass, **options)
    with zarr.config.set({"default_zarr_format": continued}):
        found = bigsvd.svd(A, 3, out, progress=seen.append, **options)
    assert [event.resumed for event in seen if isinstance(event, PlanMade)] == [True]
    np.testing.assert_allclose(found.s, SIGMA[:3], rtol=1e-9)
    assert not [name for name in everything_below(tmp_path) if Path(name).name in (".zgroup", ".zarray")]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


TWICE = """
import sys, numpy, zarr, bigsvd

def show(event):
    if event["event"] == "plan":
        print(zarr.config.get("default_zarr_format"), event["resumed"])
    if event["event"] == "certificate" and stopping:
        raise KeyboardInterrupt

values = numpy.random.default_rng(9).standard_normal((120, 40))
for stopping in (True, False):
    try:
        bigsvd.svd(values, 3, sys.argv[1], method="krylov", tol=1e-9, progress=show)
    except KeyboardInterrupt:
        print("stopped")
"""


def test_a_run_is_continued_where_the_environment_says_format_2(tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", TWICE, str(tmp_path / "out")],
        env=os.environ | {"ZARR_DEFAULT_ZARR_FORMAT": "2"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome.stdout.splitlines() == ["2 False", "stopped", "2 True"], outcome.stderr
    np.testing.assert_allclose(bigsvd.open(tmp_path / "out").s, SIGMA[:3], rtol=1e-9)


# Refused input


def damaged(folder: Path, spoil: Callable[[Path], Any]) -> Path:
    zarr.create_array(folder / "a.zarr", data=A, chunks=(30, 20))
    spoil(folder / "a.zarr" / "c" / "3" / "1")
    return folder / "a.zarr"


def with_nan() -> np.ndarray:
    values = A.copy()
    values[100, 3] = np.nan
    return values


# What is refused: the source, made in the current folder, k, and options that are made from factors of A.
REFUSED: dict[str, tuple[Callable[[Path], Any], Any, Callable[[Path], dict[str, Any]]]] = {
    "missing chunk": (lambda here: damaged(here, Path.unlink), 3, lambda _: {}),
    "damaged chunk": (lambda here: damaged(here, lambda chunk: chunk.write_bytes(b"x")), 3, lambda _: {}),
    "zeros": (lambda _: np.zeros((30, 20)), "auto", lambda _: {}),
    "NaN": (lambda _: with_nan(), 3, lambda _: {}),
    "no data": (lambda here: here / "none.zarr", 3, lambda _: {}),
    "masked": (lambda _: np.ma.masked_less(A, -1), 3, lambda _: {}),
    "masked blocks": (lambda _: da.ma.masked_less(DASK, -1), 3, lambda _: {}),
    "unknown shape": (lambda _: DASK[DASK[:, 0] > 0], 3, lambda _: {}),
    "complex": (lambda _: A + 1j, 3, lambda _: {}),
    "k too large": (lambda _: A, 41, lambda _: {}),
    "too little memory": (lambda _: A, 3, lambda _: {"memory": 1000}),
    "no warm start": (lambda _: A, 3, lambda _: {"warm_start": "nowhere"}),
    "warm start of data": (lambda here: damaged(here, bytes), 3, lambda _: {"warm_start": "a.zarr"}),
    "warm start of another size": (lambda _: A[:, :30], 3, lambda found: {"warm_start": found}),
    "a device that is not there": (lambda _: A, 3, lambda _: {"device": "tpu"}),
    "a share above 1": (lambda _: A, "auto", lambda _: {"energy": 2.0}),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("embedded", [False, True])
def test_what_is_refused_leaves_nothing_behind(
    client: Client, factors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, embedded: bool
) -> None:
    """Neither scratch nor a lock file nor a folder that was made for the output."""
    monkeypatch.chdir(tmp_path)
    make, k, options = REFUSED[name]
    source = make(tmp_path)
    before = everything_below(tmp_path)
    with pytest.raises(BadInputError) as caught:
        bigsvd.svd(source, k, "deep/er/out", client=None if embedded else client, **options(factors))
    assert caught.value.exit_status == 2
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("name", ["missing chunk", "zeros", "NaN", "no warm start", "unknown shape"])
def test_what_is_refused_leaves_the_result_that_was_there(
    client: Client, factors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bigsvd.svd(A, 2, "out", client=client)
    make, k, options = REFUSED[name]
    source = make(tmp_path)
    before = everything_below(tmp_path)
    with pytest.raises(BadInputError):
        bigsvd.svd(source, k, "out", overwrite=True, client=client, **options(factors))
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("name", ["missing chunk", "damaged chunk", "no data"])
def test_a_command_that_is_refused_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    source = REFUSED[name][0](tmp_path)
    before = everything_below(tmp_path)
    ended = CliRunner().invoke(cli.main, ["svd", str(source), str(tmp_path / "deep/out"), "-k", "3"])
    assert ended.exit_code == 2, ended.output
    assert everything_below(tmp_path) == before


# Words for what is no factor store


def in_format_2(path: Path) -> None:
    zarr.create_array(path, data=A, chunks=(30, 40), zarr_format=2)


def anndata_like(path: Path) -> None:
    zarr.create_group(path, attributes={"encoding-type": "anndata"})


def without_json(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text("{")


def of_later_format(path: Path, factors: Path) -> None:
    found = json.loads((factors / "zarr.json").read_text())
    found["attributes"]["bigsvd"]["format_version"] = 99
    path.mkdir()
    (path / "zarr.json").write_text(json.dumps(found))


def begun(path: Path) -> None:
    """The output of a run that was stopped."""
    with pytest.raises(StoppedError):
        bigsvd.svd(A, 3, path, method="krylov", tol=1e-9, progress=stop_after_a_pass)


def scratch_at(path: Path) -> None:
    begun(path.with_name("begun"))
    scratch_path(path.with_name("begun")).rename(path)


WORDS: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "array": (lambda path, _: zarr.create_array(path, data=A), "a Zarr array, not a factor store"),
    "array of format 2": (lambda path, _: in_format_2(path), "a Zarr array, not a factor store"),
    "group": (lambda path, _: zarr.create_group(path), "a Zarr group, not a factor store"),
    "group of format 2": (
        lambda path, _: zarr.create_group(path, zarr_format=2),
        "a Zarr group, not a factor store",
    ),
    "AnnData": (lambda path, _: anndata_like(path), "an AnnData store, not a factor store"),
    "file": (lambda path, _: path.write_text("1,2"), "a file, not a factor store"),
    "folder": (lambda path, _: (path / "x").mkdir(parents=True), "a folder of other things, not a factor"),
    "empty folder": (lambda path, _: path.mkdir(), "an empty folder is there"),
    "nothing": (lambda *_: None, "nothing is there"),
    "scratch": (lambda path, _: scratch_at(path), "the scratch of a run, not a factor store"),
    "a run that has not ended": (lambda path, _: begun(path), "of a run that has not ended"),
    "a later format": (of_later_format, r"of format 99, this bigsvd .* reads formats 1, 2 and 3"),
    "no JSON": (lambda path, _: without_json(path), "is no JSON object"),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_is_no_factor_store_is_called_what_it_is(factors: Path, tmp_path: Path, name: str) -> None:
    make, said = WORDS[name]
    given = tmp_path / "given"
    make(given, factors)
    before = everything_below(tmp_path)
    with pytest.raises(FactorStoreError, match=said) as caught:
        bigsvd.open(given)
    assert ("damaged" in str(caught.value)) == (name == "no JSON")
    for command in (["info"], ["rank"], ["verify"], ["reconstruct", "--rows", "0:1"]):
        ended = CliRunner().invoke(cli.main, [command[0], str(given), *command[1:]])
        assert ended.stderr == f"{caught.value}\n"
        assert ended.exit_code == 2
    assert everything_below(tmp_path) == before


# Scratch of another request


OTHER: dict[str, dict[str, Any]] = {"k": {"k": 4}, "seed": {"seed": 1}, "center": {"center": True}}


def leave_passes(client: Client, out: Path) -> dict[str, Any]:
    """The request of a run that was stopped after a pass."""
    request: dict[str, Any] = {"k": 3, "seed": 0, "tol": 1e-9, "method": "krylov"}
    with pytest.raises(StoppedError):
        bigsvd.svd(A, out=out, progress=stop_after_a_pass, client=client, **request)
    assert Scratch(scratch_path(out)).recorded("checksums") is not None
    return request


@pytest.mark.parametrize("name", OTHER)
def test_finished_passes_of_another_request_are_given_up_for_overwrite_only(
    client: Client, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    seen: list[Event] = []
    request = leave_passes(client, out)
    other, before = request | OTHER[name], everything_below(tmp_path)
    with pytest.raises(OutputExistsError, match=f"another request: {name}=.* \\(now {other[name]!r}\\)"):
        bigsvd.svd(A, out=out, client=client, **other)
    assert everything_below(tmp_path) == before
    found = bigsvd.svd(A, out=out, overwrite=True, client=client, progress=seen.append, **other)
    (given_up,) = [event for event in seen if isinstance(event, GivenUp)]
    assert given_up["scratch"] == str(scratch_path(out))
    assert [difference.split("=")[0] for difference in given_up["differences"]] == [name]
    centred = A - A.mean(axis=0) if name == "center" else A
    np.testing.assert_allclose(found.s, np.linalg.svd(centred, compute_uv=False)[: found.k], rtol=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_finished_passes_of_another_version_are_given_up_for_overwrite_only(
    client: Client, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    request = leave_passes(client, out)
    scratch = Scratch(scratch_path(out))
    left = scratch.recorded("run")
    assert left is not None
    scratch.record("run", left | {"plan": left["plan"] | {"version": PLAN_VERSION - 1}})
    before = everything_below(tmp_path)
    with pytest.raises(
        OutputExistsError, match="finished passes of another version of bigsvd; continue it with that version"
    ):
        bigsvd.svd(A, out=out, client=client, **request)
    assert everything_below(tmp_path) == before
    found = bigsvd.svd(A, out=out, overwrite=True, client=client, **request)
    np.testing.assert_allclose(found.s, SIGMA[:3], rtol=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_vanishes_from_the_scratch_of_a_run_at_work_is_nobodys(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_passes(client, tmp_path / "out")
    scratch = scratch_path(tmp_path / "out")
    entries = folders._entries

    def just_before(folder: Path) -> list[os.DirEntry[str]]:
        found = entries(folder)
        if any(entry.name == "done" for entry in found):
            shutil.rmtree(folder)
        return found

    monkeypatch.setattr(folders, "_entries", just_before)
    before = len(list(scratch.iterdir()))
    assert folders.foreign_in_scratch(scratch) is None
    monkeypatch.undo()
    assert len(list(scratch.iterdir())) < before
    (scratch / "note.txt").write_text("mine")
    assert folders.foreign_in_scratch(scratch) == scratch / "note.txt"


def test_a_command_says_what_it_gives_up(tmp_path: Path, client: Client) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=A, chunks=(30, 40))
    out = tmp_path / "out"
    request: dict[str, Any] = {"tol": 1e-9, "method": "krylov", "progress": stop_after_a_pass}
    with pytest.raises(StoppedError):
        bigsvd.svd(tmp_path / "a.zarr", 3, out, client=client, **request)
    command = ["svd", str(tmp_path / "a.zarr"), str(out), "-k", "3", "--tol", "1e-9", "--method", "krylov"]
    refused = CliRunner().invoke(cli.main, [*command, "--seed", "5"])
    assert refused.exit_code == 2
    assert "--seed 0 (now 5)" in refused.stderr
    done = CliRunner().invoke(cli.main, [*command, "--seed", "5", "--overwrite"])
    assert done.exit_code == 0
    assert "begun anew: seed=0 (now 5)" in done.stderr
    np.testing.assert_allclose(bigsvd.open(out).s, SIGMA[:3], rtol=1e-9)


# Files that a person asks for


@pytest.mark.parametrize(
    "command",
    [
        ["rank", "FACTORS", "--plot", "mine.png"],
        ["rank", "FACTORS", "--plot", "folder"],
        ["rank", "FACTORS", "--plot", "none/x.png"],
        ["reconstruct", "FACTORS", "mine.npy"],
        ["reconstruct", "FACTORS", "folder"],
        ["reconstruct", "FACTORS", "link.npy"],
        ["reconstruct", "FACTORS", "new.csv"],
        ["demo", "--dir", "folder"],
        ["demo", "--dir", "mine.png"],
    ],
    ids=" ".join,
)
def test_commands_replace_no_file_of_anybody(
    factors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.png", "mine.npy", "folder/thesis.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("mine")
    Path("link.npy").symlink_to("nowhere.npy")
    before, store = everything_below(tmp_path), everything_below(factors)
    ended = CliRunner().invoke(cli.main, [str(factors) if word == "FACTORS" else word for word in command])
    assert ended.exit_code == 2, ended.output
    assert ended.stderr.startswith("error[E_")
    assert (everything_below(tmp_path), everything_below(factors)) == (before, store)
