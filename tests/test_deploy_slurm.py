"""The batch script of deploy/slurm, given to a real Slurm of one node."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path

import pytest

from tests import slurm
from tests.deployed import DEPLOY, assert_as_undisturbed, environment, in_first_pass, matrix
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "none")
SCRIPT = str(DEPLOY / "slurm" / "bigsvd.sbatch")
SMALL = ("--nodes=1", "--cpus-per-task=1", "--mem=2G")  # what the script asks for is more than a test has


def test_a_requeued_job_ends_with_the_bits_of_an_undisturbed_run(tmp_path: Path) -> None:
    matrix(tmp_path / "matrix.zarr")
    out = tmp_path / "out"
    with slurm.slurm(tmp_path / "slurm") as cluster:
        command = ["sbatch", "--parsable", *SMALL, SCRIPT, "matrix.zarr", "out", "-k", "50"]
        number = cluster.run(*command, cwd=tmp_path, env=environment()).strip()
        log = tmp_path / f"bigsvd-{number}.log"
        listening = tmp_path / f"bigsvd-{number}.run" / "scheduler.json"
        assert lets_in_nobody(wait_until(lambda: address_in(listening), 60, f"a scheduler listens: {log}"))
        wait_until(lambda: in_first_pass(out), 60, f"the first pass begins: {log}")
        cluster.run("scancel", "--signal=USR1", "--batch", number)
        wait_until(lambda: cluster.job(number)["JobState"] == "PENDING", 30, "the job is requeued")
        assert not out.exists()
        wait_until(lambda: cluster.job(number)["JobState"] == "COMPLETED", 90, f"the job is done: {log}")
        assert cluster.job(number)["Restarts"] == "1"
    assert_as_undisturbed(out)


def address_in(file: Path) -> str:
    """Of the scheduler that wrote this file; empty before it has."""
    try:
        return str(json.loads(file.read_text())["address"])
    except (FileNotFoundError, ValueError):
        return ""


def lets_in_nobody(address: str) -> bool:
    """Whether a scheduler hangs up on who has no certificate of its job."""
    host, port = address.removeprefix("tls://").split(":")
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), 10) as plain, stranger.wrap_socket(plain) as wrapped:
        try:
            return wrapped.recv(1) == b""
        except (ssl.SSLError, ConnectionError):
            return True
