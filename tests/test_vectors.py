"""Vectors that a request names: opened from wherever they are, and known by their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd.errors import BadInputError, ChunkMissingError, RequestError, SourceError
from bigsvd.sources.vectors import open_numbers, open_places
from bigsvd.vectors import DIGEST, digest_of

NUMBERS = np.array([0.5, 2.0, 0.0, 3.25])


def stored(folder: Path, kind: str, values: np.ndarray) -> str:
    """The values in a file of that kind; its path."""
    path = folder / f"values.{kind}"
    if kind == "npy":
        np.save(path, values)
    else:
        zarr.create_array(str(path), data=values, zarr_format=3 if kind == "zarr3" else 2)
    return str(path)


@pytest.mark.parametrize("kind", ["npy", "zarr2", "zarr3"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", ">f8"])
def test_numbers_come_from_a_path(tmp_path: Path, kind: str, dtype: str) -> None:
    values = np.array([4, 0, 1, 7]).astype(dtype)
    path = stored(tmp_path, kind, values)
    found = open_numbers("weights", path)
    assert found.name == path
    assert found.values.dtype == np.float64
    np.testing.assert_array_equal(found.values, values)
    assert open_numbers("weights", Path(path)).digest == found.digest == digest_of(found.values)
    np.testing.assert_array_equal(open_numbers("weights", f"file://{path}").values, values)


@pytest.mark.parametrize("wrapped", [list, tuple, np.ma.MaskedArray, lambda x: da.from_array(x, chunks=2)])
def test_numbers_in_memory_are_called_by_their_digest(wrapped: Any) -> None:
    found = open_numbers("weights", wrapped(NUMBERS))
    assert found.name == found.digest == digest_of(NUMBERS)
    assert found.name.startswith(DIGEST)
    np.testing.assert_array_equal(found.values, NUMBERS)


def test_a_vector_is_a_copy_that_nobody_writes_into() -> None:
    mine = NUMBERS.copy()
    found = open_numbers("weights", mine)
    mine[0] = 9.0
    assert found.values[0] == NUMBERS[0]
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 1.0


def test_other_values_have_another_digest() -> None:
    others = (NUMBERS[:3], NUMBERS + np.spacing(NUMBERS), NUMBERS > 1, np.array([1, 0]), np.array([], float))
    assert len({digest_of(values) for values in (NUMBERS, *others)}) == 6


def test_cf_attributes_of_numbers_are_applied(tmp_path: Path) -> None:
    array = zarr.create_array(str(tmp_path / "packed"), data=np.array([3, 5, -9], np.int16))
    array.attrs.update({"scale_factor": 0.5, "add_offset": 1.0, "_FillValue": -9})
    with pytest.raises(
        RequestError, match=r"weights=.*packed has 1 of 3 values that are not finite, the first nan at 2"
    ):
        bigsvd.plan(np.ones((3, 3)), 1, weights=str(tmp_path / "packed"))
    array[2] = 7
    np.testing.assert_array_equal(
        open_numbers("weights", str(tmp_path / "packed")).values, np.array([2.5, 3.5, 4.5])
    )


@pytest.mark.parametrize(
    ("given", "dtype"),
    [([3, 0, 3], "int64"), (np.array([3, 1], np.uint8), "int64"), ([True, False], "bool")],
)
def test_places_are_indices_or_truth_values(tmp_path: Path, given: Any, dtype: str) -> None:
    for found in (
        open_places("rows", given),
        open_places("rows", stored(tmp_path, "zarr3", np.asarray(given))),
    ):
        assert found.values.dtype == dtype
        np.testing.assert_array_equal(found.values, given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 2)), r"has shape \(2, 2\) for 2 columns; give one for each$"),
        (3.0, r"has shape \(\)"),
        (["a", "b"], "not real numbers"),
        ([1 + 2j], "not real numbers"),
        ([1.0, np.nan], r"1 of 2 values that are not finite, the first nan at 1"),
        (np.ma.MaskedArray([1.0, 2.0], [True, False]), "masked"),
        ([[1.0], [2.0, 3.0]], "is no array"),
    ],
)
def test_what_is_no_vector_of_numbers_is_refused(given: Any, said: str) -> None:
    with pytest.raises(RequestError, match=f"weights .*{said}"):
        bigsvd.plan(np.ones((3, 2)), 1, weights=given)


@pytest.mark.parametrize("given", [[0.5, 1.0], np.array([2**63], np.uint64), ["a"]])
def test_what_is_no_place_is_refused(given: Any) -> None:
    with pytest.raises(RequestError, match=r"rows holds .*, not indices"):
        open_places("rows", given)


def test_what_cannot_be_read_names_option_and_place(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no numbers")
    zarr.create_group(str(tmp_path / "group"))
    for place, said in (
        ("nowhere", "does not exist"),
        ("pickled.npy", "pickle"),
        ("text.npy", "does not begin as a .npy file does"),
    ):
        with pytest.raises(SourceError, match=f"weights.*{place}.*{said}"):
            open_numbers("weights", str(tmp_path / place))
    with pytest.raises(BadInputError, match="group"):
        open_numbers("weights", str(tmp_path / "group"))


def test_a_chunk_that_is_gone_is_not_read_as_fill_value(tmp_path: Path) -> None:
    array = zarr.create_array(str(tmp_path / "w"), shape=(4,), chunks=(2,), dtype="float64")
    array[:2] = 1.0
    with pytest.raises(ChunkMissingError, match="c/1"):
        open_numbers("weights", str(tmp_path / "w"))


def test_a_digest_cannot_be_opened() -> None:
    with pytest.raises(
        RequestError, match=r"in memory when the request was made.*give the values again as rows="
    ):
        open_places("rows", digest_of(NUMBERS))
