"""README on clusters: each of its commands, in its order, as somebody with two terminals types them."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigsvd
from tests.deployed import ROOT, environment
from tests.slurm import free_port

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


def test_the_commands_for_a_cluster_do_what_they_say(folder: Path) -> None:
    port = str(free_port())
    first, second, _ = [[line.replace("8786", port) for line in block] for block in terminals()]
    with first_terminal(first, folder):
        told = {line.split()[1]: typed(line, folder) for line in second}
    assert list(told) == ["submit", "status", "stop", "wait", "info"]
    assert told["status"].startswith(f"{told['submit'].strip()}  ")
    assert not bigsvd.open(folder / "OUT").certificate.converged
    assert "stopped by its user" in told["wait"]


def test_the_commands_for_other_ends_do_what_they_say(folder: Path) -> None:
    *_, third = terminals()
    told = {line.split()[1]: typed(line, folder) for line in third}
    assert list(told) == ["submit", "cancel", "resume", "logs", "jobs", "prune"]
    assert told["submit"].strip() in told["jobs"]
    typed("bigsvd cancel OUT2 --drop", folder)
    assert "cancelled" in typed("bigsvd status OUT2", folder)
