"""Arrays and attributes as plain files are what zarr-python writes and reads."""

from __future__ import annotations

import errno
import json
import pickle
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import LocalStore

from bigsvd import nodes
from bigsvd.nodes import (
    DamagedNodeError,
    create_array,
    group_metadata,
    open_array,
    read_array,
    read_attributes,
    write_array,
)

VALUES = arrays.arrays(
    st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.uint8, np.int16]),
    arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=7),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


def new_folder(below: Path) -> Path:
    return below / str(len(list(below.iterdir())))


@settings(max_examples=60)
@given(VALUES, st.integers(1, 9))
def test_zarr_reads_what_is_written(shared: Path, values: np.ndarray, rows: int) -> None:
    folder = new_folder(shared)
    write_array(folder, values, rows, {"mine": [1, None]})
    read = zarr.open_array(folder, mode="r")
    assert (read.shape, read.dtype, read.attrs.asdict()) == (values.shape, values.dtype, {"mine": [1, None]})
    np.testing.assert_array_equal(np.asarray(read[...]), values)
    np.testing.assert_array_equal(read_array(folder), values)


@settings(max_examples=60)
@given(VALUES, st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_what_zarr_writes_is_read(shared: Path, values: np.ndarray, chunks: list[int]) -> None:
    folder = new_folder(shared)
    array = zarr.create_array(
        LocalStore(folder), shape=values.shape, chunks=tuple(chunks[: values.ndim]), dtype=values.dtype,
        filters=None, serializer=BytesCodec(endian="little"), compressors=[Crc32cCodec()], zarr_format=3,
        fill_value=7, config={"write_empty_chunks": True},
    )  # fmt: skip
    array[...] = values
    np.testing.assert_array_equal(read_array(folder), values)


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 0.5])
def test_what_was_never_written_is_filled(tmp_path: Path, fill: float) -> None:
    array = zarr.create_array(
        LocalStore(tmp_path / "a"), shape=(5,), chunks=(2,), dtype="float32", zarr_format=3,
        serializer=BytesCodec(endian="little"), compressors=[Crc32cCodec()], fill_value=fill,
    )  # fmt: skip
    array[2:4] = 1
    np.testing.assert_array_equal(open_array(tmp_path / "a")[...], [fill, fill, 1, 1, fill])


def test_attributes_are_those_of_a_group(tmp_path: Path) -> None:
    for attributes in ({"one": 1, "not": float("inf")}, {"two": {"deep": [2]}}):
        (tmp_path / "zarr.json").write_text(group_metadata(attributes))
        assert read_attributes(tmp_path) == attributes
        assert zarr.open_group(tmp_path, mode="r").attrs.asdict() == attributes


def flipped(content: bytes) -> bytes:
    return content[:9] + bytes([content[9] ^ 1]) + content[10:]


@pytest.mark.parametrize("spoil", [flipped, lambda content: content[:-1], lambda content: content + b"\0"])
def test_a_damaged_chunk_is_noticed(tmp_path: Path, spoil: Any) -> None:
    write_array(tmp_path / "a", np.arange(20.0), 20, {})
    chunk = tmp_path / "a" / "c" / "0"
    chunk.write_bytes(spoil(chunk.read_bytes()))
    with pytest.raises(DamagedNodeError, match="c/0"):
        read_array(tmp_path / "a")


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"zarr_format": 3, "node_type": "group"})])
def test_damaged_metadata_is_noticed(tmp_path: Path, text: str) -> None:
    (tmp_path / "zarr.json").write_text(text)
    with pytest.raises(DamagedNodeError, match=r"zarr\.json"):
        read_array(tmp_path)


def test_a_writer_whose_folder_is_taken_away_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer of the same name begins by removing it; half an array would read as the fill value."""
    write_chunk = nodes._write_chunk

    def then_gone(folder: Path, *what: Any) -> None:
        write_chunk(folder, *what)
        shutil.rmtree(folder)

    monkeypatch.setattr(nodes, "_write_chunk", then_gone)
    with pytest.raises(FileNotFoundError):
        write_array(tmp_path / "a", np.arange(20.0), 20, {})
    assert not (tmp_path / "a").exists()


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Slices of the first axes, all or some; of each an empty one is possible."""
    axes = draw(st.integers(1, len(shape)))
    ends = [sorted(draw(st.lists(st.integers(0, side), min_size=2, max_size=2))) for side in shape[:axes]]
    return tuple(slice(*pair) for pair in ends)


@settings(max_examples=80)
@given(st.data(), arrays.array_shapes(min_dims=1, max_dims=3, max_side=9))
def test_boxes_are_written_and_read_as_numpy_and_zarr_have_them(
    shared: Path, data: st.DataObject, shape: tuple[int, ...]
) -> None:
    chunks = tuple(data.draw(st.integers(1, 10)) for _ in shape)
    dtype = data.draw(st.sampled_from(["float64", "float32", "int16"]))
    folder = new_folder(shared)
    array = create_array(folder, shape, chunks, dtype, {})
    expected = np.full(shape, np.nan if dtype.startswith("f") else 0, dtype)
    for number in range(1, 4):
        box = data.draw(boxes(shape))
        values = np.arange(expected[box].size).reshape(expected[box].shape) + 100 * number
        array[box] = expected[box] = values.astype(dtype)
    box = data.draw(boxes(shape))
    np.testing.assert_array_equal(array[box], expected[box])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[...], expected)  # noqa: S301 - our own
    by_zarr = zarr.open_array(folder, mode="r")
    assert (by_zarr.chunks, by_zarr.dtype) == (array.chunks, array.dtype)
    np.testing.assert_array_equal(np.asarray(by_zarr[...]), expected)


def test_places_along_the_last_axis_are_read_each_by_itself(tmp_path: Path) -> None:
    values = np.arange(30.0).reshape(3, 10)
    write_array(tmp_path / "a", values, 2, {})
    wanted = np.array([7, 0, 7])
    np.testing.assert_array_equal(open_array(tmp_path / "a")[:, wanted], values[:, wanted])


def test_what_is_to_be_read_into_memory_must_all_be_there(tmp_path: Path) -> None:
    array = create_array(tmp_path / "a", (5, 2), (2, 2), "float32", {})
    array[:4] = values = np.arange(8).reshape(4, 2)
    found = np.empty((3, 2), np.float32)
    array.read_into(slice(1, 4), found)
    np.testing.assert_array_equal(found, values[1:4])
    with pytest.raises(DamagedNodeError, match="c/2/0 does not exist"):
        array.read_into(slice(2, 5), found)


def test_a_chunk_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """Where the disk has no room the old chunk stays, and nothing beside it."""
    array = create_array(tmp_path / "a", (4096,), (4096,), "float64", {})
    array[...] = 1
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            array[:10] = 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in (tmp_path / "a" / "c").iterdir()] == ["0"]
    assert array[...].tolist() == [1.0] * 4096


def test_an_array_that_is_taken_away_is_not_made_again(tmp_path: Path) -> None:
    """A task of a run that is over must not leave half an array in somebody else's folder."""
    array = create_array(tmp_path / "a", (4,), (2,), "float64", {})
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        array[:2] = 1
    assert not (tmp_path / "a").exists()


def test_a_step_is_refused(tmp_path: Path) -> None:
    write_array(tmp_path / "a", np.arange(8.0), 3, {})
    with pytest.raises(IndexError, match="step"):
        open_array(tmp_path / "a")[::2]
