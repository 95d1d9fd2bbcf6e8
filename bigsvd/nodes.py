"""Nodes of Zarr format 3 as plain files: arrays of which boxes are read and written, and attributes.

zarr-python serves any array on any store, and for that its event loop and threads take milliseconds for each
node and each chunk. A run writes and reads dozens of nodes, and a chunk for each panel. The files written
here are the same as zarr-python's: any Zarr reader opens them.
"""

from __future__ import annotations

import errno
import json
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

METADATA = "zarr.json"
_CHECKSUM_BYTES = 4  # a CRC32C, which the codec of that name puts behind each chunk
# What file systems answer that cannot sync a file at all, or a folder.
NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.EROFS})
NO_FOLDER_SYNC = NO_SYNC | {errno.EACCES, errno.EPERM, errno.EISDIR}
_FILLS: dict[Any, float] = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


class DamagedNodeError(ValueError):
    """A node whose files are not what was written: one `file` of them, and what is `said` of it."""

    def __init__(self, file: Path, said: str) -> None:
        super().__init__(file, said)
        self.file = file
        self.said = said

    def __str__(self) -> str:
        return f"{self.file} {self.said}"


def group_metadata(attributes: dict[str, Any]) -> str:
    """What the metadata file of a group with these attributes and no others says."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes})


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
    array = PlainArray.of(folder, values.shape, (chunk_rows, *values.shape[1:]), values.dtype)
    folder.mkdir()
    array[...] = values
    _write_metadata(folder, array.metadata(attributes))


def read_array(folder: Path) -> np.ndarray:
    """A whole array that `write_array` wrote, or zarr-python with the same codecs.

    Raises:
        OSError: there is no array, or it cannot be read. DamagedNodeError: a chunk is gone, or not what was
            written.

    """
    array = open_array(folder)
    found = np.empty(array.shape, array.dtype)
    array.read_into(..., found)
    return found


def create_array(
    folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, attributes: dict[str, Any]
) -> PlainArray:
    """A new array without any chunk; `folder` must not exist yet."""
    array = PlainArray.of(folder, shape, chunks, np.dtype(dtype))
    folder.mkdir()
    _write_metadata(folder, array.metadata(attributes))
    return array


def open_array(folder: Path) -> PlainArray:
    """The array that is there, to read and to write.

    Raises:
        OSError: there is none. DamagedNodeError: its metadata describe no array.

    """
    metadata = _metadata(folder)
    try:
        shape, dtype = tuple(metadata["shape"]), np.dtype(metadata["data_type"])
        chunks = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
        fill = metadata["fill_value"]
    except (KeyError, TypeError) as error:
        raise DamagedNodeError(folder / METADATA, "describes no array") from error
    return PlainArray(folder, shape, chunks, dtype, fill)


def damaged_files(folder: Path) -> list[Path]:
    """Files of a node that are not what was written: its metadata, or chunks of an array."""
    try:
        if _metadata(folder).get("node_type") == "group":
            return []
        return list(open_array(folder).damaged_chunks())
    except DamagedNodeError as error:
        return [error.file]


@dataclass(frozen=True)
class _Part:
    """What a chunk and a box have in common: the chunk's place in the grid, and the part's in both."""

    index: tuple[int, ...]
    in_chunk: tuple[slice, ...]
    in_box: tuple[slice, ...]


@dataclass(frozen=True)
class PlainArray:
    """An array on a disk, of which boxes are read and written; it holds no file open and can be pickled.

    A chunk is replaced by one rename: who reads it meanwhile finds the old one or the new one. Two writers
    may not write into one chunk at a time. A box is `...`, or a slice of step 1 for each of the first axes;
    of what is read, the last of these may be an array of indices instead.

    Attributes:
        fill: what entries are in chunks that were never written, as it stands in the metadata.
        room: where a chunk lies until it is whole; else in the folder.

    """

    folder: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: str | float
    room: Path | None = None

    @classmethod
    def of(
        cls, folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]
    ) -> PlainArray:
        """A new array, with chunks no larger than it is; absent ones read as NaN or 0."""
        sides = tuple(max(1, min(chunk, side)) for chunk, side in zip(chunks, shape, strict=True))
        fill: str | float = 0
        if dtype.kind == "f":
            fill = "NaN"
        return cls(folder, shape, sides, dtype.newbyteorder("="), fill)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def metadata(self, attributes: dict[str, Any]) -> str:
        """What `zarr.json` says of it."""
        as_bytes: dict[str, Any] = {"name": "bytes"}
        if self.dtype.itemsize > 1:
            as_bytes["configuration"] = {"endian": "little"}
        described = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": self.shape,
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self.chunks}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": self.fill,
            "codecs": [as_bytes, {"name": "crc32c"}],
            "attributes": attributes,
        }
        return json.dumps(described)

    def __getitem__(self, box: Any) -> np.ndarray:
        if isinstance(box, tuple) and isinstance(box[-1], np.ndarray):
            boxes = [(*box[:-1], slice(index, index + 1)) for index in box[-1].tolist()]
            return np.concatenate([self[each] for each in boxes], axis=len(box) - 1)
        spans = self._spans(box)
        found = np.empty([span.stop - span.start for span in spans], self.dtype)
        self._read_spans(spans, found)
        return found

    def read_into(self, box: Any, found: np.ndarray) -> None:
        """Read a box, all of which has been written, into an array of its shape and of this dtype.

        Raises:
            OSError: a chunk cannot be read. DamagedNodeError: a chunk is gone, or not what was written.

        """
        spans = self._spans(box)
        for part in self._parts(spans):
            path = self.folder / _key(part.index)
            if not path.exists():
                raise DamagedNodeError(path, "does not exist")
        self._read_spans(spans, found)

    def is_whole(self, box: Any) -> bool:
        """Whether the chunks of a box are there and of their size; what they hold shows when it is read."""
        size = math.prod(self.chunks) * self.dtype.itemsize + _CHECKSUM_BYTES
        return all(_size(self.folder / _key(part.index)) == size for part in self._parts(self._spans(box)))

    def damaged_chunks(self) -> Iterator[Path]:
        """Those that are there and not what was written."""
        chunk = np.empty(self.chunks, self._stored)
        for part in self._parts(self._spans(...)):
            try:
                _read_chunk(self.folder / _key(part.index), chunk)
            except DamagedNodeError as error:
                yield error.file

    def __setitem__(self, box: Any, values: Any) -> None:
        spans = self._spans(box)
        sides = [span.stop - span.start for span in spans]
        values = np.broadcast_to(np.asarray(values, self.dtype), sides)
        for part in self._parts(spans):
            chunk = self._chunk_with(part, values[part.in_box])
            _write_chunk(self.folder, part.index, chunk, self.room or self.folder)

    def _spans(self, box: Any) -> list[slice]:
        """A box as one slice for each axis, within the array."""
        keys: list[slice] = []
        if box is not Ellipsis:
            keys += box if isinstance(box, tuple) else (box,)
        keys += [slice(None)] * (self.ndim - len(keys))
        ends = [key.indices(side) for key, side in zip(keys, self.shape, strict=True)]
        if any(step != 1 for _, _, step in ends):
            message = f"{box} has a step, which boxes of {self.folder} have not"
            raise IndexError(message)
        return [slice(start, max(start, stop)) for start, stop, _ in ends]

    def _parts(self, spans: list[slice]) -> Iterator[_Part]:
        grid = [
            range(span.start // chunk, -(-span.stop // chunk)) if span.stop > span.start else ()
            for span, chunk in zip(spans, self.chunks, strict=True)
        ]
        for index in product(*grid):
            starts = [number * chunk for number, chunk in zip(index, self.chunks, strict=True)]
            common = [
                slice(max(span.start, start), min(span.stop, start + chunk))
                for span, start, chunk in zip(spans, starts, self.chunks, strict=True)
            ]
            yield _Part(index, _moved(common, starts), _moved(common, [span.start for span in spans]))

    def _read_spans(self, spans: list[slice], found: np.ndarray) -> None:
        for part in self._parts(spans):
            target, path = found[part.in_box], self.folder / _key(part.index)
            whole = target.shape == self.chunks and target.flags.c_contiguous
            if whole and target.dtype == self._stored and _read_chunk(path, target):
                continue
            target[...] = self._chunk(part.index)[part.in_chunk]

    def _chunk_with(self, part: _Part, values: np.ndarray) -> np.ndarray:
        """A chunk with some new entries; at an edge of the array it is filled up."""
        if values.shape == self.chunks:
            return values
        chunk = self._chunk(part.index)
        chunk[part.in_chunk] = values
        return chunk

    def _chunk(self, index: tuple[int, ...]) -> np.ndarray:
        """A chunk as it is stored; the fill value where it was never written."""
        chunk = np.empty(self.chunks, self._stored)
        if not _read_chunk(self.folder / _key(index), chunk):
            chunk[...] = _FILLS.get(self.fill, self.fill)
        return chunk

    @property
    def _stored(self) -> np.dtype[Any]:
        return self.dtype.newbyteorder("<")


def _moved(spans: list[slice], starts: list[int]) -> tuple[slice, ...]:
    """Slices counted from other starts."""
    return tuple(
        slice(span.start - start, span.stop - start) for span, start in zip(spans, starts, strict=True)
    )


def _metadata(folder: Path) -> dict[str, Any]:
    content = (folder / METADATA).read_bytes()
    try:
        found = json.loads(content)
    except ValueError as error:
        raise DamagedNodeError(folder / METADATA, f"is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise DamagedNodeError(folder / METADATA, "is no JSON object")
    return found


def _size(path: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _key(index: tuple[int, ...]) -> str:
    return "/".join(["c", *map(str, index)])


def _write_chunk(folder: Path, index: tuple[int, ...], values: np.ndarray, room: Path) -> None:
    """Write a chunk of an array in `folder`, which must be there, as must `room`."""
    stored = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    body = stored.reshape(-1).view(np.uint8)
    # As text: there is a chunk for each panel of a pass, and a Path took most of the time to write it.
    path, partial = f"{folder}/{_key(index)}", f"{room}/c.{uuid.uuid4().hex}.partial"
    try:
        with open(partial, "xb") as file:  # noqa: PTH123
            file.write(body.data)
            file.write(int(google_crc32c.value(body)).to_bytes(_CHECKSUM_BYTES, "little"))
        _put(partial, path, folder, index)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _put(partial: str, path: str, folder: Path, index: tuple[int, ...]) -> None:
    """Give a chunk its place, in a folder of chunks that is made if this is the first."""
    try:
        os.replace(partial, path)  # noqa: PTH105
    except FileNotFoundError:
        _make_folders(folder, index)
        os.replace(partial, path)  # noqa: PTH105


def _make_folders(folder: Path, index: tuple[int, ...]) -> None:
    """The folder of a chunk, and those around it, within a folder that is there."""
    try:
        _make_folder(f"{folder}/{_key(index[:-1])}")
    except FileNotFoundError:
        for depth in range(len(index)):
            _make_folder(f"{folder}/{_key(index[:depth])}")


def _make_folder(path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(path)  # noqa: PTH102


def _read_chunk(path: Path, chunk: np.ndarray) -> bool:
    """Read a chunk as it is stored into contiguous memory of its size; whether it was ever written."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    body = chunk.reshape(-1).view(np.uint8)
    with file:
        size = os.fstat(file.fileno()).st_size
        if size != body.size + _CHECKSUM_BYTES:
            raise DamagedNodeError(path, f"has {size} bytes, not {body.size + _CHECKSUM_BYTES}")
        got, checksum = file.readinto(body.data), file.read()
    if got != body.size or google_crc32c.value(body) != int.from_bytes(checksum, "little"):
        raise DamagedNodeError(path, "has another checksum")
    return True


def _write_metadata(folder: Path, text: str) -> None:
    """Write a file that is there whole or not at all; while unfinished its name is like zarr-python's."""
    partial = folder / f"zarr.{uuid.uuid4().hex}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / METADATA)


def sync(path: Path, refusals: frozenset[int]) -> None:
    """Have a file or folder written to the disk, where its file system offers that at all."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in refusals:
            raise
