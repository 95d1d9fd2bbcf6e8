"""The small files of a record: each is there whole or not at all, and is dated by the file system's clock.

Hosts that share a file system need not agree on the time: what is compared are dates that the file system
itself has given.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

_ROTATED = ".old"
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{32}")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Put a file there, or another in its place, by one rename."""
    partial = _written_aside(path, values)
    try:
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def create_json(path: Path, values: dict[str, Any]) -> bool:
    """Put a file there unless there is one; of several that try, one is told that it has."""
    partial = _written_aside(path, values)
    try:
        os.link(partial, path)
    except FileExistsError:  # perhaps made by this very call, of which a server's first answer was lost
        return os.stat(partial).st_nlink > 1  # noqa: PTH116 - of what is there now
    except OSError:  # a file system without hard links
        return _created_bare(path, values)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _written_aside(path: Path, values: dict[str, Any]) -> Path:
    """A file with these values beside `path`, on the disk before it takes that name."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(values, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # a full disk would fill with names
        partial.unlink(missing_ok=True)
        raise
    return partial


def is_partial(name: str) -> bool:
    """Whether a file of that name was being written by somebody who was killed then."""
    return _PARTIAL.fullmatch(name) is not None


def _created_bare(path: Path, values: dict[str, Any]) -> bool:
    """The same in two steps: a reader that comes between them sees a torn file, which it takes for none."""
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(values, file, indent=1)
    except FileExistsError:
        return False
    return True


def read_json(path: Path) -> dict[str, Any]:
    """What a file says; nothing where there is none or it is torn: that costs this file, not the job."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def append_line(path: Path, values: dict[str, Any], most_bytes: int) -> None:
    """Add a line of JSON; a file that has grown over `most_bytes` becomes the old one, in place of that."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > most_bytes:
            path.replace(rotated(path))
    line = json.dumps(values) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def rotated(path: Path) -> Path:
    """The old file of one that lines are added to."""
    return path.with_name(path.name + _ROTATED)


def read_text(path: Path, most_bytes: int | None = None) -> str:
    """The text of a log, or the last so many bytes of it; empty where there is none."""
    try:
        with path.open("rb") as file:
            if most_bytes is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def shorten(path: Path, most_bytes: int) -> None:
    """Keep the last half of so many bytes of a log that others append to."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size <= most_bytes:
            return
        file.seek(size - most_bytes // 2)
        kept = file.read().partition(b"\n")[2]
        file.truncate(0)
        file.seek(0)
        file.write(b"(what was here before is cut off)\n" + kept)


def touch(path: Path) -> None:
    """Date a file now; it is made where there is none."""
    path.touch()


def date_of(path: Path) -> float | None:
    """When a file was last written, in seconds of its file system's clock; None where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
