"""One run at a time holds an output: a folder beside it with one empty file, whose name says who it is.

All is done by renames, which every file system does for exactly one of those who try. A filled folder takes
the place of none or of an empty one: so a lock is made. Its file takes a new name whenever its holder renews
the lease, and another's when that one takes over from a holder that has not: so who renews too late finds the
name gone, and so does who would take what has been renewed meanwhile. An empty file cannot be torn.

A lease runs by the file system's clock: by when the file was touched last, beside what is touched now.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bigsvd.errors import OutputBusyError, SupersededError
from bigsvd.paths import beside, now_at
from bigsvd.process import Process

_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_LOOKS = 3  # at a lock whose file is being renamed
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Lease:
    """For how long a lock is held after each renewal: three intervals between them."""

    interval_seconds: float = 5.0

    @property
    def seconds(self) -> float:
        """After a renewal, until another may take over."""
        return 3 * self.interval_seconds


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as the name of its file says.

    Attributes:
        attempt: of how many that had it one after the other, each from the one before. beats: its renewals.
        token: of this holding alone. since: when that began, in s since the epoch, by the file system's
            clock. left_seconds: of its lease, when it was looked at; negative where that has run out.

    """

    attempt: int
    beats: int
    token: str
    since: int
    lease_seconds: float
    process: Process
    left_seconds: float = 0.0

    @classmethod
    def here(cls, lease: Lease, since: float) -> Holder:
        """The present process, as the first to hold."""
        return cls(1, 0, uuid.uuid4().hex, int(since), lease.seconds, Process.here())

    @property
    def name(self) -> str:
        """Of the file."""
        process, lease_ms = self.process, round(1000 * self.lease_seconds)
        said = self.attempt, self.beats, self.token, self.since, lease_ms, process.pid, process.started
        return ",".join(map(str, (*said, process.machine)))

    @classmethod
    def named(cls, name: str) -> Holder | None:
        """The inverse of `name`; None of what is none."""
        try:
            attempt, beats, token, since, lease_ms, pid, started, machine = name.split(",")
            process = Process(machine, int(pid), float(started))
            return cls(int(attempt), int(beats), token, int(since), int(lease_ms) / 1000, process)
        except ValueError:
            return None

    @property
    def alive(self) -> bool:
        """Whether it holds the lock still: its lease runs, and its process has not ended on this machine."""
        return self.left_seconds > 0 and not self._has_ended

    @property
    def _has_ended(self) -> bool:
        if self.process == Process.here():
            return not any(thread.name == self.thread for thread in threading.enumerate())
        return self.process.has_ended

    @property
    def thread(self) -> str:
        """The name of the thread that renews it."""
        return f"bigsvd-lock-{self.token}"

    def __str__(self) -> str:
        return f"{self.process}, since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.since))}"


def holder_of(lock: Path) -> Holder | None:
    """Who holds the lock of an output (`Place.lock`) or has left it, which is only looked at; else None."""
    for _ in range(_LOOKS):
        found = _holder(lock, now_at(lock.parent))
        if found is not None or not lock.exists():
            return found
    return None


def _holder(lock: Path, now: float) -> Holder | None:
    """The same, at one look: none while the file is being renamed either."""
    for entry in _names_in(lock):
        holder = Holder.named(entry)
        if holder is None:
            continue
        with suppress(FileNotFoundError), (lock / entry).open("rb") as file:  # opened: NFS then asks anew
            touched = os.fstat(file.fileno()).st_mtime
            return replace(holder, left_seconds=touched + holder.lease_seconds - now)
    return None


def _names_in(folder: Path) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return [entry.name for entry in folder.iterdir()]
    return []


class RunLock:
    """A lock at `path`; `what` it stands for is named where another holds it.

    While it is held a thread renews its lease. What a run may no longer do once it is another's is preceded
    by `renew`.
    """

    def __init__(self, path: Path, what: str, lease: Lease | None = None) -> None:
        self.path = path
        self._what = what
        self._lease = lease or Lease()
        self._held: Holder | None = None
        self._turn = threading.Lock()
        self._let_go = threading.Event()
        self._thread: threading.Thread

    def acquire(self) -> None:
        """Take the lock, from nobody or from a holder whose lease has run out or whose process has ended.

        Raises:
            OutputBusyError: another holds it.

        """
        holder = Holder.here(self._lease, now_at(self.path.parent))
        own = self.path.with_name(f"{self.path.name}.{holder.token}")
        self._thread = threading.Thread(target=self._keep, name=holder.thread, daemon=True)
        self._thread.start()
        try:
            try:
                while self._held is None:
                    self._held = self._attempt(holder, own)
            finally:
                _clear(own)
            for left in self._left_behind():
                _clear(left)
        except BaseException:
            self._let_go.set()
            self._thread.join()  # a lock that was taken all the same counts as left from here on
            raise

    def renew(self) -> None:
        """Renew the lease.

        Raises:
            SupersededError: another has taken over. OSError: this cannot be told.

        """
        with self._turn:
            if self._held is None:
                return
            after = replace(self._held, beats=self._held.beats + 1)
            if not self._renamed(self._held, after):
                raise self._superseded()
            self._held = after

    def release(self) -> None:
        """Let go of the lock, if it is held still; in a child of the holder nothing happens."""
        held = self._held
        if held is None or held.process.pid != os.getpid():
            return
        self._let_go.set()
        self._thread.join()
        self._held = None
        _clear(self.path, held.token)

    def _attempt(self, holder: Holder, own: Path) -> Holder | None:
        """Who holds the lock now, if it is this process; None where all is to be done again."""
        try:
            with suppress(FileExistsError):
                own.mkdir()
            (own / holder.name).touch()
            own.rename(self.path)
        except OSError as error:  # not there where a holder has cleared it away, or a server was asked twice
            if error.errno not in _TAKEN | {errno.ENOENT}:
                raise
        if self._renamed(holder, holder):
            return holder
        found = _holder(self.path, now_at(self.path.parent))
        if found is None or found.alive:
            self._refuse(found)
            return None
        after = replace(holder, attempt=found.attempt + 1)
        return after if self._renamed(found, after) else None

    def _refuse(self, found: Holder | None) -> None:
        """`OutputBusyError` where somebody holds the lock, or what is there is no lock at all."""
        if found is not None:
            dead = "" if found.process.is_of_this_machine else " if it has died, run again once that is over;"
            raise OutputBusyError(
                f"another run is writing {self._what} ({found}; its lease lasts {found.left_seconds:.0f} s "
                "more, unless renewed)",
                f"wait for it or stop it;{dead} or choose another output",
            )
        names = _names_in(self.path)
        if self.path.is_file() or (names and not any(map(Holder.named, names))):
            raise OutputBusyError(
                f"{self.path} is no lock of this version of bigsvd",
                "delete it unless an older version is at work, or choose another output",
            )

    def _renamed(self, before: Holder, after: Holder) -> bool:
        """Whether the file named after one holder bears the name of another now, and is touched.

        It is touched before it is renamed: else somebody could see the new name with a lease that has run
        out, and take over from a holder who has just been told that the lock is held. It may bear the name
        from before, when the disk failed after the renaming, or a server did not answer.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            os.utime(self.path / before.name)
            (self.path / before.name).rename(self.path / after.name)
        with suppress(FileNotFoundError, NotADirectoryError):
            os.utime(self.path / after.name)
            return True
        return False

    def _superseded(self) -> SupersededError:
        found = _holder(self.path, 0.0)
        by = "its lock is gone" if found is None else f"by {found}"
        return SupersededError(
            f"this run of {self._what} was superseded ({by}), since its lease of {self._lease.seconds:g} s "
            "had run out",
            "nothing is to be done: the other run goes on from what this one had finished",
        )

    def _keep(self) -> None:
        """Renew the lease until the lock is let go of, or is another's."""
        while not self._let_go.wait(self._lease.interval_seconds):
            try:
                self.renew()
            except SupersededError:
                return  # as the run finds out by itself
            except OSError:
                continue  # there is time for another before the lease runs out

    def _left_behind(self) -> list[Path]:
        """What those have left who were killed while they waited for the lock."""
        return beside(self.path, _TOKEN)


def _clear(folder: Path, token: str = "") -> None:
    """Delete the lock files, of one token or of any, and the folder unless something else is in it."""
    for name in _names_in(folder):
        holder = Holder.named(name)
        if holder is not None and token in ("", holder.token):
            (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in _TAKEN | {errno.ENOENT}:
            raise
