"""One process at a time: a lock file that the system locks, or where it cannot, one that says who made it.

A system that has no `flock` (Lustre and NFS as some mount them) can still create a file that must not exist
yet. Such a file outlives the process that made it, so it names host, process and start of it: a process of
this machine that has ended has let go; of another machine this cannot be known, and what to do is said.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from bigsvd.errors import OutputBusyError

# What systems without flock answer to it.
_NO_LOCKS = frozenset(
    {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL, errno.EPERM, errno.EBADF}
)
_BEING_WRITTEN_SECONDS = 60.0  # a lock file that is empty for longer was left so
_SAID_BYTES = 1024
_START_SECONDS = 2.0  # by which the start of one process can seem to differ


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: `machine` and `pid` name the process, and `started` tells it from a later one."""

    machine: str
    pid: int
    started: float
    since: str
    flocked: bool

    @classmethod
    def here(cls, *, flocked: bool) -> Holder:
        """The present process."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(_machine(), os.getpid(), psutil.Process().create_time(), now, flocked)

    @classmethod
    def read(cls, handle: int) -> Holder | None:
        """Who has written the lock file; None while nobody has, or if it cannot be understood."""
        os.lseek(handle, 0, os.SEEK_SET)
        try:
            said = json.loads(os.read(handle, 4096))
            started, flocked = float(said["started"]), bool(said["flocked"])
            return cls(str(said["machine"]), int(said["pid"]), started, str(said["since"]), flocked)
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def has_ended(self) -> bool:
        """Whether the process is of this machine and runs no more."""
        if self.machine != _machine():
            return False
        try:
            started: float = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return True
        return abs(started - self.started) > _START_SECONDS

    def __str__(self) -> str:
        return f"process {self.pid} on {self.machine.split()[0]}, since {self.since}"


def _machine() -> str:
    """The machine, and on it the name space that numbers its processes: a container has one of its own."""
    numbering = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {numbering.readlink() if numbering.is_symlink() else ''}".strip()


class RunLock:
    """A lock file at `path`; `what` it stands for is named where another holds it."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what
        self._handle = -1

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            OutputBusyError: another holds it.

        """
        while self._handle < 0:
            self._handle = self._attempt()

    def release(self) -> None:
        """Let go of the lock and delete its file."""
        if self._handle < 0:
            return
        try:
            if self._is_at_path(self._handle):
                self.path.unlink()
        finally:
            os.close(self._handle)
            self._handle = -1

    def _attempt(self) -> int:
        """The lock file, held; -1 if it was let go of meanwhile, and all is to be done again."""
        handle, made = self._open()
        if handle < 0:
            return -1
        held = False
        try:
            flocked = self._flock(handle)
            if not self._is_at_path(handle):
                return -1
            if not made and not self._is_left(handle, flocked=flocked):
                return -1
            said = json.dumps(asdict(Holder.here(flocked=flocked)))
            os.pwrite(handle, said.ljust(_SAID_BYTES).encode(), 0)  # over all that another had said
            held = True
        except OSError:
            if made:
                self.path.unlink(missing_ok=True)
            raise
        finally:
            if not held:
                os.close(handle)
        return handle

    def _open(self) -> tuple[int, bool]:
        """The lock file, and whether this made it; -1 where it has gone meanwhile."""
        try:
            return os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644), True
        except FileExistsError:
            pass
        try:
            return os.open(self.path, os.O_RDWR), False
        except FileNotFoundError:
            return -1, False

    def _flock(self, handle: int) -> bool:
        """Lock the file; whether the system can."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._busy(Holder.read(handle)) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return False
        return True

    def _is_left(self, handle: int, *, flocked: bool) -> bool:
        """Whether the file that was there is now ours; False if it has been moved out of the way.

        Who holds it by flock would have been met by `_flock`; who holds it without one is known by what the
        file says.
        """
        holder = Holder.read(handle)
        if flocked and (holder is None or holder.flocked):
            return True
        young = time.time() - os.fstat(handle).st_mtime < _BEING_WRITTEN_SECONDS
        if not holder.has_ended if holder is not None else young:
            raise self._busy(holder)
        if flocked:
            return True
        aside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}")
        try:
            self.path.rename(aside)  # of several that find the lock left, one does this
        except FileNotFoundError:
            return False
        if os.path.samestat(os.fstat(handle), aside.stat()):
            aside.unlink()
        else:
            aside.rename(self.path)  # somebody else has taken it since it was looked at
        return False

    def _is_at_path(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def _busy(self, holder: Holder | None) -> OutputBusyError:
        if holder is None or holder.flocked or holder.machine == _machine():
            by = "" if holder is None else f" ({holder})"
            return OutputBusyError(
                f"another run is writing {self._what}{by}", "wait for it or choose another output"
            )
        return OutputBusyError(
            f"another run is writing {self._what} ({holder})",
            f"wait for it, or delete {self.path} if that process has ended, or choose another output",
        )
