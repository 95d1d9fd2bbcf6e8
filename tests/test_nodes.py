"""Arrays and attributes as plain files are what zarr-python writes and reads."""

from __future__ import annotations

import json
import shutil
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
from bigsvd.nodes import DamagedNodeError, read_array, read_attributes, write_array, write_attributes

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
        fill_value=7,
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
    np.testing.assert_array_equal(read_array(tmp_path / "a"), [fill, fill, 1, 1, fill])


def test_attributes_are_those_of_a_group_and_replaced_as_a_whole(tmp_path: Path) -> None:
    write_attributes(tmp_path / "a" / "b", {"one": 1, "not": float("inf")})
    assert read_attributes(tmp_path / "a" / "b") == {"one": 1, "not": float("inf")}
    write_attributes(tmp_path / "a" / "b", {"two": {"deep": [2]}})
    assert zarr.open_group(tmp_path / "a" / "b", mode="r").attrs.asdict() == {"two": {"deep": [2]}}
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["zarr.json"]


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
