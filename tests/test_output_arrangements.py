"""Where source and output lie to each other: no run deletes or changes a byte that is not its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client
from zarr.storage import LocalStore, ZipStore

import bigsvd
from bigsvd.errors import OutputExistsError, RequestError
from bigsvd.results.folders import scratch_path

A = np.random.default_rng(6).standard_normal((40, 12))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, client: Client) -> Path:
    """A published store of A."""
    path = tmp_path_factory.mktemp("original") / "factors"
    bigsvd.svd(A, 3, path, client=client)
    return path


@pytest.fixture(scope="module")
def arranged(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data by themselves, and factors to which data and a text were added."""
    folder = tmp_path_factory.mktemp("arranged")
    zarr.create_array(folder / "a.zarr", data=A, chunks=(10, 12))
    zarr.create_array(folder / "group/x", data=A, chunks=(10, 12))
    shutil.copytree(original, folder / "both")
    zarr.create_array(folder / "both/data", data=A, chunks=(10, 12))
    shutil.copytree(original, folder / "noted")
    (folder / "noted/U/notes.txt").write_text("mine")
    (folder / "link").symlink_to("both")
    (folder / "up").symlink_to(".")
    return folder


@pytest.fixture
def place(arranged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of these as the current folder."""
    shutil.copytree(arranged, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def bytes_below(folder: Path) -> dict[str, bytes]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def zipped(path: str) -> Any:
    store = ZipStore(path, mode="w")
    zarr.create_array(store, data=A, chunks=(10, 12))
    store.close()
    return zarr.open_array(ZipStore(path, mode="r"), mode="r")


def mapped(path: str) -> Any:
    np.save(path, A)
    return np.load(path, mmap_mode="r")


def linked(name: str, to: str) -> str:
    Path(name).symlink_to(to)
    return "a.zarr"


def in_scratch(name: str) -> str:
    """Data in what has the mark of a scratch folder."""
    Path(f"{name}.scratch/.bigsvd-scratch/run").mkdir(parents=True)
    zarr.create_array(f"{name}.scratch/data", data=A)
    return f"{name}.scratch/data"


# Refused with and without overwrite: the source, made in the current folder, and the output.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "itself": (lambda: "a.zarr", "a.zarr"),
    "itself, with a slash": (lambda: "a.zarr", "a.zarr/"),
    "itself, by dots": (lambda: "a.zarr", "group/../a.zarr"),
    "itself, by a link of its parent": (lambda: "a.zarr", "up/a.zarr"),
    "itself, through the process": (lambda: "a.zarr", "/proc/self/cwd/a.zarr"),
    "its group": (lambda: "group/x", "group"),
    "the folder around": (lambda: "a.zarr", "."),
    "the folder above": (lambda: "a.zarr", ".."),
    "the root": (lambda: "a.zarr", "/"),
    "inside the array": (lambda: "a.zarr", "a.zarr/sub"),
    "inside its chunks": (lambda: "a.zarr", "a.zarr/c/9"),
    "inside, by a link": (lambda: "a.zarr", "up/a.zarr/sub"),
    "inside, of dask": (lambda: da.from_zarr("a.zarr"), "a.zarr/sub"),
    "factors with the data": (lambda: "both/data", "both"),
    "factors with the data, slash": (lambda: "both/data/", "both/"),
    "factors with the data, absolute": (lambda: str(Path("both/data").absolute()), "both"),
    "factors with the data, dots": (lambda: "group/../both/data", "both"),
    "factors with the data, a Path": (lambda: Path("both/data"), "both"),
    "factors with the data, by a link": (lambda: "both/data", "link"),
    "data by a link": (lambda: "link/data", "both"),
    "both by links": (lambda: "up/both/data", "link"),
    "data by a URL": (lambda: f"file://{Path('both/data').absolute()}", "both"),
    "data as a zarr.Array": (lambda: zarr.open_array("both/data", mode="r"), "both"),
    "data of an opened group": (lambda: zarr.open_group("both", mode="r")["data"], "both"),
    "data as a store": (lambda: LocalStore("both/data"), "both"),
    "data of dask": (lambda: da.from_zarr("both/data"), "both"),
    "data in memory": (lambda: A, "both"),
    "other data": (lambda: "a.zarr", "both"),
    "zipped in it": (lambda: zipped("both/a.zip"), "both"),
    "mapped in it": (lambda: mapped("both/a.npy"), "both"),
    "one of the factors": (lambda: "both/U", "both"),
    "a note in an array": (lambda: "a.zarr", "noted"),
    "in scratch": (lambda: in_scratch("new"), "new"),
    "in scratch, of dask": (lambda: da.from_zarr(in_scratch("new")), "new"),
    "scratch of another": (lambda: in_scratch("new") and "a.zarr", "new.scratch/out"),
    "scratch itself": (lambda: in_scratch("new") and "a.zarr", "new.scratch"),
    "scratch is a file": (lambda: Path("new.scratch").write_text("mine") and "a.zarr", "new"),
    "scratch is a link": (lambda: linked("new.scratch", "group"), "new"),
    "a link in a circle": (lambda: linked("new", "new"), "new"),
    "a file": (lambda: Path("new").write_text("mine") and "a.zarr", "new"),
    "a name too long": (lambda: "a.zarr", "n" * 250),
    "a name with NUL": (lambda: "a.zarr", "n\0"),
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_an_output_that_would_take_something_with_it_is_refused(
    place: Path, name: str, overwrite: bool
) -> None:
    make, out = REFUSED[name]
    source = make()
    before, names = bytes_below(place), sorted(place.iterdir())
    with pytest.raises((OutputExistsError, RequestError)):
        bigsvd.svd(source, 3, out, overwrite=overwrite, memory="200MB")
    assert bytes_below(place) == before
    assert sorted(place.iterdir()) == names


@pytest.mark.parametrize("source", ["group/x", "a.zarr"])
@pytest.mark.parametrize("out", ["group/factors", "deep/er/factors", "to-nothing", "to-factors"])
def test_beside_the_data_is_published(
    place: Path, original: Path, client: Client, source: str, out: str
) -> None:
    shutil.rmtree("both")
    Path("link").unlink()
    shutil.copytree(original, "old")
    Path("to-nothing").symlink_to("group/nothing")
    Path("to-factors").symlink_to("old")
    before = bytes_below(place / "group/x") | bytes_below(place / "a.zarr")
    factors = bigsvd.svd(source, 3, out, overwrite=out == "to-factors", client=client)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:3])
    assert bytes_below(place / "group/x") | bytes_below(place / "a.zarr") == before
    assert Path(out).is_symlink() == out.startswith("to-")
    assert not scratch_path(Path(out)).exists()


def test_hard_linked_chunks_keep_their_bytes(place: Path, client: Client) -> None:
    """A copy of links to the same files: replacing one of them leaves the other."""
    shutil.copytree("noted", "kept", copy_function=os.link)
    Path("noted/U/notes.txt").unlink()
    before = bytes_below(place / "kept")
    bigsvd.svd(2 * A, 3, "noted", overwrite=True, client=client)
    assert bytes_below(place / "kept") == before


@pytest.mark.parametrize("stage", ["new", "new/stage", "new.scratch/stage"])
def test_a_stage_in_the_output_is_refused(place: Path, stage: str) -> None:
    with pytest.raises(OutputExistsError, match="stage"):
        bigsvd.svd("a.zarr", 3, "new", stage=stage)
    assert not Path("new").exists()


def test_factors_may_replace_those_that_they_start_from(place: Path, original: Path, client: Client) -> None:
    shutil.copytree(original, "old")
    factors = bigsvd.svd("a.zarr", 3, "old", warm_start="old", overwrite=True, client=client)
    np.testing.assert_allclose(factors.s, np.linalg.svd(A, compute_uv=False)[:3])
