"""The record `<out>.job/` of a job: what was asked for, who works on it, how far that is, how it ended.

| file | what it says | written |
|---|---|---|
| `job.json` | what was asked for, and by whom | once |
| `launch.json` | where it was handed to | at every launch |
| `attempts/0001.json`, `.alive`, `.end.json` | one try: who, its heartbeat, why it ended | see `Attempt` |
| `phase.json` | how far the last attempt is | about once a second |
| `events.jsonl` | what happened, a line each | appended, the oldest are dropped |
| `driver.log` | what drivers print | appended, cut at a size |
| `stop`, `cancel` | that somebody asked for it | by anybody, once |

Everything that only looks reads these files: neither a scheduler nor a worker has to live for it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bigsvd.errors import JobError
from bigsvd.jobs.files import date_of, read_json, touch, write_json
from bigsvd.paths import now_at, resolved
from bigsvd.request import Request
from bigsvd.scratch import storage_errors

SUFFIX = ".job"
VERSION = 1


@dataclass(frozen=True)
class Terms:
    """How a job is to be carried out, as opposed to what is to be computed.

    Attributes:
        attempts: tries in a row that may fail for want of workers, scheduler or storage without one finished
            pass between them. max_runtime_seconds: from its submission, after which the job has failed.
        wait_workers_seconds: for a first worker, at each attempt.

    """

    attempts: int = 5
    max_runtime_seconds: float | None = None
    wait_workers_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise JobError(f"attempts={self.attempts} leaves none", "give at least 1")
        for name in ("max_runtime_seconds", "wait_workers_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise JobError(f"{name}={value} is no time", "give seconds above 0")


@dataclass(frozen=True)
class Asked:
    """What a job was submitted with.

    Attributes:
        folder: the current folder then, to which relative paths refer.

    """

    id: str
    request: Request
    folder: str
    owner: str
    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    terms: Terms = field(default_factory=Terms)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {
            "version": VERSION,
            "request": self.request.to_dict(),
            "hash": digest_of(self.request),
            "terms": asdict(self.terms),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Asked:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, BigsvdError: the values are not those of a job of this version.

        """
        given = {each.name: values[each.name] for each in fields(cls)}
        request = Request.from_dict(given["request"])
        return cls(**given | {"request": request, "terms": Terms(**given["terms"])})


@dataclass(frozen=True)
class Launch:
    """Where the driver of a job was started, and so the next is: here, or by a Dask scheduler's workers.

    Attributes:
        scheduler: its address; empty for a process of this machine. tls: files of the cluster's authority, of
            a certificate and of its key; none where it does not encrypt. They are named, never copied.

    """

    scheduler: str = ""
    tls: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Launch:
        """The inverse of `dataclasses.asdict`."""
        return cls(str(values.get("scheduler", "")), tuple(map(str, values.get("tls", ()))))


class Record:
    """The record of the job that writes `out`."""

    def __init__(self, out: str | Path) -> None:
        target = resolved(out)
        self.out = target
        self.folder = target.with_name(target.name + SUFFIX)
        self.job = self.folder / "job.json"
        self.launched = self.folder / "launch.json"
        self.attempts = self.folder / "attempts"
        self.phase = self.folder / "phase.json"
        self.events = self.folder / "events.jsonl"
        self.log = self.folder / "driver.log"
        self.stop = self.folder / "stop"
        self.cancel = self.folder / "cancel"

    @classmethod
    def at(cls, folder: Path) -> Record:
        """That of this folder."""
        return cls(folder.with_name(folder.name.removesuffix(SUFFIX)))

    @property
    def exists(self) -> bool:
        """Whether a job has been submitted for this output."""
        return self.job.exists()

    def asked(self) -> Asked:
        """What was submitted.

        Raises:
            JobError: no job was, or its record is damaged or of another version.

        """
        if not self.exists:
            raise JobError(f"no job writes {self.out}", f"there is no {self.folder}; look with `bigsvd jobs`")
        values = read_json(self.job)
        try:
            return Asked.from_dict(values)
        except Exception as error:
            version = values.get("version", "none")
            raise JobError(
                f"{self.job} is damaged or of another version ({version}, here {VERSION})",
                f"use that version, or delete {self.folder} and submit again",
            ) from error

    def launch(self) -> Launch:
        """Where it was handed to."""
        return Launch.from_dict(read_json(self.launched))

    def hand_to(self, launch: Launch) -> None:
        """Say where the job is being handed to."""
        with storage_errors(f"writing {self.folder}"):
            write_json(self.launched, asdict(launch))

    def submit(self, asked: Asked) -> bool:
        """Begin a record, in place of that of a job that has ended; False if another was quicker.

        The folder takes its name when it is whole, so that nobody sees half of it.
        """
        with storage_errors(f"writing {self.folder}"):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._aside()
            (fresh / self.attempts.name).mkdir(parents=True)
            write_json(fresh / self.job.name, asked.to_dict())
            self.remove()
            try:
                fresh.rename(self.folder)
            except OSError:
                shutil.rmtree(fresh)
                if not self.exists:
                    raise
                return False
            return True

    def resubmit(self, asked: Asked) -> None:
        """Let the same job go on, on other terms."""
        with storage_errors(f"writing {self.folder}"):
            write_json(self.job, asked.to_dict())
        self.withdraw()

    def withdraw(self) -> None:
        """Forget what was wished of the job, since it is to go on."""
        with storage_errors(f"writing {self.folder}"):
            for file in (self.stop, self.cancel):
                file.unlink(missing_ok=True)

    def ask(self, file: Path) -> None:
        """Leave the wish `stop` or `cancel` for whoever drives the job."""
        with storage_errors(f"writing {self.folder}"):
            touch(file)

    def remove(self) -> None:
        """Delete the record: first its name, so that it is there whole or not at all."""
        if not self.folder.exists():
            return
        gone = self._aside()
        self.folder.rename(gone)
        shutil.rmtree(gone)

    def _aside(self) -> Path:
        """A folder beside it that nobody takes for a record."""
        return self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex}")

    def now(self) -> float:
        """The time, by the clock that dates the files of the record."""
        return now_at(self.folder)

    def seconds_since_submission(self) -> float:
        """By that clock."""
        submitted = date_of(self.job)
        return 0.0 if submitted is None else max(0.0, self.now() - submitted)


def digest_of(request: Request) -> str:
    """What tells a request from every other; whether an old result may be replaced is no part of it."""
    values = request.to_dict()
    values.pop("overwrite")
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
