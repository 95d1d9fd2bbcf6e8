"""The scratch folder `<out>.scratch`: everything a resumed run needs, as checksummed Zarr.

Arrays are data; records are small JSON values that say a piece of work is complete, so they are always
written after the arrays they speak of. A file is replaced by one rename, so a record is there whole or not at
all.

Whatever takes its place here, or is removed, is moved from or to a folder of the run's own in the mark. Who
takes over a scratch takes that folder away first: what a former run still does then fails without effect.

Few files are synced, so after a power cut a record may stand without its data, or with a part of them. What
is damaged is removed where it is noticed, and made again like what was never there.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from bigsvd.errors import DamagedScratchError, StorageError, SupersededError
from bigsvd.nodes import (
    METADATA,
    NO_FOLDER_SYNC,
    DamagedNodeError,
    PlainArray,
    create_array,
    damaged_files,
    group_metadata,
    open_array,
    read_array,
    read_attributes,
    sync,
    write_array,
)

MARK = ".bigsvd-scratch"  # a folder in scratch: made first, removed last, needs no room on the disk
PLAN = "run"  # the record that a run begins with; alone it cannot be made again
MACHINES = "machines"  # of which kinds the processes are that have had a part in the run
RESULT = "factors"  # what becomes the result, and so bears no sign of scratch
_RECORD = "bigsvd_record"
_ARRAY = "bigsvd_scratch"
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_AGAIN = "run again: what is lost is computed again"
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

    `run` names a folder in its mark: while that is there, what scratch holds is of that run. Writing raises
    `SupersededError` once it is not. Without a `run` scratch is looked at, and nothing damaged is removed.
    """

    def __init__(self, path: Path | str, run: str = "") -> None:
        self.path = Path(path)
        self.run = run

    def __reduce__(self) -> tuple[Callable[..., Scratch], tuple[str, ...]]:
        return Scratch, (str(self.path), self.run)

    @property
    def current(self) -> bool:
        """Whether the run that this was made for still has it: not after another has taken it over."""
        return not self.run or os.path.isdir(f"{self.path}/{MARK}/{self.run}")  # noqa: PTH112 - asked often

    def check_current(self) -> None:
        """`SupersededError` where another run has taken over."""
        if not self.current:
            raise SupersededError(
                f"the run of this task has ended, or another has taken over {self.path}",
                "nothing is to be done",
            )

    def create(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> ScratchArray:
        """A new array, replacing any of that name; absent chunks read as NaN or 0."""
        with self.changing("writing", name):
            made = self._new_place()
            array = create_array(made, shape, chunks, dtype, _attributes(name))
            self._place(made, name)
        return _ArrayOnDisk(self, name, replace(array, folder=self.path / name, room=self._room))

    def open(self, name: str) -> ScratchArray:
        """An existing array, for reading and writing."""
        with storage_errors(f"reading {self.path}/{name}"), self.damage_noticed(name):
            return _ArrayOnDisk(self, name, replace(open_array(self.path / name), room=self._room))

    def seal(self, name: str, attributes: dict[str, Any]) -> None:
        """Make a group of the folder `name`, with these attributes and without a sign of scratch."""
        with self.changing("writing", name):
            self._write_metadata(name, attributes)

    def write(self, name: str, values: np.ndarray) -> None:
        """Store a whole array: it is there whole or, until the rename, not at all."""
        rows = max(1, _CHUNK_BYTES // max(1, values[:1].nbytes))
        with self.changing("writing", name):
            made = self._new_place()
            write_array(made, values, rows, _attributes(name))
            self._place(made, name)

    def read(self, name: str) -> np.ndarray:
        """A whole array, every part of which has been written; `StorageError` where one is gone."""
        with storage_errors(f"reading {self.path}/{name}"), self.damage_noticed(name):
            return read_array(self.path / name)

    def record(self, name: str, values: dict[str, Any]) -> None:
        """Say that the work `name` is complete, with its facts; saying it again replaces them."""
        with self.changing("writing", name):
            self._write_metadata(name, {_RECORD: values})

    def recorded(self, name: str) -> dict[str, Any] | None:
        """The facts of completed work, or None; also where they are damaged, unless they are the plan."""
        try:
            with storage_errors(f"reading {self.path}/{name}"), self.damage_noticed(name):
                if not self.has(name):
                    return None
                values = read_attributes(self.path / name).get(_RECORD)
        except DamagedScratchError:
            return None
        return dict(values) if isinstance(values, dict) else None

    def settle(self, name: str) -> None:
        """Have an array or record written to the disk, so that it outlives a power cut."""
        folder = self.path / name
        with storage_errors(f"writing {folder} to the disk"):
            for entry in (*folder.rglob("*"), folder, folder.parent):
                sync(entry, NO_FOLDER_SYNC)

    @contextmanager
    def changing(self, what: str, name: str) -> Iterator[None]:
        """Turn errors of the system into `StorageError`, or `SupersededError` if that is their cause."""
        with storage_errors(f"{what} {self.path}/{name}"):
            try:
                yield
            except FileNotFoundError:
                self.check_current()
                raise

    @contextmanager
    def damage_noticed(self, name: str) -> Iterator[None]:
        """Remove what is found damaged. The plan cannot be made again, and stays."""
        try:
            yield
        except DamagedNodeError as error:
            told = f"{self.path}/{name} is damaged ({error})"
            if name == PLAN:
                raise StorageError(told, f"delete {self.path} and run again") from error
            if self.run:
                self._discard(error.file)
            raise DamagedScratchError(told, _AGAIN) from error
        except FileNotFoundError as error:
            self.check_current()
            raise DamagedScratchError(f"{self.path}/{name} is gone", _AGAIN) from error

    def _discard(self, file: Path) -> None:
        """Remove a damaged chunk, or the whole node of damaged metadata."""
        node = file.parent if file.name == METADATA else file
        self.remove(str(node.relative_to(self.path)))

    def discard_damaged(self) -> None:
        """Read all but the plan and the result, and remove what is damaged."""
        with storage_errors(f"reading {self.path}"):
            for entry in self.path.iterdir():
                if entry.name not in (MARK, RESULT, PLAN):
                    for metadata in list(entry.rglob(METADATA)):
                        for file in damaged_files(metadata.parent):
                            self._discard(file)

    @property
    def _room(self) -> Path:
        """The run's own folder."""
        own = self.path / MARK / self.run
        if not self.run:
            own.mkdir(parents=True, exist_ok=True)
        return own

    def _new_place(self) -> Path:
        """A name in the run's own folder."""
        return self._room / uuid.uuid4().hex

    def _place(self, made: Path, name: str) -> None:
        """Give a finished node its place, or that of one that a task that is the same has just placed."""
        while True:
            self.remove(name)
            try:
                self._move(made, self.path / name)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
            else:
                return

    def _write_metadata(self, name: str, attributes: dict[str, Any]) -> None:
        """Make a group of the folder `name`, or replace the attributes of one."""
        made = self._new_place()
        made.write_text(group_metadata(attributes), encoding="utf-8")
        self._move(made, self.path / name / METADATA)

    def _move(self, made: Path, place: Path) -> None:
        """Move from the run's own folder; the folders around the place are made there too, and moved."""
        while True:
            try:
                made.replace(place)
            except FileNotFoundError:
                self.check_current()
                if not os.path.lexists(made):
                    raise
                self._make_folder(place.parent)
            else:
                return

    def _make_folder(self, folder: Path) -> None:
        made = self._new_place()
        made.mkdir()
        try:
            self._move(made, folder)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            made.rmdir()  # another task has just made it

    def finished_passes(self) -> int:
        """How many passes over the data are recorded as done; corrections and samples are none."""
        return len(list(self.path.glob(f"*-float??-[0-9][0-9][0-9]/done/{METADATA}")))

    def has(self, name: str) -> bool:
        """Whether an array or record of that name exists."""
        return (self.path / name / METADATA).exists()

    def opens(self, name: str) -> bool:
        """Whether an array of that name can be opened, whatever has been written into it."""
        return self.whole(name, (slice(0, 0),))

    def whole(self, name: str, box: Any = ...) -> bool:
        """Whether an array has all that was written into a box, as far as sizes of files tell."""
        try:
            return open_array(self.path / name).is_whole(box)
        except (FileNotFoundError, DamagedNodeError):
            return False

    def remove(self, name: str) -> None:
        """Delete an array or record and all below it, if there: at once, however long that takes."""
        if not (self.path / name).exists():
            return
        with self.changing("deleting", name):
            gone = self._new_place()
            try:
                (self.path / name).rename(gone)
            except FileNotFoundError:
                self.check_current()
                return  # a task that is the same has removed it meanwhile
            if gone.is_dir():
                shutil.rmtree(gone)
            else:
                gone.unlink()


@dataclass(frozen=True)
class _ArrayOnDisk:
    """A `ScratchArray` in files; what is damaged of it is removed when it is read."""

    scratch: Scratch
    name: str
    array: PlainArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sides."""
        return self.array.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """Sides of what is stored together."""
        return self.array.chunks

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an entry."""
        return self.array.dtype

    def __getitem__(self, box: Any) -> np.ndarray:
        with self.scratch.damage_noticed(self.name):
            return self.array[box]

    def __setitem__(self, box: Any, values: Any) -> None:
        with self.scratch.changing("writing", self.name):
            self.array[box] = values

    def read_into(self, box: Any, found: np.ndarray) -> None:
        """See `ScratchArray.read_into`."""
        with self.scratch.damage_noticed(self.name):
            self.array.read_into(box, found)


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

    def whole(self, name: str, box: Any = ...) -> bool:
        """See `Scratch.whole`."""
        return name in self._arrays or super().whole(name, box)

    def settle(self, name: str) -> None:
        """Nothing: nobody can go on from it."""

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
