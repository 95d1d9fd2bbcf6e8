"""What a person reads who has typed something else than was meant: what is wrong, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import bigsvd
from bigsvd.cli import main
from bigsvd.errors import RequestError, ShapeError
from bigsvd.request import Request
from bigsvd.sources.open import open_source
from bigsvd.sources.vectors import open_numbers

RNG = np.random.default_rng(5)
FIELD = RNG.standard_normal((24, 4, 6))
K = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matrix, a field, and factors of both."""
    folder = tmp_path_factory.mktemp("messages")
    zarr.create_array(folder / "a", data=FIELD.reshape(24, 24)[:, :20], chunks=(12, 20))
    zarr.create_array(folder / "sst", data=FIELD, chunks=(12, 4, 6), dimension_names=("time", "y", "x"))
    zarr.create_array(folder / "line", data=np.arange(7.0))
    np.save(folder / "w.npy", np.ones(19))
    bigsvd.svd(folder / "a", K, folder / "of_a")
    bigsvd.svd(folder / "sst", K, folder / "of_sst", dim="time", center=True)
    return folder


def refused(*arguments: object) -> str:
    """The error of a command that ends with 2, without its code."""
    ended = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert ended.exit_code == 2, ended.output
    [line] = ended.stderr.splitlines()
    return line.partition(": ")[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rows", "5"), "--rows 5 is one number, not a range; give start:stop, such as 0:5"),
        (("--cols=-3",), "--cols -3 is one number, not a range; give start:stop, such as 0:3"),
        (("--rows", "a:b"), "--rows a:b does not exist; check the path, or give a range such as 0:100"),
        (("--scale=stdd",),
         "--scale stdd does not exist; use std; the rules are std, std-observed, patterson, binom2"),
        (("--scale", "stdd"), "Got unexpected extra argument (stdd): --scale stdd is no rule; use std; the "
         "rules are std, std-observed, patterson, binom2"),
        (("--scale", "w.npy"), "Got unexpected extra argument (w.npy): --scale w.npy is no rule; use "
         "--scale=w.npy for given numbers; the rules are std, std-observed, patterson, binom2"),
        (("--scale=no.npy",), "--scale no.npy does not exist; use a path that exists; the rules are std, "
         "std-observed, patterson, binom2"),
        (("--scale=w.npy",), "--scale w.npy has 19 values for 20 columns; give one for each"),
        (("--functions", "log"), "--functions log is not known; use some of normalize_total, log1p, sqrt, "
         "asinh, anscombe, clip, binarize"),
        (("--functions", "clip"), "--functions clip cannot be read; write it as clip:MAX or clip:MIN:MAX"),
        (("--device", "cpu", "--device-memory", "1GB"),
         "--device-memory 1000000000 with --device cpu, which has no memory of its own; "
         "drop --device-memory"),
    ],
)  # fmt: skip
def test_what_an_option_cannot_mean_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(folder)
    assert refused("plan", "a", "-k", K, *options) == said


def test_the_axis_of_the_samples_is_asked_for_as_it_is_typed(folder: Path) -> None:
    assert refused("plan", folder / "sst", "-k", K).endswith(
        "sst has shape (24, 4, 6); name the axis of the samples by --dim AXIS: time, y or x; "
        "the others are stacked"
    )


def test_another_mistake_beside_a_bare_scale_is_the_one_that_is_said() -> None:
    assert "No such option" in refused("plan", "a", "-k", K, "--scale", "stdd", "--bogus")
    assert refused("plan", "a", "b", "--scale", "-k", K) == "Got unexpected extra argument (b); see --help"


def test_weights_for_latitudes_are_told_how_many_places_there_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    options = ("--dim", "time", "--weights", "w.npy")
    assert refused("plan", "sst", "-k", K, *options) == (
        "--weights w.npy has 19 values for 24 places of y x x (4 x 6); give one for each, or an array that "
        "broadcasts to (4, 6), such as one of shape (4, 1) for y alone"
    )


@pytest.mark.parametrize("option", ["offset", "scale", "weights", "row_weights"])
def test_nan_among_given_numbers_is_counted_and_placed(option: str) -> None:
    given: Any = np.array([1.0, np.nan, np.nan, 2.0])
    neutral = {"scale": "1"}.get(option, "0")
    with pytest.raises(RequestError, match=f"^error.*{option} has 2 of 4 values that are not finite, the "
                                           f"first nan at 1; replace them by {neutral}, which"):  # fmt: skip
        bigsvd.plan(np.ones((4, 4)), 1, **{option: given})


@pytest.mark.parametrize("rows", [5, np.int64(5), "5"])
def test_one_number_selects_nothing_in_python_either(rows: Any) -> None:
    with pytest.raises(RequestError, match="rows=5 is one number"):
        bigsvd.plan(FIELD[:, 0], K, rows=rows)


def test_an_array_of_one_axis_is_no_matrix(folder: Path) -> None:
    assert refused("plan", folder / "line", "-k", 1).endswith(
        "line has shape (7,), one axis; give an array of two axes or more"
    )
    with pytest.raises(ShapeError, match=r"one axis; give an array of two axes or more$"):
        open_source(np.arange(7.0))


# Options that have no effect


def test_options_without_what_they_act_on_are_refused(folder: Path) -> None:
    for option in (("--scheduler", "tcp://a:1"), ("--device", "cpu"), ("--storage-option", "anon=true")):
        assert refused("verify", folder / "of_a", *option) == (
            f"{option[0]} has no effect without DATA; give both, or neither"
        )
    assert refused("reconstruct", folder / "of_a", "--storage-option", "anon=true") == (
        "--storage-option has no effect without --gaps PATH; give both, or neither"
    )


def test_a_matrix_is_not_unstacked(folder: Path, tmp_path: Path) -> None:
    assert refused("reconstruct", folder / "of_a", tmp_path / "r.npy", "--unstack") == (
        "the factors are of a matrix (24, 20), of which no axes were stacked; drop --unstack"
    )
    factors = bigsvd.open(folder / "of_a")
    with pytest.raises(
        RequestError, match=r"shape \(7,\) do not have 20 features; give \(20,\) or \(r, 20\)"
    ):
        factors.unstacked(np.zeros(7))
    np.testing.assert_array_equal(factors.unstacked(np.arange(20)), np.arange(20))


def test_nothing_is_staged_of_what_lies_in_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FIELD[:, 0])
    for source in (FIELD[:, 0], tmp_path / "a.npy"):
        with pytest.raises(RequestError, match=r"stage=.* whose entries are read where they lie; drop stage"):
            bigsvd.plan(source, K, stage=tmp_path / "stage")


def test_memory_of_a_device_that_has_none_is_refused() -> None:
    with pytest.raises(RequestError, match="device_memory=100 with device='cpu'"):
        Request("a", K, device="cpu", device_memory=100)


def test_gaps_take_no_other_words_of_reading(folder: Path) -> None:
    with pytest.raises(TypeError, match="rows"):
        bigsvd.with_gaps(bigsvd.open(folder / "of_a"), rows="0:3")  # type: ignore[call-arg]


# Samples along the axes of the data


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_samples_are_projected_along_the_axes_of_the_data(axis: int) -> None:
    data = np.moveaxis(FIELD, 0, axis)
    factors = bigsvd.svd(data, K, dim=axis, center=True)
    np.testing.assert_allclose(factors.project(data), factors.scores, atol=1e-9)
    np.testing.assert_allclose(factors.project(FIELD.reshape(24, -1)), factors.scores, atol=1e-9)
    np.testing.assert_allclose(factors.project(FIELD[3]), factors.scores[3], atol=1e-9)
    np.testing.assert_allclose(factors.project(FIELD[3].reshape(-1)), factors.scores[3], atol=1e-9)
    shape = ["4", "6"]
    shape.insert(axis, "r")
    form = rf"features; give \({', '.join(shape)}\), \(r, 24\) or \(24,\)$"
    for other in (np.zeros((24, 6, 5)), np.zeros((3, 4)), np.zeros(5), np.zeros(())):
        with pytest.raises(RequestError, match=form):
            factors.project(other)


def test_samples_are_projected_by_the_names_of_their_axes() -> None:
    """A map on its side is not taken for another, though a square one would fit."""
    square = np.random.default_rng(5).standard_normal((20, 4, 4))
    field = xr.DataArray(square, dims=("time", "y", "x"))
    factors = bigsvd.svd(field, K, dim="time", center=True)
    other = field.rename(time="new").transpose("x", "y", "new")
    for turned in (field, field.transpose("x", "time", "y"), field.transpose("x", "y", "time"), other):
        np.testing.assert_allclose(factors.project(turned), factors.scores, atol=1e-9)
    np.testing.assert_allclose(factors.project(field[3].T), factors.scores[3], atol=1e-9)
    matrix = xr.DataArray(square[:, 0], dims=("time", "x"))
    factors = bigsvd.svd(matrix, 2, samples="time")
    np.testing.assert_allclose(factors.project(matrix.T), factors.scores, atol=1e-9)


@pytest.mark.parametrize("dim", [(0, 1), ["time"], np.arange(24), 1.5])
@pytest.mark.parametrize("how", ["dim", "sum"])
def test_an_axis_is_asked_for_by_a_name_or_a_number(dim: Any, how: str) -> None:
    options: dict[str, Any] = {"dim": 0} | {how: dim}
    with pytest.raises(RequestError, match=r"by its name or number|give its name or number"):
        bigsvd.plan(FIELD, K, **options)


def test_samples_of_selected_places_are_projected_whole() -> None:
    taken = np.arange(24) % 3 > 0
    factors = bigsvd.svd(FIELD, K, dim=0, cols=taken)
    np.testing.assert_allclose(factors.project(FIELD), factors.scores, atol=1e-9)


# Numbers in other files


def test_what_holds_no_places_is_told_by_option_and_path(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savetxt("ids.txt", [1, 2])
    np.save("w.npy", np.ones(20))
    data = folder / "a"
    assert refused("plan", data, "-k", K, "--cols", "w.npy").startswith("--cols w.npy holds float64, not ind")
    assert refused("plan", data, "-k", K, "--rows", "ids.txt").startswith("--rows ids.txt is a file, not a Z")
    np.save("mask.npy", np.ones(7, bool))
    assert refused("plan", data, "-k", K, "--cols", "mask.npy").startswith(
        "--cols mask.npy has 7 truth values"
    )
    np.save("far.npy", [3, 90])
    assert refused("plan", data, "-k", K, "--rows", "far.npy").startswith("--rows far.npy selects 90 of 24;")
    np.save("words.npy", np.array(["a"]))
    said = refused("plan", data, "-k", K, "--weights", "words.npy")
    assert said.startswith("--weights words.npy holds <U1, not real numbers")


def test_data_that_cannot_be_read_as_then_are_other_data(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify` has no options of axes: it is not told to change them."""
    monkeypatch.chdir(folder)
    assert refused("verify", "of_sst", "line") == (
        f"line cannot be read as {folder}/sst was (line has shape (7,), one axis); give the data the factors "
        "were computed from"
    )
    np.save(tmp_path / "cube.npy", FIELD[:, :, :, None])
    assert "give the data the factors were computed from" in refused(
        "verify", "of_sst", tmp_path / "cube.npy"
    )


def test_the_axes_of_an_npy_file_are_asked_for_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("field.npy", FIELD)
    assert refused("plan", "field.npy", "-k", K).startswith("field.npy has shape (24, 4, 6); name the axis")
    assert refused("plan", "field.npy", "-k", K, "--dim", "time").startswith("field.npy has no axis 'time'")


def test_numbers_come_from_hdf5_and_zip_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "sst.nc", "w") as file:
        file["grid/w"] = np.array([3, 5], np.int16)
        file["grid/w"].attrs["scale_factor"] = 0.5
    np.testing.assert_array_equal(
        open_numbers("weights", tmp_path / "sst.nc" / "grid" / "w").values, [1.5, 2.5]
    )
    with zarr.storage.ZipStore(tmp_path / "w.zip", mode="w") as store:
        zarr.create_array(store, name="w", data=np.array([2.0, 4.0]))
    np.testing.assert_array_equal(open_numbers("weights", tmp_path / "w.zip" / "w").values, [2.0, 4.0])
    with pytest.raises(bigsvd.errors.SourceError, match=r"without 'v', but .* grid/w"):
        open_numbers("weights", tmp_path / "sst.nc" / "v")
