"""The scratch folder `<out>.scratch`: everything a resumed run needs, as checksummed Zarr.

Arrays are data; records are small JSON values that say a piece of work is complete, so they are always
written after the arrays they speak of. A file is replaced by one rename, so a record is there whole or not at
all.
"""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from bigsvd.errors import StorageError
from bigsvd.nodes import (
    METADATA,
    DamagedNodeError,
    create_array,
    open_array,
    read_array,
    read_attributes,
    write_array,
    write_attributes,
)

MARK = ".bigsvd-scratch"  # a folder in scratch: made first, removed last, needs no room on the disk
RESULT = "factors"  # what becomes the result, and so bears no sign of scratch
_RECORD = "bigsvd_record"
_ARRAY = "bigsvd_scratch"
_CHUNK_BYTES = 2**26  # of an array that is written whole


@contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Turn an operating-system error into `StorageError`, naming the action."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{action} failed: {error.strerror or error}",
            "remove the cause and run the same command again to resume",
        ) from error


def is_mine(attributes: dict[str, Any]) -> bool:
    """Whether a node with these Zarr attributes was written by `Scratch`."""
    return _RECORD in attributes or _ARRAY in attributes


def _attributes(name: str) -> dict[str, Any]:
    """What marks an array as scratch."""
    return {} if name.startswith(f"{RESULT}/") else {_ARRAY: True}


class ScratchArray(Protocol):
    """An array of scratch, of which boxes are read and written; see `nodes.PlainArray`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sides."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Sides of what is stored together, which two tasks may not write into at a time."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an entry."""

    def __getitem__(self, box: Any) -> np.ndarray:
        """A copy of a box."""

    def __setitem__(self, box: Any, values: Any) -> None:
        """Write into a box."""

    def read_into(self, box: Any, found: np.ndarray) -> None:
        """Read a box, all of which has been written, into an array of its shape and of this dtype."""


class Scratch:
    """Named arrays and records under one folder; travels to workers by its path.

    `run` names an empty folder in its mark: while that is there, what scratch holds is of that run.
    """

    def __init__(self, path: Path | str, run: str = "") -> None:
        self.path = Path(path)
        self.run = run

    def __reduce__(self) -> tuple[Callable[..., Scratch], tuple[str, ...]]:
        return Scratch, (str(self.path), self.run)

    @property
    def current(self) -> bool:
        """Whether the run that this was made for still has it: not after another has begun anew."""
        return not self.run or os.path.isdir(f"{self.path}/{MARK}/{self.run}")  # noqa: PTH112 - asked often

    def create(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> ScratchArray:
        """A new array, replacing any of that name; absent chunks read as NaN or 0."""
        with storage_errors(f"writing {self.path}/{name}"):
            self.remove(name)
            return create_array(self.path / name, shape, chunks, dtype, _attributes(name))

    def open(self, name: str) -> ScratchArray:
        """An existing array, for reading and writing."""
        with storage_errors(f"reading {self.path}/{name}"), self._damage_noticed(name):
            return open_array(self.path / name)

    def seal(self, name: str, attributes: dict[str, Any]) -> None:
        """Make a group of the folder `name`, with these attributes and without a sign of scratch."""
        with storage_errors(f"writing {self.path}/{name}"):
            write_attributes(self.path / name, attributes)

    def write(self, name: str, values: np.ndarray) -> None:
        """Store a whole array: it is there whole or, until the rename, not at all."""
        rows = max(1, _CHUNK_BYTES // max(1, values[:1].nbytes))
        partial = self.path / f"{name}.partial"
        with storage_errors(f"writing {self.path}/{name}"):
            self.remove(f"{name}.partial")
            write_array(partial, values, rows, _attributes(name))
            self.remove(name)
            partial.rename(self.path / name)

    def read(self, name: str) -> np.ndarray:
        """A whole array, every part of which has been written; `StorageError` where one is gone."""
        with storage_errors(f"reading {self.path}/{name}"), self._damage_noticed(name):
            return read_array(self.path / name)

    def record(self, name: str, values: dict[str, Any]) -> None:
        """Say that the work `name` is complete, with its facts; saying it again replaces them."""
        with storage_errors(f"writing {self.path}/{name}"):
            write_attributes(self.path / name, {_RECORD: values})

    def recorded(self, name: str) -> dict[str, Any] | None:
        """The facts of completed work, or None."""
        with storage_errors(f"reading {self.path}/{name}"), self._damage_noticed(name):
            if not self.has(name):
                return None
            values = read_attributes(self.path / name).get(_RECORD)
        return dict(values) if isinstance(values, dict) else None

    @contextmanager
    def _damage_noticed(self, name: str) -> Iterator[None]:
        try:
            yield
        except DamagedNodeError as error:
            raise StorageError(
                f"{self.path}/{name} is damaged ({error})", f"delete {self.path} and run again"
            ) from error

    def finished_passes(self) -> int:
        """How many passes over the data are recorded as done; corrections and samples are none."""
        return len(list(self.path.glob(f"*-float??-[0-9][0-9][0-9]/done/{METADATA}")))

    def has(self, name: str) -> bool:
        """Whether an array or record of that name exists."""
        return (self.path / name / METADATA).exists()

    def remove(self, name: str) -> None:
        """Delete an array or record and all below it, if there."""
        with storage_errors(f"deleting {self.path}/{name}"):
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)


@dataclass(frozen=True)
class HeldArray:
    """A `ScratchArray` in memory."""

    values: np.ndarray
    chunks: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sides."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an entry."""
        return self.values.dtype

    def __getitem__(self, box: Any) -> np.ndarray:
        return np.array(self.values[box])

    def __setitem__(self, box: Any, values: Any) -> None:
        self.values[box] = values

    def read_into(self, box: Any, found: np.ndarray) -> None:
        """See `ScratchArray.read_into`."""
        found[...] = self.values[box]


class HeldScratch(Scratch):
    """Scratch of a run that nobody can continue and whose tasks are threads of this process.

    Records, and arrays of `limit_bytes` in all, are held in memory; further arrays and the factors lie in
    files as in any other scratch. Pickled, it is the same one again, as long as the run has it.
    """

    def __init__(self, path: Path | str, run: str, limit_bytes: int) -> None:
        super().__init__(path, run)
        self._left_bytes = limit_bytes
        self._arrays: dict[str, HeldArray] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        _HELD[str(self.path)] = self

    @classmethod
    def of(cls, scratch: Scratch, limit_bytes: int) -> HeldScratch:
        """That of the same folder and run."""
        return cls(scratch.path, scratch.run, limit_bytes)

    def __reduce__(self) -> tuple[Callable[..., Scratch], tuple[str, ...]]:
        return _held, (str(self.path),)

    def create(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> ScratchArray:
        """See `Scratch.create`."""
        self.remove(name)
        entry = np.dtype(dtype)
        if not self._reserve(name, math.prod(shape) * entry.itemsize):
            return super().create(name, shape, chunks, dtype)
        values = np.zeros(shape, entry)
        if entry.kind == "f":
            values[...] = np.nan
        sides = tuple(max(1, min(chunk, side)) for chunk, side in zip(chunks, shape, strict=True))
        return self._hold(name, HeldArray(values, sides))

    def open(self, name: str) -> ScratchArray:
        """See `Scratch.open`."""
        if name in self._arrays:
            return self._arrays[name]
        return super().open(name)

    def write(self, name: str, values: np.ndarray) -> None:
        """See `Scratch.write`."""
        self.remove(name)
        if self._reserve(name, values.nbytes):
            self._hold(name, HeldArray(np.array(values), values.shape))
        else:
            super().write(name, values)

    def read(self, name: str) -> np.ndarray:
        """See `Scratch.read`."""
        if name in self._arrays:
            return self._arrays[name][...]
        return super().read(name)

    def record(self, name: str, values: dict[str, Any]) -> None:
        """See `Scratch.record`."""
        with self._lock:
            self._records[name] = values

    def recorded(self, name: str) -> dict[str, Any] | None:
        """See `Scratch.recorded`."""
        return self._records.get(name)

    def has(self, name: str) -> bool:
        """See `Scratch.has`."""
        return name in self._arrays or name in self._records or super().has(name)

    def remove(self, name: str) -> None:
        """See `Scratch.remove`."""
        with self._lock:
            for gone in _at_or_below(name, self._arrays):
                self._left_bytes += self._arrays.pop(gone).values.nbytes
            for gone in _at_or_below(name, self._records):
                del self._records[gone]
        super().remove(name)

    def _hold(self, name: str, array: HeldArray) -> HeldArray:
        """Keep an array for which there is room."""
        with self._lock:
            self._arrays[name] = array
        return array

    def _reserve(self, name: str, size: int) -> bool:
        """Whether there is memory for so much of that name, which is then taken."""
        with self._lock:
            fits = size <= self._left_bytes and not name.startswith(f"{RESULT}/")
            self._left_bytes -= size * fits
        return fits


_HELD: WeakValueDictionary[str, HeldScratch] = WeakValueDictionary()


def _held(path: str) -> HeldScratch:
    return _HELD[path]


def _at_or_below(name: str, names: dict[str, Any]) -> list[str]:
    return [each for each in names if each == name or each.startswith(f"{name}/")]
