"""Finds records: by the id of a job, by its output, or in folders.

Each user has a folder in which a small file under the id of a job says where its record is. Losing it loses
no job: any record is found by its output.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bigsvd.errors import JobError
from bigsvd.jobs.files import read_json, write_json
from bigsvd.jobs.record import SUFFIX, Record

_ID = re.compile(r"[0-9a-f]{10}")


def _file_of(job_id: str) -> Path | None:
    """Which file of this user's says where the record of a job is; None for a user without a home."""
    folder = _folder()
    return None if folder is None else folder / f"{job_id}.json"


def _folder() -> Path | None:
    """Where the ids of this user's jobs are kept; None for one without a home, as in a container."""
    given = os.environ.get("XDG_STATE_HOME")
    try:
        state = Path(given) if given else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return state / "bigsvd" / "jobs"


def remember(job_id: str, record: Record) -> None:
    """Let the id lead to the record; a state folder that cannot be written costs no more than that."""
    file = _file_of(job_id)
    if file is None:
        return
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"record": str(record.folder)})


def forget(job_id: str) -> None:
    """Let the id lead nowhere; where that cannot be written, it leads to a record that is gone."""
    file = _file_of(job_id)
    if file is not None:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def find(job: str | Path) -> Record:
    """The record of a job, by its id, its output or its own path; an output may be named as a record is.

    Raises:
        JobError: there is none.

    """
    text = str(job)
    by_path = Record(text)
    if by_path.exists:
        return by_path
    if by_path.out.name.removesuffix(SUFFIX) not in ("", by_path.out.name):
        itself = Record.at(by_path.out)
        if itself.exists:
            return itself
    if _ID.fullmatch(text):
        return _by_id(text)
    raise JobError(f"no job writes {text}", f"there is no {by_path.folder}; `bigsvd jobs` lists yours")


def _by_id(job_id: str) -> Record:
    file = _file_of(job_id)
    said = None if file is None else read_json(file).get("record")
    if said is None:
        raise JobError(
            f"no job {job_id} was submitted by this user here",
            "name its output; `bigsvd jobs DIR` looks for it",
        )
    record = Record.at(Path(said))
    if not record.exists:
        raise JobError(
            f"the record of job {job_id} is gone from {record.folder}", "name its output, if it was moved"
        )
    return record


def of_this_user() -> Iterator[Record]:
    """The records of all jobs whose ids are kept and that are still there."""
    folder = _folder()
    for file in [] if folder is None else sorted(folder.glob("*.json")):
        said = read_json(file).get("record")
        if said is not None and not _is_none(Record.at(Path(said))):
            yield Record.at(Path(said))


def below(folder: Path) -> Iterator[Record]:
    """The records in a folder and in those below it; those that are no folders of its own are not entered."""
    for found in sorted(_record_folders(folder)):
        record = Record.at(found)
        if not _is_none(record):
            yield record


def _is_none(record: Record) -> bool:
    """Whether there is no job; of one that may not be looked at this is not said."""
    try:
        return not record.exists
    except JobError:
        return False


def _record_folders(folder: Path) -> Iterator[Path]:
    """Folders named as records are; no store or scratch, which holds many folders, is entered."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    if any(entry.name in ("zarr.json", ".zgroup", ".zarray", ".bigsvd-scratch") for entry in entries):
        return
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            continue
        if entry.name.startswith("."):
            continue
        if entry.name.endswith(SUFFIX):  # not that alone: such begin with a dot
            yield Path(entry.path)
        else:
            yield from _record_folders(Path(entry.path))
