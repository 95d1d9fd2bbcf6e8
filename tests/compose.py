"""Services of a Compose file as processes of this machine, started again by the file's own rules.

What a container would add is left out, images, folders and networks of their own, but for the numbers of
processes: no container can look after those of another. The names of services are names of this machine,
their ports free ones of it, and `/data` is a folder.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deployed import environment
from tests.slurm import free_port

_FIRST_PAUSE_SECONDS = 0.1  # of Docker before it starts a container again, doubled each time


def services(file: Path) -> dict[str, dict[str, Any]]:
    """The services of a Compose file, by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
    return found


def starts_again(rule: str, codes: list[int]) -> bool:
    """Whether Docker starts a container again whose processes ended by themselves, with these codes."""
    name, _, most = rule.partition(":")
    if name == "on-failure":
        return codes[-1] != 0 and (not most or len(codes) <= int(most))
    return name in ("always", "unless-stopped")


@cache
def own_numbers() -> list[str]:
    """What gives a command numbers of processes of its own, as far as that is allowed here."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return []
    return command if done.returncode == 0 else []


class Container:
    """The process of a service, and those that follow it where its rule says so."""

    def __init__(self, command: list[str], rule: str, folder: Path, log: Path) -> None:
        self.codes: list[int] = []  # with which its processes ended
        self._command, self._rule, self._folder, self._log = command, rule, folder, log
        self._stopped = threading.Event()
        self._start()
        self._thread = threading.Thread(target=self._supervise)
        self._thread.start()

    def kill(self) -> None:
        """End its first process by SIGKILL, as a crash or a lack of memory does."""
        self._process.kill()

    def stop(self) -> None:
        """End it, and let it be."""
        self._stopped.set()
        while self._thread.is_alive():
            self._end_group()
            self._thread.join(_FIRST_PAUSE_SECONDS)

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*own_numbers(), *self._command], cwd=self._folder, env=environment(), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _supervise(self) -> None:
        for restarts in itertools.count():
            self.codes.append(self._process.wait())
            self._end_group()
            if not starts_again(self._rule, self.codes):
                return
            if self._stopped.wait(_FIRST_PAUSE_SECONDS * 2**restarts):
                return
            self._start()

    def _end_group(self) -> None:
        """As in a container, whose processes end with its first."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class Project:
    """The services of a file, each with its containers, in a folder that is their `/data`."""

    def __init__(self, file: Path, folder: Path) -> None:
        self._services = services(file)
        self._folder = folder
        self._port = free_port()  # of the scheduler

    def command(self, words: list[str]) -> list[str]:
        """What a container is to run, with the names that this machine has."""
        port = str(self._port)
        return [
            word.replace("//scheduler:8786", f"//127.0.0.1:{port}").replace("8786", port) for word in words
        ]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`docker compose run --rm SERVICE WORDS`."""
        return subprocess.run(
            self.command([*words]), cwd=self._folder, env=environment(), capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip

    @contextmanager
    def up(self, *profiles: str) -> Iterator[dict[str, list[Container]]]:
        """`docker compose up`: the containers of each service that has no profile but these."""
        active = {
            name: service
            for name, service in self._services.items()
            if set(service.get("profiles", profiles)) <= set(profiles)
        }
        with ExitStack() as ending:
            containers: dict[str, list[Container]] = {name: [] for name in active}
            for name, service in active.items():
                for number in range(service.get("scale", 1)):
                    log = self._folder / f"{name}-{number}.log"
                    container = Container(
                        self.command(service["command"]), service["restart"], self._folder, log
                    )
                    ending.callback(container.stop)
                    containers[name].append(container)
            yield containers
