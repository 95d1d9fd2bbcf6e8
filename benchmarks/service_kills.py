"""`service kills`: servers are killed in the middle of whatever they do; every acknowledged job is done once.

The first half of the jobs goes to one server on SQLite, the other to two servers on one PostgreSQL. A killed
server is started again, as its supervisor would. What counts is read in the records of the jobs: how often
each was done, and whether one attempt began before the one before had said its last word.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import zarr

from benchmarks.faults_cluster import Supervised
from benchmarks.machine import provenance
from benchmarks.postgres import lacks_postgres, running_postgres
from bigsvd.client.client import Client
from bigsvd.jobs.attempt import Attempt
from bigsvd.jobs.files import date_of
from bigsvd.jobs.record import Record

SQLITE, POSTGRES = "one server on SQLite", "two servers on PostgreSQL"
SHAPE = (600, 200)
LIMIT_SECONDS = 1800.0
_READY_SECONDS = 60.0
_PATIENCE_SECONDS = 120.0
_SENDERS = 4
_AHEAD = 8  # acknowledged jobs that are not done yet, until more are sent: kills meet every kind of moment
_MOST_DELAY_SECONDS = 3.0
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Served:
    """A server that is started again whenever it has ended, and a client that it has answered before."""

    process: Supervised
    url: str
    client: Client

    def kill(self) -> float:
        """Kill it; the seconds until it answers again."""
        begin = time.monotonic()
        self.process.send(signal.SIGKILL)
        self.await_answer()
        return time.monotonic() - begin

    def await_answer(self) -> None:
        """Return when it answers."""
        until = time.monotonic() + _READY_SECONDS
        while not _answers(self.url):
            if time.monotonic() > until:
                raise RuntimeError(f"no answer within {_READY_SECONDS:g} s: {self.process.log.read_text()}")
            time.sleep(_LOOK_SECONDS)


@dataclass
class Acknowledged:
    """The jobs that a service has said it has, by their outputs."""

    jobs: dict[Path, str] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    failed: bool = False

    def add(self, out: Path, job: str) -> None:
        """One more."""
        with self.changed:
            self.jobs[out] = job
            self.changed.notify_all()

    def await_number(self, number: int) -> None:
        """Return when there are so many, or there will not be more."""
        with self.changed:
            self.changed.wait_for(lambda: self.failed or len(self.jobs) >= number, LIMIT_SECONDS)

    def give_up(self) -> None:
        """There will not be more."""
        with self.changed:
            self.failed = True
            self.changed.notify_all()


@dataclass(frozen=True)
class Half:
    """Some jobs, sent to servers of one kind, and when one of these is killed.

    Attributes:
        kills: how many jobs are acknowledged then, and how many seconds later it is killed.

    """

    kind: str
    folder: Path
    servers: tuple[Served, ...]
    jobs: int
    kills: tuple[tuple[int, float], ...]
    chance: random.Random

    def run(self, tell: Callable[[str], None]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What became of each job, and how each kill went."""
        acknowledged = Acknowledged()
        outs = [self.folder / f"u{number}" for number in range(self.jobs)]
        choices = [self.chance.choice(self.servers) for _ in outs]
        victims = [self.chance.choice(self.servers) for _ in self.kills]
        with ThreadPoolExecutor(_SENDERS + 1) as threads:
            killed = threads.submit(self._kill, victims, acknowledged, tell)
            for sent in [
                threads.submit(self._send, *each, acknowledged) for each in zip(outs, choices, strict=True)
            ]:
                sent.result()
            kills = killed.result()
        _await(lambda: _ended(outs) == len(outs), LIMIT_SECONDS)
        return [self._judged(out, acknowledged.jobs[out]) for out in outs], kills

    def _send(self, out: Path, server: Served, acknowledged: Acknowledged) -> None:
        """One job, again and again with the same key until it is acknowledged."""
        _await(lambda: len(acknowledged.jobs) - _published(self.folder) < _AHEAD, LIMIT_SECONDS)
        try:
            job = server.client.submit(self.folder / "a.zarr", 3, out, name=out.name)
        except BaseException:
            acknowledged.give_up()
            raise
        acknowledged.add(out, job.id)

    def _kill(
        self, victims: list[Served], acknowledged: Acknowledged, tell: Callable[[str], None]
    ) -> list[dict[str, Any]]:
        rows = []
        for (number, delay_seconds), victim in zip(self.kills, victims, strict=True):
            acknowledged.await_number(number)
            time.sleep(delay_seconds)
            there = len(acknowledged.jobs)
            seconds = victim.kill()
            tell(f"{self.kind}: killed with {there} jobs acknowledged, back after {seconds:.1f} s")
            rows.append(
                {
                    "kind": self.kind,
                    "acknowledged": there,
                    "delay_seconds": delay_seconds,
                    "back_seconds": seconds,
                }
            )
        return rows

    def _judged(self, out: Path, job: str) -> dict[str, Any]:
        """What the record and the service say of a job in the end."""
        record = Record(out)
        client = self.servers[0].client
        _await(lambda: client.job(job).status.has_ended, _READY_SECONDS)
        status = client.job(job).status
        made = sum(each.asked.name == out.name for each in client.jobs(text=out.name))
        attempts = [Attempt(record, number) for number in sorted(record.attempt_numbers())]
        return {
            "kind": self.kind,
            "state": status.state,
            "made": made,
            "own_record": record.asked().id == job,
            "attempts": len(attempts),
            "done": sum(attempt.why == "done" for attempt in attempts),
            "overlaps": sum(map(_overlaps, attempts, attempts[1:])),
        }


def run_kills(jobs: int, kills: int, database: str, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """All jobs and kills; without a database a PostgreSQL of its own, where one is installed.

    Without any all jobs go to one server on SQLite.
    """
    chance = random.Random(seed)  # noqa: S311 - of moments, not of secrets
    results = {**provenance(), "parameters": {"jobs": jobs, "kills": kills, "seed": seed, "shape": SHAPE}}
    shares = {SQLITE: (jobs, kills)}
    if database or not lacks_postgres():
        shares = {SQLITE: (jobs - jobs // 2, kills - kills // 2), POSTGRES: (jobs // 2, kills // 2)}
    rows: list[dict[str, Any]] = []
    killed: list[dict[str, Any]] = []
    for kind, (some, times) in shares.items():
        with _half(kind, some, times, database, chance) as half:
            judged, moments = half.run(tell)
        rows += judged
        killed += moments
    return {**results, "jobs": rows, "killed": killed, "right": sum(map(is_right, rows))}


def is_right(row: dict[str, Any]) -> bool:
    """Whether a job was made once, done once, and had one attempt at a time."""
    once = (row["made"], row["done"], row["own_record"]) == (1, 1, True)
    return once and (row["state"], row["overlaps"]) == ("done", 0)


@contextmanager
def _half(kind: str, jobs: int, kills: int, database: str, chance: random.Random) -> Iterator[Half]:
    """The servers of one kind, up and answering, and what is to happen to them."""
    moments = sorted(chance.randint(1, jobs) for _ in range(kills))
    delays = [number % 2 * chance.uniform(0.0, _MOST_DELAY_SECONDS) for number in range(kills)]
    with ExitStack() as stack:
        place = tempfile.TemporaryDirectory(prefix="bigsvd-kills-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(place))
        A = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
        zarr.create_array(str(folder / "a.zarr"), data=A, chunks=(100, SHAPE[1]))
        shared = nullcontext(database) if database else running_postgres()
        url = stack.enter_context(shared) if kind == POSTGRES else ""
        servers = [stack.enter_context(_server(folder, name, url)) for name in ("a", "b")[: 1 + bool(url)]]
        yield Half(kind, folder, tuple(servers), jobs, tuple(zip(moments, delays, strict=True)), chance)


@contextmanager
def _server(folder: Path, name: str, database: str) -> Iterator[Served]:
    """A server at a port that was free a moment ago, with two jobs at a time."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    state = folder / f"state-{name}"
    environment = [f"XDG_STATE_HOME={folder / 'home'}", f"BIGSVD_DATABASE={database}"]
    served = ["serve", "--no-token", "--port", str(port), "--root", str(folder), "--state", str(state)]
    command = [
        "env",
        *environment,
        sys.executable,
        "-m",
        "bigsvd",
        *served,
        "--jobs-at-once",
        "2",
        "--memory",
        "1GB",
    ]
    url = f"http://127.0.0.1:{port}"
    with (
        Supervised(command, folder / f"{name}.log") as process,
        Client(url, patience_seconds=_PATIENCE_SECONDS) as client,
    ):
        server = Served(process, url, client)
        server.await_answer()
        list(client.jobs())  # it is patient with a service that it knows
        yield server


def _answers(url: str) -> bool:
    try:
        urlopen(f"{url}/healthz", timeout=5.0).close()  # noqa: S310 - of this machine
    except (URLError, OSError):
        return False
    return True


def _published(folder: Path) -> int:
    """How many results there are."""
    return sum(
        (Path(entry) / "zarr.json").exists() for entry in os.scandir(folder) if entry.name.startswith("u")
    )


def _ended(outs: list[Path]) -> int:
    """How many jobs have said that they are done."""
    return sum(_is_done(Record(out)) for out in outs)


def _is_done(record: Record) -> bool:
    last = Attempt.last_of(record)
    return last is not None and last.why is not None


def _overlaps(one: Attempt, following: Attempt) -> bool:
    """Whether an attempt began before the one before it had given its last sign of life."""
    begun = date_of(following.file)
    return begun is not None and begun < one.last_word


def _await(true: Callable[[], bool], limit_seconds: float) -> None:
    until = time.monotonic() + limit_seconds
    while not true():
        if time.monotonic() > until:
            raise RuntimeError(f"not within {limit_seconds:g} s")
        time.sleep(10 * _LOOK_SECONDS)
