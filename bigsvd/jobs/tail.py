"""Follows the events of a record from a number on, also across the file's rotation."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

from bigsvd.jobs.files import rotated
from bigsvd.jobs.record import Record

SEQ = "seq"  # of an event: its number in the record, from 1


class Tail:
    """The events of a record behind number `after`, as they come.

    Attributes:
        last: the number of the last that was given; `after` before there is one.

    """

    _attempt = 0  # the last of which a line was read

    def __init__(self, record: Record, after: int = 0) -> None:
        self.last = after
        self._file = record.events
        self._inode = -1
        self._offset = 0  # up to which the file of that inode was read
        self._lines = 0

    def new(self, most: int | None = None) -> list[dict[str, Any]]:
        """Those that came since the last call, oldest first, at most so many; the others come next time."""
        found = [event for event in self._numbered() if event[SEQ] > self.last]
        if most is not None and len(found) > most:
            self._inode = -1  # the others are to be read again
            found = found[:most]
        if found:
            self.last = found[-1][SEQ]
        return found

    def _numbered(self) -> list[dict[str, Any]]:
        """Unread lines; those of records that had no numbers have that of their line.

        A driver that was frozen in the middle of a word says it when it thaws, though another has gone on
        since: it is left out.
        """
        events = []
        for line in self._unread().splitlines():
            self._lines += 1
            with suppress(ValueError, TypeError):  # a torn line costs that line
                event = json.loads(line)
                attempt = event.get("attempt") if isinstance(event, dict) else -1
                self._attempt = max(self._attempt, attempt or 0)
                if attempt in (None, self._attempt):
                    events.append({SEQ: self._lines} | event)
        return events

    def _unread(self) -> bytes:
        """Whole lines behind what was read; all there are after a rotation."""
        try:
            file = self._file.open("rb")
        except FileNotFoundError:
            return b""
        with file:
            inode, before = os.fstat(file.fileno()).st_ino, b""
            if inode != self._inode:
                self._inode, self._offset, self._lines, before = inode, 0, 0, self._old()
                self._attempt = 0
            file.seek(self._offset)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        return before + whole

    def _old(self) -> bytes:
        with suppress(FileNotFoundError):
            return rotated(self._file).read_bytes()
        return b""


def last_number(record: Record) -> int:
    """The number of the last event; 0 before there is one."""
    tail = Tail(record)
    tail.new()
    return tail.last
