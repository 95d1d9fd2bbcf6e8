"""deploy/compose.yaml: it is valid, publishes nothing, and its rules carry a job over a lost scheduler."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.compose import Project, services, starts_again
from tests.deployed import DEPLOY, ROOT, assert_as_undisturbed, in_first_pass, matrix
from tests.waiting import wait_until

FILE = DEPLOY / "compose.yaml"


def compose() -> list[str]:
    """The command of Docker's Compose, of whichever kind is there; none of them needs a daemon for this."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    docker = ["docker", "compose"]
    if shutil.which("docker"):
        there = subprocess.run([*docker, "version"], capture_output=True, check=False)
        if there.returncode == 0:
            return docker
    return []


def test_compose_accepts_the_file() -> None:
    if not compose():
        pytest.skip("neither docker-compose nor docker compose (Debian: apt-get install docker-compose)")
    profiles = ["--profile", "gpu", "--profile", "job", "--profile", "service"]
    command = [*compose(), "-f", str(FILE), *profiles, "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "worker-gpu" in done.stdout


def test_nothing_of_the_cluster_is_published_and_all_comes_back() -> None:
    for name, service in services(FILE).items():
        assert service.get("ports", []) == (["127.0.0.1:8765:8765"] if name == "service" else [])
        assert "network_mode" not in service
        assert starts_again(service["restart"], [0]) == (name != "job")
        assert starts_again(service["restart"], [1])


def test_images_are_built_from_files_that_are_there() -> None:
    for service in services(FILE).values():
        build = service["build"]
        assert (FILE.parent / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()


def test_a_job_outlives_its_scheduler_and_its_driver_by_the_rules_of_the_file(tmp_path: Path) -> None:
    """Both are killed in the first pass: they come back, the workers do, and the bits are the same."""
    matrix(tmp_path / "matrix.zarr")
    out = tmp_path / "out"
    project = Project(FILE, tmp_path)
    with project.up("job") as containers:
        (scheduler,), workers, (job,) = containers["scheduler"], containers["worker"], containers["job"]
        wait_until(lambda: in_first_pass(out), 60, f"lanes end: {tmp_path}")
        scheduler.kill()
        wait_until(lambda: attempts(out) == 2, 60, f"the driver tries again: {tmp_path}")
        assert job.codes == []
        job.kill()
        wait_until(lambda: len(job.codes) > 1, 90, f"the job ends: {tmp_path}")
        same, status = [project.run(*words) for words in commands_of_the_header()]
    assert job.codes == [-signal.SIGKILL, 0]
    assert attempts(out) == 3
    assert (same.returncode, status.returncode) == (0, 0)
    assert status.stdout.startswith(f"{same.stdout.strip()}  done")
    assert len(scheduler.codes) == 2  # killed by this test, and stopped with the project
    assert all(len(worker.codes) == 2 for worker in workers)  # one by itself
    assert_as_undisturbed(out)


def commands_of_the_header() -> list[list[str]]:
    """What the file says to run in a container of the service `job`."""
    return [
        shlex.split(line) for line in re.findall(r"^#.* run --rm job (.*)$", FILE.read_text(), re.MULTILINE)
    ]


def attempts(out: Path) -> int:
    """How many have begun, by the record of the job."""
    return len(list(out.with_name(f"{out.name}.job").glob("attempts/????.json")))
