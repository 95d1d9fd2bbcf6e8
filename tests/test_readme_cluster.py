"""README on clusters: each of its commands, in its order, as somebody with two terminals types them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigsvd
from bigsvd.jobs.attempt import Attempt
from tests.deployed import ROOT, environment
from tests.slurm import free_port
from tests.waiting import wait_until

LIMIT_SECONDS = 120


def terminals() -> list[list[str]]:
    """The commands of the section, by its blocks."""
    section = (ROOT / "README.md").read_text().partition("\n## On a cluster\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    return [[line.partition("  #")[0].strip() for line in block.splitlines()] for block in blocks]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they are typed: DATA is noise, on which a job works until it is told to stop."""
    folder = tmp_path_factory.mktemp("cluster")
    noise = np.random.default_rng(0).standard_normal((4_000, 5_000), dtype=np.float32)
    zarr.create_array(str(folder / "DATA"), data=noise, chunks=(100, 5_000))
    return folder


@contextmanager
def first_terminal(lines: list[str], folder: Path) -> Iterator[None]:
    """What is started there, in the background, until it is closed."""
    with ExitStack() as running:
        for line in lines:
            command, background = line.removesuffix("&"), line.endswith("&")
            assert background
            with (folder / "first.log").open("ab") as log:
                process = subprocess.Popen(
                    shlex.split(command), cwd=folder, env=environment(), stdout=log, stderr=log
                )
            running.callback(process.wait)
            running.callback(process.terminate)
        yield


def typed(line: str, folder: Path) -> str:
    """What a command of the second terminal prints."""
    done = subprocess.run(
        shlex.split(line), cwd=folder, env=environment(), capture_output=True, text=True, check=False,
        timeout=LIMIT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout


def kill_driver(out: Path) -> None:
    """Once there is one, and wait until its cluster has started another, as the table says."""
    job = bigsvd.Job(out)
    wait_until(lambda: job.status.state == "running", LIMIT_SECONDS, "it runs")
    driver = Attempt(job.record, 1).process
    assert driver is not None
    os.kill(driver.pid, signal.SIGKILL)
    wait_until(lambda: job.status.attempt == 2, LIMIT_SECONDS, "another has begun")


def test_the_commands_for_a_cluster_do_what_they_say(folder: Path) -> None:
    port = str(free_port())
    first, second, _ = [[line.replace("8786", port) for line in block] for block in terminals()]
    told = {}
    with first_terminal(first, folder):
        for line in second:
            verb = line.split()[1]
            told[verb] = typed(line, folder)
            if verb == "status":
                kill_driver(folder / "OUT")
    assert list(told) == ["submit", "status", "stop", "wait", "info"]
    assert told["status"].startswith(f"{told['submit'].strip()}  ")
    assert not bigsvd.open(folder / "OUT").certificate.converged
    assert "stopped by its user" in told["wait"]


def test_the_commands_for_other_ends_do_what_they_say(folder: Path) -> None:
    *_, third = terminals()
    told = {line.split()[1]: typed(line, folder) for line in third}
    assert list(told) == ["submit", "cancel", "resume", "logs", "jobs", "prune"]
    assert told["submit"].strip() in told["jobs"]
    scratch = folder / "OUT2.scratch"
    wait_until(scratch.exists, LIMIT_SECONDS, "the job that was resumed has begun")
    typed("bigsvd cancel OUT2 --drop", folder)
    assert not scratch.exists()
    assert "cancelled" in typed("bigsvd status OUT2", folder)
