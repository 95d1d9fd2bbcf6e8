"""A process of some machine, told from every other, and whether it still runs."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_START_SECONDS = 2.0  # by which the start of one process can seem to differ


@dataclass(frozen=True)
class Process:
    """A process: `machine` numbers its processes, and `started` tells it from a later one of that number.

    `started` is in seconds since the machine was, where the system says so: whoever sets its clock changes
    the times of day at which all its processes seem to have been started.
    """

    machine: str
    pid: int
    started: float

    @classmethod
    def here(cls) -> Process:
        """The present one."""
        return cls(_machine(), os.getpid(), _started(psutil.Process()))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Process | None:
        """The inverse of `dataclasses.asdict`; None where these are not the values."""
        try:
            return cls(**{each.name: values[each.name] for each in fields(cls)})
        except (KeyError, TypeError):
            return None

    @property
    def is_of_this_machine(self) -> bool:
        """Whether this process can look at it."""
        return self.machine == _machine()

    @property
    def has_ended(self) -> bool:
        """Whether it is of this machine and runs no more; of another machine that cannot be known."""
        if not self.is_of_this_machine:
            return False
        try:
            found = psutil.Process(self.pid)
            apart = abs(_started(found) - self.started)
            return apart > _START_SECONDS or bool(found.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return not _is_hidden(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.machine.split()[0]}"


def _started(process: psutil.Process) -> float:
    """When a process was started; see `Process`."""
    try:
        said = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux; of a process that has ended, psutil says so
        return float(process.create_time())
    after_name = said.rpartition(")")[2].split()
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")


def _is_hidden(pid: int) -> bool:
    """Whether it is another user's, and the system shows nobody more of it."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False


@cache
def _machine() -> str:
    """The machine since it was started, and on it the name space of processes: a container has its own.

    In letters and digits, of which the first word is for people.
    """
    boot, numbering = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    which = boot.read_text(encoding="ascii") if boot.exists() else ""
    space = numbering.readlink().name if numbering.is_symlink() else ""
    words = (socket.gethostname(), which.strip(), space)
    return " ".join(filter(None, (re.sub("[^0-9A-Za-z.-]", "", word) for word in words)))
