"""Nodes of Zarr format 3 as plain files: small arrays that are written and read whole, and attributes.

zarr-python serves any array on any store, and for that its event loop and threads take milliseconds for each
node. A run of a small matrix writes and reads dozens of nodes. The files written here are the same as
zarr-python's: any Zarr reader opens them.
"""

from __future__ import annotations

import json
import math
import uuid
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

METADATA = "zarr.json"
_CHECKSUM_BYTES = 4  # a CRC32C, which the codec of that name puts behind each chunk
_FILLS: dict[Any, float] = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


class DamagedNodeError(ValueError):
    """A node whose files are not what was written."""


def write_attributes(folder: Path, attributes: dict[str, Any]) -> None:
    """Write a group with these attributes and no others; it is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_metadata(folder, json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}))


def read_attributes(folder: Path) -> dict[str, Any]:
    """The attributes of a node.

    Raises:
        OSError: there is no node. DamagedNodeError: its metadata is no JSON object.

    """
    attributes: dict[str, Any] = _metadata(folder).get("attributes", {})
    return attributes


def write_array(folder: Path, values: np.ndarray, chunk_rows: int, attributes: dict[str, Any]) -> None:
    """Write a whole array of one axis or more, in chunks of `chunk_rows` rows; `folder` must not exist yet.

    If another writer deletes the folder meanwhile, this fails: the folder is not made a second time.
    """
    values = np.asarray(values, dtype=values.dtype.newbyteorder("<"))
    rows = max(1, min(chunk_rows, values.shape[0]))
    chunks = (rows, *(max(1, side) for side in values.shape[1:]))
    folder.mkdir(parents=True)
    if values.size:
        _write_chunks(folder, values, chunks)
    _write_metadata(folder, json.dumps(_array_metadata(values, chunks, attributes)))


def _write_chunks(folder: Path, values: np.ndarray, chunks: tuple[int, ...]) -> None:
    rows = chunks[0]
    others = values.ndim - 1
    name = _fill_name(values)
    fill = _FILLS.get(name, name)
    for number, start in enumerate(range(0, values.shape[0], rows)):
        part = values[start : start + rows]
        if part.shape != chunks:  # Zarr fills up the chunk at an edge
            lacking = [(0, rows - part.shape[0])] + [(0, 0)] * others
            part = np.pad(part, lacking, constant_values=fill)
        _write_chunk(folder, (number, *[0] * others), part)


def _fill_name(values: np.ndarray) -> str | int:
    """The fill value as it stands in the metadata."""
    if values.dtype.kind == "f":
        return "NaN"
    return 0


def _array_metadata(
    values: np.ndarray, chunks: tuple[int, ...], attributes: dict[str, Any]
) -> dict[str, Any]:
    as_bytes: dict[str, Any] = {"name": "bytes"}
    if values.itemsize > 1:
        as_bytes["configuration"] = {"endian": "little"}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": values.shape,
        "data_type": values.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _fill_name(values),
        "codecs": [as_bytes, {"name": "crc32c"}],
        "attributes": attributes,
    }


def read_array(folder: Path) -> np.ndarray:
    """A whole array that `write_array` wrote, or zarr-python with the same codecs.

    Raises:
        OSError: there is no array, or it cannot be read. DamagedNodeError: a chunk is not what was written.

    """
    metadata = _metadata(folder)
    try:
        shape, dtype = tuple(metadata["shape"]), np.dtype(metadata["data_type"])
        chunks = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
        fill = metadata["fill_value"]
    except (KeyError, TypeError) as error:
        raise DamagedNodeError(f"{folder / METADATA} describes no array") from error
    found = np.empty(shape, dtype)
    for index in product(*(range(-(-side // step)) for side, step in zip(shape, chunks, strict=True))):
        starts = [number * step for number, step in zip(index, chunks, strict=True)]
        place = tuple(slice(start, start + step) for start, step in zip(starts, chunks, strict=True))
        chunk = _read_chunk(folder / _key(index), chunks, dtype)
        if chunk is None:
            found[place] = _FILLS.get(fill, fill)
        else:
            found[place] = chunk[tuple(map(slice, found[place].shape))]
    return found


def _metadata(folder: Path) -> dict[str, Any]:
    content = (folder / METADATA).read_bytes()
    try:
        found = json.loads(content)
    except ValueError as error:
        raise DamagedNodeError(f"{folder / METADATA} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise DamagedNodeError(f"{folder / METADATA} is no JSON object")
    return found


def _key(index: tuple[int, ...]) -> str:
    return "/".join(["c", *map(str, index)])


def _write_chunk(folder: Path, index: tuple[int, ...], values: np.ndarray) -> None:
    for depth in range(len(index)):
        (folder / _key(index[:depth])).mkdir(exist_ok=True)
    body = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    checksum = int(google_crc32c.value(body)).to_bytes(_CHECKSUM_BYTES, "little")
    with (folder / _key(index)).open("wb") as file:
        file.write(body.data)
        file.write(checksum)


def _read_chunk(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray | None:
    """A chunk as it is stored, filled up at an edge of the array; None if it was never written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    size = math.prod(shape) * dtype.itemsize
    if len(content) != size + _CHECKSUM_BYTES:
        raise DamagedNodeError(f"{path} has {len(content)} bytes, not {size + _CHECKSUM_BYTES}")
    body = memoryview(content)[:size]
    if google_crc32c.value(np.frombuffer(body, np.uint8)) != int.from_bytes(content[size:], "little"):
        raise DamagedNodeError(f"the checksum of {path} does not fit")
    return np.frombuffer(body, dtype.newbyteorder("<")).reshape(shape)


def _write_metadata(folder: Path, text: str) -> None:
    """Write a file that is there whole or not at all; while unfinished its name is like zarr-python's."""
    partial = folder / f"zarr.{uuid.uuid4().hex}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / METADATA)
