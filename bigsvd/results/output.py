"""The place of one result: held by one run at a time, filled by one atomic step, never left half done."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path

from bigsvd.errors import StorageError
from bigsvd.request import Request
from bigsvd.results.door import Place
from bigsvd.results.factors import Factors, open_factors
from bigsvd.results.folders import REPLACED, foreign_in_scratch
from bigsvd.results.lock import RunLock
from bigsvd.results.store import FOLDER
from bigsvd.scratch import MARK, storage_errors

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
# What systems answer that cannot do it at all, as opposed to a disk that fails.
_NO_EXCHANGE = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EXDEV}
)
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.EROFS})
_NO_FOLDER_SYNC = _NO_SYNC | {errno.EACCES, errno.EPERM, errno.EISDIR}


@dataclass(frozen=True)
class Inputs:
    """What a run reads or keeps beside its output: none of it may be deleted or written into.

    Attributes:
        source: files and folders that hold the matrix. warm_start: a factor store, which may be the output
            itself: that is replaced when all has been read. stage: a folder for decoded panels.

    """

    source: tuple[Path, ...] = ()
    warm_start: Path | None = None
    stage: Path | None = None

    @classmethod
    def of(cls, request: Request, source: tuple[Path, ...]) -> Inputs:
        """What a run of the request touches, whose matrix lies in the files and folders `source`."""
        warm_start = None if request.warm_start is None else Path(request.warm_start)
        stage = None if request.stage is None else Path(request.stage)
        return cls(source, warm_start, stage)

    def check(self, place: Place) -> None:
        """`OutputExistsError` where the output would take something of this with it."""
        for held in self.source:
            place.check_apart("the source", held)
            place.check_outside("the source", held)
        if self.stage is not None:
            place.check_apart("the stage folder", self.stage)
        if self.warm_start is not None and not place.is_at(self.warm_start):
            place.check_apart("the warm start", self.warm_start)


class Output:
    """The place of one result, held exclusively while a run works on it.

    A context manager: `OutputBusyError` if another run holds it. What can be refused is refused when it is
    made, before anything is created. Without a path a temporary folder is used, which lives as long as the
    factors opened from it.
    """

    def __init__(self, path: str | Path | None, *, overwrite: bool, inputs: Inputs | None = None) -> None:
        self._overwrite = overwrite
        self._inputs = inputs or Inputs()
        self._temporary: Path | None = None
        self._published = False
        self._made: list[Path] = []
        self._place = None if path is None else Place.of(path)
        self._lock: RunLock | None = None
        if self._place is not None:
            self._check()

    @property
    def place(self) -> Place:
        """Where the result is to be; a temporary one only while it is held."""
        if self._place is None:
            raise StorageError("a temporary output has no place before it is entered", "enter it first")
        return self._place

    @property
    def path(self) -> Path:
        """Where the result is to be, as it was asked for."""
        return self.place.path

    @property
    def scratch(self) -> Path:
        """The scratch folder."""
        return self.place.scratch

    def _check(self) -> None:
        place = self.place
        place.check_scratch()
        self._inputs.check(place)
        place.check_free(overwrite=self._overwrite)
        place.check_surroundings()

    def __enter__(self) -> Output:
        if self._place is None:  # a new folder, which nobody else knows
            with storage_errors("making a temporary folder"):
                self._temporary = Path(tempfile.mkdtemp(prefix="bigsvd-"))
            self._place = Place.within(self._temporary)
            return self
        parent = self.place.target.parent
        try:
            with storage_errors(f"creating {parent}"):
                self._make(parent)
                self._lock = RunLock(self.place.lock, str(self.path))
                self._lock.acquire()
            self._recover()
            self._check()  # again, now that nobody else writes there
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._lock is not None:
                with storage_errors(f"deleting {self._lock.path}"):
                    self._lock.release()
        finally:
            self._unmake()

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it, and remember which of them were not there."""
        missing = [above for above in (folder, *folder.parents) if not above.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._made = missing

    def _unmake(self) -> None:
        """Remove the folders that were made, if nothing has come of it."""
        if self._temporary is not None and not self._published:
            shutil.rmtree(self._temporary)
        for folder in self._made:
            if not folder.is_dir() or any(folder.iterdir()):
                return
            with storage_errors(f"deleting {folder}"):
                folder.rmdir()

    def _recover(self) -> None:
        """Put back the old result of a run that died between the two renames of `_exchange`.

        That of a run which died after both takes its last name, under which nobody finds it as the result.
        """
        replaced, target = self.scratch / REPLACED, self.place.target
        if not replaced.is_dir():
            return
        with storage_errors(f"putting back {self.path}"):
            if os.path.lexists(target):
                shutil.rmtree(self.scratch / FOLDER, ignore_errors=True)  # a result that did not get there
                target = self.scratch / FOLDER
            replaced.rename(target)

    def publish(self) -> Factors:
        """Make the sealed factors in scratch the result, by one rename; the old result is kept until then.

        A temporary one need not outlive this process: the disk may write it when it likes.
        """
        if self._temporary is not None:
            return self._publish_temporary(self._temporary)
        new, target = self.scratch / FOLDER, self.place.target
        with storage_errors(f"publishing {self.path}"):
            for file in sorted(new.rglob("*")):
                if file.is_file():
                    _sync(file, _NO_SYNC)
            if os.path.lexists(target):
                self.place.check_free(overwrite=self._overwrite)  # a run is long: others were here meanwhile
                _exchange(new, target, self.scratch / REPLACED)
            else:
                new.rename(target)
        self._confirm()
        return open_factors(self.path)

    def _publish_temporary(self, folder: Path) -> Factors:
        with storage_errors(f"publishing {self.path}"):
            (self.scratch / FOLDER).rename(self.path)
        factors = open_factors(self.path)
        # Every view of the factors holds their store.
        weakref.finalize(factors.U.store, shutil.rmtree, folder, ignore_errors=True)
        self._published = True
        return factors

    def _confirm(self) -> None:
        """Have the rename itself written to the disk."""
        try:
            _sync(self.place.target.parent, _NO_FOLDER_SYNC)
        except OSError as error:
            raise StorageError(
                f"{self.path} is published, but the disk did not confirm it ({error.strerror or error})",
                "look after the disk, then check the result by `bigsvd verify`",
            ) from error

    def begin(self) -> str:
        """Make an empty scratch folder, marked as ours; the name of the run that has it."""
        self.sweep()
        run = uuid.uuid4().hex
        with storage_errors(f"creating {self.scratch}"):
            (self.scratch / MARK / run).mkdir(parents=True)
        return run

    def resume(self) -> str:
        """The name of the run that has the scratch folder."""
        mark = self.scratch / MARK
        return next((entry.name for entry in mark.iterdir()), "") if mark.is_dir() else ""

    def sweep(self) -> None:
        """Remove the scratch folder, its mark last, so that a killed sweep is finished by the next run.

        Raises:
            OutputExistsError: the folder is not one of ours, or not all that is in it.

        """
        self.place.check_scratch()
        if self.scratch.exists():
            self._remove_scratch()

    def _remove_scratch(self) -> None:
        with storage_errors(f"deleting {self.scratch}"):
            for run in (self.scratch / MARK).glob("*"):
                run.rmdir()  # first, so that nothing left of that run writes on
            for entry in sorted(self.scratch.iterdir()):
                if entry.name != MARK:
                    shutil.rmtree(entry)
            shutil.rmtree(self.scratch)

    def tidy(self) -> None:
        """Sweep after a result is published, unless somebody has put things of their own there: they stay."""
        if self._temporary is not None:
            shutil.rmtree(self.scratch)
        elif self.scratch.exists() and foreign_in_scratch(self.scratch) is None:
            self._remove_scratch()


def _sync(path: Path, refusals: frozenset[int]) -> None:
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


def _exchange(new: Path, old: Path, aside: Path) -> None:
    """Swap two folders: atomically where the system can (Linux renameat2), else by renames via `aside`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        done = libc.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE)
        if done == 0:
            return
        code = ctypes.get_errno()
        if code not in _NO_EXCHANGE:
            raise OSError(code, os.strerror(code), str(old))
    if aside.exists():
        shutil.rmtree(aside)
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)
