"""What has ended is kept as long as the operator says: records, and results only if that is asked for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bigsvd.errors import BigsvdError
from bigsvd.jobs.status import State
from bigsvd.service.logs import tell
from bigsvd.service.queue.rows import JobQuery, JobRow
from bigsvd.service.results.deletion import remove_result
from bigsvd.service.service import Service

_SWEEP_SECONDS = 600.0
_PAGE_ROWS = 100
_ENDED: tuple[State, ...] = ("done", "failed", "cancelled")


class Sweeper:
    """A thread that forgets what has been kept long enough; a context manager."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sweep_on, daemon=True)

    def __enter__(self) -> Sweeper:
        if self._service.settings.retention.is_limited:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _sweep_on(self) -> None:
        while not self._ended.wait(_SWEEP_SECONDS):
            try:
                sweep(self._service, time.time())
            except BigsvdError as error:
                tell("sweep failed", error=str(error))


def sweep(service: Service, now: float) -> list[str]:
    """Forget what has ended longer ago than is kept, or is more than is kept; the ids of these jobs.

    A job that somebody holds, or whose folders hold something else too, stays.
    """
    gone = []
    for row in _too_many(service, now):
        try:
            _forget(service, row)
        except BigsvdError as error:
            tell("job kept", job=row.id, error=str(error))
        else:
            tell("job forgotten", job=row.id, result=service.settings.retention.results)
            gone.append(row.id)
    return gone


def _too_many(service: Service, now: float) -> list[JobRow]:
    """The jobs that are to be forgotten, of which the newest are counted first."""
    kept, found, held_bytes = service.settings.retention, [], 0
    for row in _ended(service):
        held_bytes += size_bytes(row, results=kept.results)
        old = kept.seconds is not None and now - row.updated > kept.seconds
        if old or (kept.bytes is not None and held_bytes > kept.bytes):
            found.append(row)
    return found


def _ended(service: Service) -> Iterator[JobRow]:
    """All jobs that have ended, the newest first."""
    query = JobQuery(states=_ENDED, limit=min(_PAGE_ROWS, service.settings.limits.page_rows))
    while True:
        page = service.index.jobs(query)
        yield from page.rows
        if page.next_cursor is None:
            return
        query = replace(query, cursor=page.next_cursor)


def size_bytes(row: JobRow, *, results: bool) -> int:
    """What the record of a job takes on its disk, with or without its result; nothing if others are there."""
    record = row.record
    if record is None:
        return 0
    folders = (record.folder, record.out) if results else (record.folder,)
    return sum(_sizes(folders))


def _sizes(folders: Iterable[Path]) -> Iterator[int]:
    """The bytes of each file that is there now."""
    for folder in folders:
        for above, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):  # somebody has just deleted it
                    yield (Path(above) / name).lstat().st_size


def _forget(service: Service, row: JobRow) -> None:
    record = row.record
    if service.settings.retention.results and record is not None and record.out.exists():
        remove_result(service, row.id, record.out)
    else:
        service.index.forget(row.id)
