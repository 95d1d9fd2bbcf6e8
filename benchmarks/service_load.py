"""`service load`: how long a job takes to be taken in where a hundred clients come at a time, beside readers.

Each client has a connection of its own. In a burst all send at the same moment, and the last is answered when
the server has done the work of all; at a pace each sends when its turn has come, as many a second in all. The
requests are bytes that lie ready, and answers are timed when they arrive: what is measured is the server, in
turns with readers that ask for one chunk after the other as fast as they get them, and without.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import zarr

from benchmarks.machine import provenance
from benchmarks.service_server import Server, serving
from bigsvd.jobs.attempt import Attempt
from bigsvd.jobs.record import Record

Tell = Callable[[str], None]
LIMIT_SECONDS = 120.0
_LOOK_SECONDS = 0.02
_MOST_HEAD_BYTES = 2**16
_FROZEN_SECONDS = 8.0  # at a time, of the driver that holds the only place: less than its lease


@dataclass(frozen=True)
class Size:
    """How many clients and readers, how often each client sends, and the matrix whose result is read.

    Attributes:
        a_second: jobs that come in all, where they come at a pace.

    """

    clients: int
    readers: int
    rounds: int
    a_second: float
    shape: tuple[int, int]
    k: int


SIZES = {
    "tiny": Size(10, 1, 1, 20.0, (600, 400), 4),
    "full": Size(100, 10, 10, 50.0, (4_000, 3_000), 20),
}


def run_load(size: Size, tell: Tell) -> dict[str, Any]:
    """All there is to tell of one server."""
    results = {**provenance(), "parameters": vars(size)}
    with tempfile.TemporaryDirectory(prefix="bigsvd-load-", ignore_cleanup_errors=True) as name:
        root = Path(name) / "root"
        root.mkdir()
        options = ("--jobs-at-once", "1", "--limit", f"queued_jobs={10**6}", "--memory", "1GB")
        with serving(root, *options) as server:
            keys = _published(root, server, size)
            with _place_taken(root, server):
                rows = list(_measured(server, size, keys, tell))
                same = asyncio.run(_one_key(server.url, size.clients))
                tell(f"one key from {size.clients}: {same} job")
    return {**results, "rows": rows, "jobs_of_one_key": same}


def _published(root: Path, server: Server, size: Size) -> list[str]:
    """The paths of the chunks of a result that is served."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal(size.shape).astype(np.float32)
    zarr.create_array(str(root / "a.zarr"), data=A, chunks=(size.shape[0] // 10, size.shape[1]))
    with server.client() as client:
        job = client.submit("a.zarr", size.k, "read", method="krylov", max_passes=2)
        job.wait(LIMIT_SECONDS)
        grid = client.open(job.id).cdata_shape
    here = f"/v1/results/{job.id}/zarr/reconstruction/c"
    return [f"{here}/{i}/{j}" for i in range(grid[0]) for j in range(grid[1])]


@contextmanager
def _place_taken(root: Path, server: Server) -> Iterator[None]:
    """A job that has the only place and computes nothing: its driver sleeps, but to say that it lives."""
    with server.client() as client:
        job = client.submit("a.zarr", 4, "endless", method="krylov", tol=1e-14, max_passes=10**6)
        _await(lambda: job.status.state == "running")
        last = Attempt.last_of(Record(root / "endless"))
        if last is None or last.process is None:
            raise RuntimeError("a job that runs has no driver")
        ended = multiprocessing.Event()
        keeper = multiprocessing.Process(target=_doze, args=(last.process.pid, ended), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()
            job.cancel()


def _doze(pid: int, ended: Any) -> None:
    """Keep a process stopped, but for moments in which it can renew its lease."""
    while not ended.is_set():
        os.kill(pid, signal.SIGSTOP)
        ended.wait(_FROZEN_SECONDS)
        os.kill(pid, signal.SIGCONT)
        ended.wait(1.0)


def _measured(server: Server, size: Size, chunks: list[str], tell: Tell) -> Iterator[dict[str, Any]]:
    """Creations in bursts and at a pace, without readers and beside them."""
    for readers in (0, size.readers):
        with _reading(server.url, chunks, readers) as count:
            for name, send in (("burst", _bursts), ("pace", _paced)):
                before, begun = count.value, time.perf_counter()
                seconds = asyncio.run(send(server.url, size, f"{name}-{readers}"))
                took = time.perf_counter() - begun
                row = {
                    "how": name,
                    "readers": readers,
                    "jobs": len(seconds),
                    "seconds": sorted(round(each, 6) for each in seconds),
                    "chunks_a_second": (count.value - before) / took,
                }
                p50, p99 = np.quantile(seconds, (0.5, 0.99))
                tell(f"{name}, {readers} readers: p50 {1e3 * p50:.1f} ms, p99 {1e3 * p99:.1f} ms")
                yield row


@contextmanager
def _reading(url: str, chunks: list[str], readers: int) -> Iterator[Any]:
    """Readers in a process of their own, and the number of chunks that they have read."""
    count, ended = multiprocessing.Value("q", 0), multiprocessing.Event()
    if readers == 0:
        yield count
        return
    process = multiprocessing.Process(target=_read_on, args=(url, chunks, readers, count, ended), daemon=True)
    process.start()
    try:
        _await(lambda: count.value > readers)
        yield count
    finally:
        ended.set()
        process.join()


def _read_on(url: str, chunks: list[str], readers: int, count: Any, ended: Any) -> None:
    async def read(number: int) -> None:
        async with _connected(url) as connection:
            place = number
            while not ended.is_set():
                place = (place + 1) % len(chunks)
                status, _ = await connection.ask(_request(url, "GET", chunks[place]))
                if status != 200:
                    raise RuntimeError(f"{chunks[place]} is answered with {status}")
                with count.get_lock():
                    count.value += 1

    async def all_read() -> None:
        await asyncio.gather(*map(read, range(readers)))

    asyncio.run(all_read())


class Connection:
    """A connection that stays, with one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        body = await self._reader.readexactly(int(fields.get("content-length", 0)))
        return int(lines[0].split()[1]), body

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class _connected:  # noqa: N801 - read as a statement: async with _connected(url)
    """A connection to a server, as a context."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)

    async def __aenter__(self) -> Connection:
        reader, writer = await asyncio.open_connection(
            self._parts.hostname, self._parts.port, limit=_MOST_HEAD_BYTES
        )
        self._connection = Connection(reader, writer)
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()


def _request(url: str, method: str, path: str, body: bytes = b"", key: str = "") -> bytes:
    """A request as it goes over the wire."""
    fields = {"Host": urlsplit(url).netloc, "Content-Length": str(len(body))}
    fields |= {"Content-Type": "application/json"} if body else {}
    fields |= {"Idempotency-Key": key} if key else {}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _creation(url: str, name: str, key: str) -> bytes:
    body = {"source": "a.zarr", "k": 4, "out": f"jobs/{name}", "name": name}
    return _request(url, "POST", "/v1/jobs", json.dumps(body).encode(), key)


async def _created(connection: Connection, request: bytes) -> tuple[float, str]:
    """The seconds until a job was taken in, and its id."""
    begun = time.perf_counter()
    status, body = await connection.ask(request)
    seconds = time.perf_counter() - begun
    if status not in (200, 202):
        raise RuntimeError(f"a job is answered with {status}: {body.decode(errors='replace')}")
    return seconds, str(json.loads(body)["id"])


async def _with_connections(url: str, clients: int, run: Callable[[list[Connection]], Any]) -> Any:
    """What `run` finds with so many connections, each of which was used once before."""
    contexts = [_connected(url) for _ in range(clients)]
    connections = [await context.__aenter__() for context in contexts]
    try:
        for connection in connections:
            await connection.ask(_request(url, "GET", "/healthz"))
        return await run(connections)
    finally:
        for context in contexts:
            await context.__aexit__()


async def _bursts(url: str, size: Size, stem: str) -> list[float]:
    """All clients at the same moment, one burst when the last is over."""

    async def run(connections: list[Connection]) -> list[float]:
        found: list[float] = []
        for number in range(size.rounds):
            names = [f"{stem}-{number}-{client}" for client in range(len(connections))]
            requests = [_creation(url, name, name) for name in names]
            made = await asyncio.gather(*map(_created, connections, requests))
            found += [seconds for seconds, _ in made]
        return found

    return list(await _with_connections(url, size.clients, run))


async def _paced(url: str, size: Size, stem: str) -> list[float]:
    """Each client when its turn has come, so many a second in all."""

    async def run(connections: list[Connection]) -> list[float]:
        begun, clients = time.perf_counter(), len(connections)

        async def send(client: int) -> list[float]:
            own = []
            for number in range(size.rounds):
                due = begun + (number * clients + client) / size.a_second
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                name = f"{stem}-{number}-{client}"
                seconds, _ = await _created(connections[client], _creation(url, name, name))
                own.append(seconds)
            return own

        return [each for own in await asyncio.gather(*map(send, range(clients))) for each in own]

    return list(await _with_connections(url, size.clients, run))


async def _one_key(url: str, clients: int) -> int:
    """How many jobs all clients make that send the same with the same key at the same moment."""

    async def run(connections: list[Connection]) -> int:
        request = _creation(url, "same", "one-key")
        made = await asyncio.gather(*(_created(connection, request) for connection in connections))
        return len({job for _, job in made})

    return int(await _with_connections(url, clients, run))


def _await(true: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    while not true():
        if time.monotonic() > until:
            raise RuntimeError(f"not within {LIMIT_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)
