"""A link that is down for longer than connections last, between a driver and its cluster on another host."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import namespaces
from tests.deployed import assert_as_undisturbed, environment, in_first_pass, matrix
from tests.namespaces import Host, two_hosts
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(bool(namespaces.missing()), reason=namespaces.missing() or "none")
DOWN_SECONDS = 20
TCP_SECONDS = (
    12  # without an answer, after which Dask takes a connection for dead; 30 by default, 11 at least
)


@contextmanager
def started(host: Host, folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a host, with a log in the folder, which is ended."""
    env = environment() | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": f"{TCP_SECONDS}s"}
    with (folder / f"{words[1]}.log").open("wb") as log:
        process = subprocess.Popen(host.command(*words), cwd=folder, env=env, stdout=log, stderr=log)
    with process:
        try:
            yield process
        finally:
            process.kill()


def status(folder: Path) -> dict[str, object]:
    """Of the job, as a terminal without any network sees it."""
    done = subprocess.run(
        ["bigsvd", "status", "out", "--json"],  # noqa: S607
        cwd=folder, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_job_outlives_a_link_that_is_down(tmp_path: Path) -> None:
    """20 s in the first pass: a second attempt finishes it to the same bits, and nobody lends a hand."""
    matrix(tmp_path / "matrix.zarr")
    out = tmp_path / "out"
    with two_hosts() as (here, there), ExitStack() as running:
        address = f"tcp://{there.address}:8786"
        serve = ["dask", "scheduler", "--host", there.address, "--port", "8786", "--no-dashboard"]
        running.enter_context(started(there, tmp_path, *serve))
        worker = ["dask", "worker", address, "--no-dashboard", "--nthreads", "1"]
        running.enter_context(started(there, tmp_path, *worker))
        drive = ["bigsvd", "submit", "matrix.zarr", "out", "-k", "50", "--attach", "--scheduler", address]
        driver = running.enter_context(started(here, tmp_path, *drive))
        wait_until(lambda: in_first_pass(out), 60, f"lanes end: {tmp_path}")
        there.cut()
        cut = time.monotonic()
        wait_until(lambda: time.monotonic() - cut > DOWN_SECONDS, DOWN_SECONDS + 5, "the link is down")
        assert driver.poll() is None
        there.mend()
        wait_until(lambda: driver.poll() is not None, 90, f"the driver ends: {tmp_path}")
        assert driver.returncode == 0
        assert status(tmp_path)["attempt"] == 2
    assert_as_undisturbed(out)
