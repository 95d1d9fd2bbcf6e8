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
| `verification/` | what the service has found of the result | see `service.verification` |

Everything that only looks reads these files: neither a scheduler nor a worker has to live for it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bigsvd.errors import BigsvdError, JobError, OutputBusyError, OutputExistsError, RequestError
from bigsvd.jobs.bounds import Bounds
from bigsvd.jobs.files import date_of, is_partial, read_json, rotated, touch, write_json
from bigsvd.paths import beside, now_at, resolved
from bigsvd.request import SCALES, VECTORS, Request
from bigsvd.results.lock import RunLock
from bigsvd.scratch import storage_errors

SUFFIX = ".job"
VERSION = 1
_AFTER = "after"
_TURN_SECONDS = 20.0  # that another may take to make or remove a record
_LOOK_SECONDS = 0.02
_ASIDE = re.compile(r"[0-9a-f]{32}")
_PATHS = ("source", "stage", "warm_start", *VECTORS, "rows", "cols")  # fields that may name a file
_RANGE = re.compile(r"[-+0-9\s]*:[-+0-9:\s]*")


@dataclass(frozen=True)
class Terms:
    """How a job is to be carried out, as opposed to what is to be computed.

    Attributes:
        attempts: tries in a row that may fail for want of workers, scheduler or storage without one finished
            pass between them. max_runtime_seconds: from its submission, after which the job has failed.
        wait_workers_seconds: for a first worker, at each attempt. memory_bytes: that the run may hold where
            the request does not say so; None for what its machine has. replaces: the mark of the result that
            it may overwrite, see `results.store.mark_of`, empty for none; None for whatever is there.

    """

    attempts: int = 5
    max_runtime_seconds: float | None = None
    wait_workers_seconds: float = 60.0
    memory_bytes: int | None = None
    replaces: str | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise JobError(f"attempts={self.attempts} leaves none", "give at least 1")
        for name in ("max_runtime_seconds", "wait_workers_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise JobError(f"{name}={value} is no time", "give seconds above 0, or leave it out")


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
            "hash": self.digest,
            "terms": asdict(self.terms),
        }

    @property
    def digest(self) -> str:
        """What tells what is computed from all else, whatever folder its paths are written from."""
        return digest_of(self.request, self.folder)

    @property
    def given(self) -> Request:
        """What is to be run: the request with the memory of the terms, where it names none."""
        return replace(self.request, memory=self.request.memory or self.terms.memory_bytes)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Asked:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError, BigsvdError: the values are not those of a job of this version.

        """
        if values["version"] != VERSION:
            message = f"a record of version {values['version']}"
            raise ValueError(message)
        given = {each.name: values[each.name] for each in fields(cls)}
        request = Request.from_dict(given["request"])
        return cls(**given | {"request": request, "terms": Terms(**given["terms"])})


@dataclass(frozen=True)
class Launch:
    """Where the driver of a job was started, and so the next is: here, or by a Dask scheduler's workers.

    Attributes:
        scheduler: its address; empty for a process of this machine. tls: files of the cluster's authority, of
            a certificate and of its key; none where it does not encrypt. They are named, never copied.
        bounds: where the paths of the request must still lead when it is driven; None for wherever whoever
            submitted it may read and write.

    """

    scheduler: str = ""
    tls: tuple[str, ...] = ()
    bounds: Bounds | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Launch:
        """The inverse of `dataclasses.asdict`."""
        given = values.get("bounds")
        bounds = None if given is None else Bounds.from_dict(given)
        return cls(str(values.get("scheduler", "")), tuple(map(str, values.get("tls", ()))), bounds)


class Record:
    """The record of the job that writes `out`."""

    def __init__(self, out: str | Path) -> None:
        target = resolved(out) if "\0" not in str(out) else Path()
        if not target.name:
            raise JobError(f"{str(out)!r} is no output", "name the folder of a result")
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
        self.verification = self.folder / "verification"

    @classmethod
    def at(cls, folder: Path) -> Record:
        """That of this folder."""
        return cls(folder.with_name(folder.name.removesuffix(SUFFIX)))

    @property
    def exists(self) -> bool:
        """Whether a job has been submitted for this output.

        Raises:
            JobError: this user may not know.

        """
        try:
            return self.job.exists()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return False
            raise JobError(
                f"{self.folder} cannot be looked at ({error.strerror})", "ask whoever it belongs to"
            ) from error

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

    def is_of(self, job: str) -> bool:
        """Whether it is the record of the job of that id; `JobError` where it is damaged."""
        return self.exists and self.asked().id == job

    def asked_before(self) -> Asked | None:
        """The same for whoever comes with a job; None where there is none.

        Raises:
            OutputBusyError: of which nobody knows what it is.

        """
        if not self.exists:
            return None
        try:
            return self.asked()
        except JobError as error:
            raise OutputBusyError(error.message, error.remedy) from error

    def writing(self) -> AbstractContextManager[None]:
        """Turns errors of the disk into `StorageError`."""
        return storage_errors(f"writing {self.folder}")

    def launch(self) -> Launch:
        """Where it was handed to."""
        return Launch.from_dict(read_json(self.launched))

    def hand_to(self, launch: Launch) -> None:
        """Say where the job is being handed to, and after which attempt."""
        with self.writing():
            write_json(self.launched, asdict(launch) | {_AFTER: max(self.attempt_numbers(), default=0)})

    @property
    def launched_after(self) -> int:
        """The number of the last attempt when the job was handed over; 0 before the first."""
        after = read_json(self.launched).get(_AFTER, 0)
        return after if isinstance(after, int) else 0

    def attempt_numbers(self) -> list[int]:
        """Of all attempts, as far as they were begun."""
        try:
            names = os.listdir(self.attempts)  # noqa: PTH208 - asked often
        except FileNotFoundError:
            return []
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return [int(stem) for stem in stems if stem.isdigit()]

    def submit(self, asked: Asked, before: Asked | None) -> bool:
        """Begin a record, in place of that of the job `before`, if any; False if another was quicker.

        The folder takes its name when it is whole, so that nobody sees half of it.

        Raises:
            OutputExistsError: the folder is no record, or holds something else too.

        """
        self._refuse_foreign()
        with self.writing():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with self.turn():
                if self._id != (None if before is None else before.id):
                    return False
                fresh = self._aside()
                try:
                    (fresh / self.attempts.name).mkdir(parents=True)
                    write_json(fresh / self.job.name, asked.to_dict())
                    self._remove()
                    fresh.rename(self.folder)
                except OSError:
                    shutil.rmtree(fresh)
                    raise
            return True

    @property
    def _id(self) -> str | None:
        """Of the job whose record this is; None where there is none."""
        return str(read_json(self.job).get("id")) if self.exists else None

    def _refuse_foreign(self) -> None:
        """`OutputExistsError` where the folder is, or holds, somebody's own."""
        if not os.path.lexists(self.folder):
            return
        advice = "move it away, or choose another output"
        own = self.folder.is_dir() and not self.folder.is_symlink()
        found = sorted(entry.name for entry in self.folder.iterdir()) if own else []
        if not own or (found and not self.exists):
            raise OutputExistsError(f"{self.folder} exists and is no record of a job", advice)
        known = {file.name for file in vars(self).values() if file.parent == self.folder}
        known.add(rotated(self.events).name)
        for name in found:
            if name not in known and not is_partial(name):
                raise OutputExistsError(f"{self.folder} also holds {name}, which is no part of a job", advice)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Alone among those who make or remove a record here; what a killed one has left is swept."""
        lock = RunLock(self.folder.with_name(f".{self.folder.name}.lock"), str(self.folder))
        _acquire(lock)
        try:
            for left in beside(self.folder.with_name(f".{self.folder.name}"), _ASIDE):
                shutil.rmtree(left)
            yield
        finally:
            lock.release()

    def resubmit(self, asked: Asked) -> None:
        """Let the same job go on, on other terms."""
        with self.writing():
            write_json(self.job, asked.to_dict())
        self.withdraw()

    def withdraw(self) -> None:
        """Forget what was wished of the job, since it is to go on."""
        with self.writing():
            for file in (self.stop, self.cancel):
                file.unlink(missing_ok=True)

    def ask(self, file: Path) -> None:
        """Leave the wish `stop` or `cancel` for whoever drives the job."""
        with self.writing():
            touch(file)

    def remove(self) -> None:
        """Delete the record: first its name, so that it is there whole or not at all.

        Raises:
            OutputExistsError: somebody has put something else into it.

        """
        self._refuse_foreign()
        with storage_errors(f"deleting {self.folder}"), self.turn():
            self._remove()

    def _remove(self) -> None:
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

    @property
    def may_have_published(self) -> bool:
        """Whether what is at the output has come there since the job was submitted first.

        Submitted again, a job has a new date; but not its first attempt.
        """
        published = date_of(self.out / "zarr.json")
        dates = (date_of(self.job), date_of(self.attempts / "0001.json"))
        first = min((date for date in dates if date is not None), default=math.inf)
        return published is not None and published >= first

    def seconds_since_submission(self) -> float:
        """By that clock."""
        submitted = date_of(self.job)
        return 0.0 if submitted is None else max(0.0, self.now() - submitted)


def _acquire(lock: RunLock) -> None:
    """Take a lock that nobody holds for long."""
    until = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            lock.acquire()
        except OutputBusyError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return


def new_id() -> str:
    """For a new job: ten hexadecimal digits."""
    return uuid.uuid4().hex[:10]


def digest_of(request: Request, folder: str) -> str:
    """What tells a request from every other for one output; its relative paths begin at `folder`.

    Whether an old result may be replaced is no part of it, nor is how paths are spelled.
    """
    values = request.to_dict()
    for name in ("out", "overwrite"):
        values.pop(name)
    for name in _PATHS:
        values[name] = _placed(values[name], folder)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def answers(provenance: Mapping[str, Any], request: Request, folder: str) -> bool:
    """Whether factors of that provenance are what a request asks for, whatever memory there was for it.

    Relative paths of both begin at `folder`.
    """
    try:
        computed = Request.from_dict(dict(provenance["request"]))
    except (BigsvdError, KeyError, TypeError, ValueError):  # of another version, or nobody's
        return False
    return _digest_of_result(computed, folder) == _digest_of_result(request, folder)


def _digest_of_result(request: Request, folder: str) -> str:
    return digest_of(replace(request, memory=None, device_memory=None), folder)


def _placed(value: Any, folder: str) -> Any:
    """A path as it is seen from everywhere; what is none, a URL among that, as it is."""
    if not isinstance(value, str) or "://" in value or value in SCALES or _RANGE.fullmatch(value):
        return value
    return str(resolved(Path(folder) / value))


def labels_of(texts: Iterable[str], remedy: str) -> dict[str, str]:
    """Labels that are written as KEY=VALUE.

    Raises:
        RequestError: one is not, with this remedy.

    """
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise RequestError(f"label={text!r} is not KEY=VALUE", remedy)
        labels[key] = value
    return labels
