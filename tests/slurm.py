"""A Slurm cluster of one node that tests start for themselves, from a folder of their own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.waiting import wait_until

DAEMONS = ("munged", "slurmctld", "slurmd")
_SBIN = "/usr/sbin"
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
KillWait=2
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""  # cred_expire: how long a requeued job waits; KillWait: when what is left of its last run is killed


def missing() -> str:
    """Why no Slurm can be started here; empty if it can."""
    absent = [name for name in DAEMONS if not _found(name)]
    if absent:
        return f"{', '.join(absent)} not found (Debian: apt-get install slurmctld slurmd munge)"
    return "" if os.geteuid() == 0 else "Slurm's daemons are started as root"


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:{_SBIN}")


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True)
class Slurm:
    """The commands of one cluster."""

    folder: Path

    def run(self, *command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        """What a command of Slurm's prints."""
        environment = os.environ | (env or {}) | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """What Slurm says of a job: JobState, Restarts, ExitCode, …"""
        return dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", number)))


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """A controller and one node, idle; all that they started is ended with them."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    cores, memory = psutil.cpu_count() or 1, psutil.virtual_memory().total // 2**20
    configuration = _CONFIGURATION.format(
        folder=folder, host=socket.gethostname().partition(".")[0], cores=cores, memory=memory,
        controller_port=free_port(), node_port=free_port(),
    )  # fmt: skip
    (folder / "slurm.conf").write_text(configuration)
    named = {"socket": "munge.socket", "key-file": "munge.key", "log-file": "munge.log", "seed-file": "seed"}
    munge = [f"--{option}={folder / name}" for option, name in (named | {"pid-file": "munged.pid"}).items()]
    cluster = Slurm(folder)
    with ExitStack() as ending:
        ending.enter_context(_daemon("munged", "--foreground", "--force", *munge))
        wait_until((folder / "munge.socket").exists, 10, "munged listens")
        for name in ("slurmctld", "slurmd"):
            ending.enter_context(_daemon(name, "-D", "-f", str(folder / "slurm.conf")))
        wait_until(lambda: "idle" in _nodes(cluster), 30, "the node is idle")
        ending.callback(_end_jobs, cluster)
        yield cluster


def _end_jobs(cluster: Slurm) -> None:
    cluster.run("scancel", "--user=root")
    wait_until(lambda: not cluster.run("squeue", "--noheader"), 60, "no job is left")


def _nodes(cluster: Slurm) -> str:
    """The states of nodes; nothing while the controller does not answer yet."""
    try:
        return cluster.run("sinfo", "--noheader", "--format=%T")
    except AssertionError:
        return ""


@contextmanager
def _daemon(name: str, *arguments: str) -> Iterator[None]:
    """A daemon in the foreground, ended by SIGTERM."""
    command = [str(_found(name)), *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
