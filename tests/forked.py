"""Drivers of jobs that are forked from a process which has imported all that they need.

One that is started takes a second to import it. Tests that are not about how a driver starts have hundreds.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import psutil
import pytest

from bigsvd.jobs.record import Launch, Record
from tests.waiting import wait_until

_LONGEST_SECONDS = 3600.0  # that a test may take
# For each line of its input a child in a session of its own, which does what `python -m bigsvd drive` does.
_FORKING = """
import json, os, signal, sys
import bigsvd.cli, bigsvd.jobs.driver, bigsvd.solve, bigsvd.sources.open
import bigsvd.methods.gram, bigsvd.methods.krylov, bigsvd.sources.by_path, zarr

def drive(out, log, given, environment):
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    reading, writing = os.pipe()
    os.write(writing, given.encode())
    os.close(writing)
    os.dup2(reading, 0)
    sys.stdin = open(0, closefd=False)
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for standard in (1, 2):
        os.dup2(said, standard)
    try:
        bigsvd.cli.main(["drive", out])
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who has ended stays no zombie
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        drive(*json.loads(line))
    print(child, flush=True)
"""


@dataclass(frozen=True)
class Forked:
    """A driver, as far as whoever has started it needs it."""

    pid: int

    def wait(self) -> None:
        """Return when it has ended."""
        wait_until(lambda: not psutil.pid_exists(self.pid), _LONGEST_SECONDS, "the driver has ended")


class _Forking:
    """The process that forks them, until this one ends."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _FORKING]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._turn = threading.Lock()
        atexit.register(self._end)

    def fork(self, *question: Any) -> int:
        """The number of a child that does what it is asked."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        with self._turn:
            print(json.dumps(question), file=asked, flush=True)
            return int(answers.readline())

    def _end(self) -> None:
        self._process.communicate()


@cache
def _forking() -> _Forking:
    """One for all tests of this process."""
    return _Forking()


def _start(record: Record, launch: Launch, secrets: Mapping[str, Any]) -> Forked:
    given = json.dumps({"launch": asdict(launch), "secrets": dict(secrets)})
    return Forked(_forking().fork(str(record.out), str(record.log), given, dict(os.environ)))


@contextmanager
def forked_drivers() -> Iterator[None]:
    """Meanwhile drivers that this process starts are forked."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bigsvd.jobs.launch.start_here", _start)
        yield
