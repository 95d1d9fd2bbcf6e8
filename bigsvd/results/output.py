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

from bigsvd.errors import StorageError, SupersededError
from bigsvd.nodes import NO_FOLDER_SYNC, NO_SYNC, sync
from bigsvd.request import Request
from bigsvd.results.door import Place
from bigsvd.results.factors import Factors, open_factors
from bigsvd.results.folders import FACTORS, REPLACED, foreign_in_scratch
from bigsvd.results.lock import Lease, RunLock
from bigsvd.scratch import MARK, PLAN, RESULT, storage_errors

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
# What systems answer that cannot do it at all, as opposed to a disk that fails.
_NO_EXCHANGE = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EXDEV}
)


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

    A context manager: `OutputBusyError` if another run holds it, and `SupersededError` once another has taken
    over, since this one was frozen for longer than its lease: whatever it does then fails without effect.
    What can be refused is refused when it is made, before anything is created. Without a path a temporary
    folder is used, which lives as long as the factors opened from it.

    What is deleted in scratch, or published, goes through a folder of the run's own in its mark, by renames:
    once another run has taken that folder away, they fail, however late they come.
    """

    def __init__(
        self,
        path: str | Path | None,
        *,
        overwrite: bool,
        inputs: Inputs | None = None,
        lease: Lease | None = None,
        kind: str = FACTORS,
    ) -> None:
        self._overwrite = overwrite
        self._kind = kind
        self._inputs = inputs or Inputs()
        self._lease = lease or Lease()
        self._own: Path | None = None
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
        place.check_free(overwrite=self._overwrite, kind=self._kind)
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
                self._lock = RunLock(self.place.lock, str(self.path), self._lease)
                self._lock.acquire()
            self._recover()
            self._check()  # again, now that nobody else writes there
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, _: object = None, error: BaseException | None = None, *more: object) -> None:
        del more
        try:
            if isinstance(error, Exception):
                self._explain(error)
        finally:
            self._let_go()

    def check(self) -> None:
        """`SupersededError` where another run has taken over; to be called before what cannot be undone."""
        if self._lock is not None:
            with storage_errors(f"renewing {self._lock.path}"):
                self._lock.renew()

    def _explain(self, error: Exception) -> None:
        """Say that another run has taken over, where that is why this one has failed."""
        try:
            self.check()
        except SupersededError as superseded:
            raise superseded from error
        except StorageError:
            return  # the disk fails: the error that is under way says so too

    def _let_go(self) -> None:
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
                shutil.rmtree(self.scratch / RESULT, ignore_errors=True)  # a result that did not get there
                target = self.scratch / RESULT
            replaced.rename(target)

    def publish(self) -> Factors:
        """Make the sealed factors in scratch the result, by one rename; the old result is kept until then.

        A temporary one need not outlive this process: the disk may write it when it likes.
        """
        if self._temporary is not None:
            return self._publish_temporary(self._temporary)
        self.put_in_place()
        return open_factors(self.path)

    def put_in_place(self) -> None:
        """Make the sealed store in scratch the result, by one rename; the old one is kept until then."""
        own, target = self._own or self._take(), self.place.target
        new = own / RESULT
        with storage_errors(f"publishing {self.path}"):
            for file in sorted((self.scratch / RESULT).rglob("*")):
                if file.is_file():
                    sync(file, NO_SYNC)
            replaces = os.path.lexists(target)
            if replaces:
                # A run is long: others were here meanwhile.
                self.place.check_free(overwrite=self._overwrite, kind=self._kind)
            self.check()
            (self.scratch / RESULT).rename(new)
            if replaces:
                _exchange(new, target, self.scratch / REPLACED)
            else:
                new.rename(target)
        self._confirm()

    def _publish_temporary(self, folder: Path) -> Factors:
        with storage_errors(f"publishing {self.path}"):
            (self.scratch / RESULT).rename(self.path)
        factors = open_factors(self.path)
        # Every view of the factors holds their store.
        weakref.finalize(factors.U.store, shutil.rmtree, folder, ignore_errors=True)
        self._published = True
        return factors

    def _confirm(self) -> None:
        """Have the rename itself written to the disk."""
        try:
            sync(self.place.target.parent, NO_FOLDER_SYNC)
        except OSError as error:
            raise StorageError(
                f"{self.path} is published, but the disk did not confirm it ({error.strerror or error})",
                "look after the disk, then check the result by `bigsvd verify`",
            ) from error

    def begin(self) -> str:
        """Make an empty scratch folder, marked as ours; the name of the run that has it."""
        self.place.check_scratch()
        own = self._take()
        with storage_errors(f"deleting what is in {self.scratch}"):
            self._empty(own)
        return own.name

    def resume(self) -> str:
        """Take over the scratch folder from the run that had it; the name of the one that has it now."""
        return self._take().name

    def _take(self) -> Path:
        """A folder in the mark of scratch, by which this run has it; all others there end.

        Of two runs that do this at a time, the one that holds the lock sees the other's folder, or is seen by
        it before that asks for the lock.
        """
        mark = self.scratch / MARK
        own = mark / uuid.uuid4().hex
        with storage_errors(f"creating {own}"):
            own.mkdir(parents=True)
            others = [entry for entry in mark.iterdir() if entry != own]
            try:
                self.check()
            except BaseException:
                own.rmdir()
                raise
            for other in others:
                other.rename(own / other.name)
            _remove_below(own)
        self._own = own
        return own

    def _empty(self, own: Path) -> None:
        """Remove all but the mark from scratch; first the plan, without which nobody goes on from it."""
        entries = sorted(self.scratch.iterdir(), key=lambda entry: (entry.name != PLAN, entry.name))
        for entry in entries:
            if entry.name != MARK:
                entry.rename(own / uuid.uuid4().hex)
        _remove_below(own)

    def sweep(self) -> None:
        """Remove the scratch folder, its mark last, so that a killed sweep is finished by the next run.

        Raises:
            OutputExistsError: the folder is not one of ours, or not all that is in it.

        """
        self.place.check_scratch()
        if self.scratch.exists():
            self._remove_scratch()

    def _remove_scratch(self) -> None:
        own = self._own or self._take()
        ended = own.with_name(uuid.uuid4().hex)
        self.check()
        with storage_errors(f"deleting {self.scratch}"):
            own.rename(ended)  # first, so that nothing left of this run writes on
            self._empty(ended)
            for folder in (ended, ended.parent, self.scratch):
                folder.rmdir()
        self._own = None

    def remove(self) -> None:
        """Delete the result, first its name, and the scratch beside it; a killed one leaves scratch."""
        own = self.scratch / MARK / self.begin()
        with storage_errors(f"deleting {self.path}"):
            self.check()
            self.place.target.rename(own / RESULT)
        self.sweep()

    def tidy(self) -> None:
        """Sweep after a result is published, unless somebody has put things of their own there: they stay."""
        if self._temporary is not None:
            shutil.rmtree(self.scratch)
        elif self.scratch.exists() and foreign_in_scratch(self.scratch) is None:
            self._remove_scratch()


def _remove_below(folder: Path) -> None:
    """Delete all that is in a folder."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


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
