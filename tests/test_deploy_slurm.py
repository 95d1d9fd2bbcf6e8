"""The batch script of deploy/slurm, given to a real Slurm of one node."""

from __future__ import annotations

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
        wait_until(lambda: in_first_pass(out), 60, f"the first pass begins: {log}")
        cluster.run("scancel", "--signal=USR1", "--batch", number)
        wait_until(lambda: cluster.job(number)["JobState"] == "PENDING", 30, "the job is requeued")
        assert not out.exists()
        wait_until(lambda: cluster.job(number)["JobState"] == "COMPLETED", 90, f"the job is done: {log}")
        assert cluster.job(number)["Restarts"] == "1"
    assert_as_undisturbed(out)
