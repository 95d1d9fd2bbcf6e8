"""The place of one result: held by one run at a time, filled by one atomic step, never left half done."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import tempfile
import uuid
import weakref
from pathlib import Path

from bigsvd.errors import OutputBusyError, OutputExistsError
from bigsvd.factors import ATTRIBUTE, FOLDER, Factors, open_factors, scratch_path
from bigsvd.scratch import MARK, storage_errors

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class Output:
    """The place of one result, held exclusively while a run works on it.

    A context manager: `OutputBusyError` if another run holds it. Without a path a temporary folder is used,
    which lives as long as the factors opened from it.
    """

    def __init__(self, path: str | Path | None, *, overwrite: bool) -> None:
        self._temporary = Path(tempfile.mkdtemp(prefix="bigsvd-")) if path is None else None
        self.path = Path(path).absolute() if path is not None else Path(f"{self._temporary}/factors")
        self._overwrite = overwrite
        self._lock = -1

    @property
    def scratch(self) -> Path:
        """The scratch folder."""
        return scratch_path(self.path)

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f".{self.path.name}.bigsvd-lock")

    def __enter__(self) -> Output:
        with storage_errors(f"creating {self.path.parent}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._acquire()
        try:
            self._recover()
            self._check_free()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()
        if self._temporary is not None:
            shutil.rmtree(self._temporary)

    def _acquire(self) -> int:
        while True:
            lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_ino == self._lock_path.stat().st_ino:
                    return lock
            except FileNotFoundError:
                pass  # the holder finished and removed the file between our open and our lock: try again
            except BlockingIOError:
                os.close(lock)
                raise OutputBusyError(
                    f"another run is writing {self.path}", "wait for it or choose another output"
                ) from None
            os.close(lock)

    def _release(self) -> None:
        if self._lock < 0:
            return
        try:
            with storage_errors(f"deleting {self._lock_path}"):
                self._lock_path.unlink(missing_ok=True)
        finally:
            os.close(self._lock)
            self._lock = -1

    def _recover(self) -> None:
        replaced = self.scratch / "replaced"
        if replaced.exists() and not self.path.exists():
            replaced.rename(self.path)

    def _check_free(self) -> None:
        if self.path.exists() and not self._overwrite:
            raise OutputExistsError(f"{self.path} already exists", "use overwrite, or choose another output")
        if self.path.exists() and not _replaceable(self.path):
            raise OutputExistsError(f"{self.path} is not a factor store", "choose another output")

    def publish(self) -> Factors:
        """Make the sealed factors in scratch the result, by one rename; the old result is kept until then."""
        new = self.scratch / FOLDER
        with storage_errors(f"publishing {self.path}"):
            for file in sorted(new.rglob("*")):
                if file.is_file():
                    _sync(file)
            if self.path.exists():
                _exchange(new, self.path, self.scratch / "replaced")
            else:
                new.rename(self.path)
            _sync(self.path.parent)
        factors = open_factors(self.path)
        if self._temporary is not None:  # every view of the factors holds their store
            weakref.finalize(factors.U.store, shutil.rmtree, self._temporary, ignore_errors=True)
            self._temporary = None
        return factors

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
            OutputExistsError: the folder is not one of ours.

        """
        if not self.scratch.exists():
            return
        with storage_errors(f"deleting {self.scratch}"):
            entries = sorted(self.scratch.iterdir())
            if entries and not (self.scratch / MARK).is_dir():
                raise OutputExistsError(
                    f"{self.scratch} exists and is no scratch of bigsvd",
                    "move it away or choose another output",
                )
            for run in (self.scratch / MARK).glob("*"):
                run.rmdir()  # first, so that nothing left of that run writes on
            for entry in entries:
                if entry.name != MARK:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            shutil.rmtree(self.scratch)


def _replaceable(path: Path) -> bool:
    """Whether a path holds factors, perhaps damaged ones, or nothing; never someone's data."""
    if not path.is_dir():
        return False
    if not any(path.iterdir()):
        return True
    try:
        metadata = json.loads((path / "zarr.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(metadata, dict) and ATTRIBUTE in metadata.get("attributes", {})


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(new: Path, old: Path, aside: Path) -> None:
    """Swap two folders atomically where the system can (Linux renameat2), else by two renames via `aside`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        done = libc.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE)
        if done == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise OSError(code, os.strerror(code), str(old))
    if aside.exists():
        shutil.rmtree(aside)
    old.rename(aside)
    new.rename(old)
