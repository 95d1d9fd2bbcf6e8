"""A PostgreSQL server for a while, from whatever the system has installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIMIT_SECONDS = 60.0
_PLACES = Path("/usr/lib/postgresql")  # where Debian has it, which puts none of it on the path


def program(name: str) -> str | None:
    """The path of a program of PostgreSQL; None where there is none."""
    placed = [str(path) for path in sorted(_PLACES.glob(f"*/bin/{name}"))]
    return placed[-1] if placed else shutil.which(name)


def lacks_postgres() -> bool:
    """Whether there is nothing that could be started."""
    return program("initdb") is None or (os.geteuid() == 0 and _user() is None)


def _user() -> str | None:
    """As whom it is started by root, as whom it refuses to work; None where there is nobody."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of an empty database, which is gone afterwards."""
    user = _user() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="bigsvd-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    cluster = folder / "data"
    try:
        made = [str(program("initdb")), "-D", str(cluster), "-A", "trust", "-U", "bigsvd", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, user=user, cwd=folder)
        served = [str(program("postgres")), "-D", str(cluster), "-k", str(folder), "-h", ""]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(served, user=user, stdout=log, stderr=log, cwd=folder)
        try:
            _await_answer(folder, server)
            yield f"postgresql://bigsvd@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait(_LIMIT_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _await_answer(folder: Path, server: subprocess.Popen[bytes]) -> None:
    """Return when the server at this socket takes connections."""
    asked = [str(program("pg_isready")), "-h", str(folder), "-q"]
    until = time.monotonic() + _LIMIT_SECONDS
    while subprocess.run(asked, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > until:
            said = (folder / "log").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"PostgreSQL has not come up: {said}")
        time.sleep(0.05)
