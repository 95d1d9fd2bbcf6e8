"""Verifies a result, in a process that outlives the server: `python -m` of this module.

What it finds it writes into a folder, where whichever server runs then looks.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from bigsvd.distill.measured import verification_of
from bigsvd.errors import QuotaError, StateError
from bigsvd.events import unheard
from bigsvd.execution.cluster import Tls, connected
from bigsvd.jobs.attempt import Told
from bigsvd.jobs.files import date_of, read_json, write_json
from bigsvd.paths import now_at
from bigsvd.process import Process
from bigsvd.request import Request
from bigsvd.results.factors import open_factors
from bigsvd.scratch import storage_errors
from bigsvd.sources.open import open_source

State = Literal["running", "done", "failed"]
_SILENT = Told("E_BIGSVD", "the process that verified has ended without a word", "verify again", 3)
_START_SECONDS = 60.0  # by which a process that was started has said so


@dataclass(frozen=True)
class Task:
    """What is to be verified.

    Attributes:
        path: of the factors. source: of the data. scheduler, tls: of the cluster that reads these, if any.

    """

    path: str
    source: str
    scheduler: str = ""
    tls: tuple[str, ...] = ()


class Verification:
    """What a folder says of a verification."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.task = folder / "task.json"
        self.process = folder / "process.json"
        self.found = folder / "found.json"
        self.error = folder / "error.json"
        self.log = folder / "log"

    @property
    def exists(self) -> bool:
        """Whether one was begun."""
        return self.task.exists()

    @property
    def state(self) -> State:
        """How it stands."""
        if self.found.exists():
            return "done"
        if self.error.exists():
            return "failed"
        return "running" if self._lives else "failed"

    @property
    def _lives(self) -> bool:
        """Whether its process is at work, or may still be starting."""
        process = Process.from_dict(read_json(self.process))
        if process is None:
            return self._seconds < _START_SECONDS
        return not process.has_ended

    @property
    def _seconds(self) -> float:
        """Since it was asked for."""
        return now_at(self.folder) - (date_of(self.task) or 0.0)

    def begin(self, task: Task) -> subprocess.Popen[bytes]:
        """Start the process that runs it, and return that; nothing is there then of one before."""
        with storage_errors(f"writing {self.folder}"):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_json(self.task, asdict(task))
            with self.log.open("wb") as log:
                return self._start(log)

    def _start(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "bigsvd.service.verification", str(self.folder)]
        process = subprocess.Popen(  # noqa: S603 - this interpreter
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        threading.Thread(target=process.wait, daemon=True).start()  # or it would stay as a zombie
        return process

    @property
    def outcome(self) -> dict[str, Any] | None:
        """What it found; None before it is done."""
        return read_json(self.found) or None

    @property
    def told(self) -> Told | None:
        """What it failed by."""
        if self.state != "failed":
            return None
        return Told.from_dict(read_json(self.error)) or _SILENT

    def run(self) -> None:
        """Verify, in this process."""
        write_json(self.process, asdict(Process.here()))
        given = read_json(self.task)
        try:
            found = _verified(Task(**given | {"tls": tuple(given["tls"])}))
        except BaseException as error:
            write_json(self.error, asdict(Told.of(error)))
            raise
        write_json(self.found, found)


class Verifiers:
    """The processes of one server that verify, `most` at a time: each reads all data of a result."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._at_work: list[subprocess.Popen[bytes]] = []

    def begin(self, verification: Verification, task: Task) -> None:
        """Start one more.

        Raises:
            StateError: this result is being verified. QuotaError: there are as many as there may be.

        """
        with self._lock:
            if verification.exists and verification.state == "running":
                raise StateError(f"the result {task.path} is being verified", "ask how that stands")
            self._at_work = [process for process in self._at_work if process.poll() is None]
            number = len(self._at_work)
            if number >= self._most:
                raise QuotaError(
                    f"{number} results are being verified, at most {self._most} may be (verifications)",
                    "wait until one has been",
                )
            self._at_work.append(verification.begin(task))


def _verified(task: Task) -> dict[str, Any]:
    """What `bigsvd verify --json` prints."""
    factors = open_factors(task.path)
    asked = replace(Request.from_dict(factors.provenance["request"]), rows=None, cols=None)
    source = open_source(task.source, **asked.reading)
    with connected(task.scheduler or None, tls=Tls.of(task.tls)) as client:
        return verification_of(factors, source, unheard, client).to_dict()


if __name__ == "__main__":
    Verification(Path(sys.argv[1])).run()
