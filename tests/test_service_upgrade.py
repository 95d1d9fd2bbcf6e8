"""A server is replaced by a newer one while jobs are queued and running; one is restored from a backup."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigsvd
from tests.servers import Running, running
from tests.small_arrays import small_matrix, store
from tests.waiting import wait_until

# A version of bigsvd whose tables have one more column.
NEWER = """
import sys
from sqlalchemy import text
from bigsvd.service.store import tables

def step(connection):
    connection.execute(text("ALTER TABLE jobs ADD COLUMN colour VARCHAR NOT NULL DEFAULT 'blue'"))

tables.VERSION += 1
tables._MIGRATIONS = (*tables._MIGRATIONS, step)
sys.argv = sys.argv[3:]
from bigsvd.cli import main
main()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    store(folder / "a.zarr", small_matrix())
    noise = np.random.default_rng(0).standard_normal((2_000, 1_600)).astype(np.float32)
    zarr.create_array(str(folder / "noise.zarr"), data=noise, chunks=(100, 1_600))
    return folder


def client_of(server: Running) -> bigsvd.Client:
    return bigsvd.Client(server.url, server.token)


def test_jobs_that_are_queued_and_running_go_on_under_a_newer_server(root: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.py"
    newer.write_text(NEWER)
    state: tuple[Any, ...] = ("--state", tmp_path / "state", "--no-token")
    with running(root, *state) as older, client_of(older) as client:
        works = client.submit("noise.zarr", 4, "works", method="krylov", tol=1e-14, max_passes=2_000)
        waits = [client.submit("a.zarr", k, f"waits{k}") for k in (2, 3)]
        wait_until(lambda: works.status.phase.quality, 60, "a pass has ended")
        assert {job.status.state for job in waits} == {"queued"}
        assert older.end() == 0
    with running(root, *state, under=(sys.executable, str(newer))) as server, client_of(server) as client:
        goes_on = client.job(works.id)
        assert goes_on.status.state == "running"
        assert goes_on.status.attempt == 1
        goes_on.stop()
        results = [client.job(job.id).wait(120) for job in (works, *waits)]
        assert [result.info()["k"] for result in results] == [4, 2, 3]
        assert [client.job(job.id).status.attempt for job in (works, *waits)] == [1, 1, 1]
    command = [sys.executable, "-m", "bigsvd", "serve", "--root", str(root), "--port", "0", *map(str, state)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode != 0
    assert "newer version of bigsvd" in refused.stderr


def test_a_backup_that_is_made_while_it_runs_restores_a_server(root: Path, tmp_path: Path) -> None:
    """As README has it; a job that was done after the backup is known by its record and its result."""
    state, backup = tmp_path / "state", tmp_path / "backup"
    backup.mkdir()
    with running(root, "--state", state) as server, client_of(server) as client:
        before = client.submit("a.zarr", 2, "before")
        before.wait(120)
        with sqlite3.connect(state / "service.sqlite3") as database:
            database.execute("VACUUM INTO ?", [str(backup / "service.sqlite3")])
        database.close()
        after = client.submit("a.zarr", 3, "after")
        after.wait(120)
        token = server.token
    shutil.rmtree(state)
    state.mkdir()
    shutil.copy(backup / "service.sqlite3", state)
    with running(root, "--state", state) as server:
        assert server.token == ""  # those that were made hold on
        with bigsvd.Client(server.url, token) as client:
            assert client.result(before.id).info()["k"] == 2
            assert [job.asked.id for job in client.jobs()] == [before.id]
            again = client.submit("a.zarr", 3, "after")
            assert again.wait(120).info()["k"] == 3
            assert again.status.attempt == 1  # its result was there
