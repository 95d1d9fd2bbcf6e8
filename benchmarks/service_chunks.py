"""`service chunks`: results read by URL. Is a chunk ever zeros, and what does one cost beside its work?

Zeros: readers walk all chunks of a reconstruction while something cuts them off after a third. Each chunk
must be equal to what the factors give, or be refused. A proxy that says 404 is the one case where a reader of
Zarr does not notice; it then has NaN, the fill value, never a number.

Price: seconds of a chunk by HTTP, beside those of the product of its factors in memory and those of an answer
of as many bytes that lie ready, measured in turns in one run.
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import zarr
from obstore.store import HTTPStore
from zarr.abc.store import Store
from zarr.storage import FsspecStore, ObjectStore

import bigsvd
from benchmarks.machine import provenance
from bigsvd.machine.blas import one_blas_thread
from bigsvd.results.factors import Factors, open_factors
from bigsvd.results.pooled import level_shapes
from bigsvd.results.virtual_group import VirtualArray
from bigsvd.service.arrays.open_results import BULK, TILE, Arrays, OpenResult, tile

_CACHE_BYTES = 2**28
CONNECTIONS = (1, 4)
_KILLED = "server killed"
_NOTICED_SECONDS = 10.0


@dataclass(frozen=True)
class Size:
    """The matrix that is decomposed, (rows, columns), triplets, and how many chunks are timed each way."""

    shape: tuple[int, int]
    k: int
    chunks: int


SIZES = {"tiny": Size((1_300, 1_100), 4, 12), "full": Size((20_000, 3_000), 50, 1_000)}
EVENTS = (
    "token revoked",
    "result deleted",
    "result overwritten",
    _KILLED,
    "proxy says 502",
    "proxy says 404",
)
Tell = Callable[[str], None]
Place = tuple[int, ...]


def by_fsspec(url: str, token: str) -> Store:
    """The store of a URL over fsspec."""
    headers = {"headers": {"Authorization": f"Bearer {token}"}}
    return FsspecStore.from_url(url, storage_options=headers, read_only=True)


def by_obstore(url: str, token: str) -> Store:
    """The store of a URL over obstore, which does not try again here."""
    client: Any = {"allow_http": True, "default_headers": {"Authorization": f"Bearer {token}"}}
    once: Any = {"max_retries": 0}
    return ObjectStore(HTTPStore.from_url(url, client_options=client, retry_config=once), read_only=True)


READERS = {"fsspec": by_fsspec, "obstore": by_obstore}


def run_chunks(size: Size, seed: int, tell: Tell) -> dict[str, Any]:
    """The results value, but for the command."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        made = [_publish(home / name, size, rng) for name in ("one", "two")]
        tell(f"published {made[0].shape[0]} x {made[0].shape[1]}, k={size.k}")
        walks = [_walked(home, reader, event, tell) for event, reader in product(EVENTS, READERS)]
        times = _timed(home, size, seed, tell)
    parameters = {"shape": list(size.shape), "k": size.k, "chunks": size.chunks, "seed": seed}
    wrong = sum(row["zeros"] + row["other"] for row in walks)
    return {**provenance(), "parameters": parameters, "walks": walks, "wrong": wrong, "times": times}


def _publish(path: Path, size: Size, rng: np.random.Generator) -> Factors:
    m, n = size.shape
    X, Y = (rng.standard_normal(shape, dtype=np.float32) for shape in ((m, 2 * size.k), (2 * size.k, n)))
    noise = rng.standard_normal(size.shape, dtype=np.float32)
    return bigsvd.svd(X @ Y + noise, size.k, path, center=True)


@dataclass
class Server:
    """A child that serves; see `service_chunks_child`."""

    process: subprocess.Popen[str]
    about: dict[str, str]

    def order(self, event: str) -> None:
        """Have it happen, and wait until it has."""
        if event == _KILLED:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            return
        if self.process.stdin is None or self.process.stdout is None:
            message = "the child has no pipes"
            raise RuntimeError(message)
        self.process.stdin.write(f"{event}\n")
        self.process.stdin.flush()
        if json.loads(self.process.stdout.readline()) != "ok":
            message = f"the child did not say ok to {event!r}"
            raise RuntimeError(message)


@contextmanager
def serving(home: Path, cache_bytes: int = _CACHE_BYTES) -> Iterator[Server]:
    """A server of a copy of the first result, which may be overwritten by one of the second."""
    with tempfile.TemporaryDirectory(dir=home) as folder:
        (Path(folder) / "root").mkdir()
        shutil.copytree(home / "one", Path(folder) / "root" / "f")
        shutil.copytree(home / "two", Path(folder) / "other")
        command = [sys.executable, "-m", "benchmarks.service_chunks_child", folder, str(cache_bytes)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                yield Server(process, json.loads(line))
            finally:
                if process.stdin:
                    process.stdin.close()


def _walked(home: Path, reader: str, event: str, tell: Tell) -> dict[str, Any]:
    """What a reader got of each chunk, before the event and after."""
    factors = open_factors(home / "one")
    found: dict[str, Any] = {
        "event": event,
        "reader": reader,
        "equal": 0,
        "refused": 0,
        "nan": 0,
        "zeros": 0,
        "other": 0,
    }
    with serving(home) as server:
        store = READERS[reader](f"{server.about['zarr']}/reconstruction", server.about["token"])
        array = zarr.open_array(store, mode="r")
        boxes = list(_boxes(array.shape, array.chunks))
        for number, box in enumerate(boxes):
            if number == len(boxes) // 3:
                server.order(event)
                found["before"] = number
                _let_settle(event, lambda: _outcome(array, boxes[0], factors))
            found[_outcome(array, box, factors)] += 1
    tell(f"{event}, {reader}: " + ", ".join(f"{found[name]} {name}" for name in ("equal", "refused", "nan")))
    return found


def _let_settle(event: str, outcome: Callable[[], str]) -> None:
    """Wait until the server has noticed: who a reader is it asks once a second."""
    end = time.monotonic() + _NOTICED_SECONDS
    while event == "token revoked" and outcome() == "equal" and time.monotonic() < end:
        time.sleep(0.05)


def _boxes(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    grid = [range(0, length, chunk) for length, chunk in zip(shape, chunks, strict=True)]
    for corner in product(*grid):
        yield tuple(
            slice(start, min(start + chunk, length))
            for start, chunk, length in zip(corner, chunks, shape, strict=True)
        )


def _outcome(array: Any, box: tuple[slice, ...], factors: Factors) -> str:
    try:
        found = np.asarray(array[box])
    except Exception:  # noqa: BLE001 - whatever a reader raises, it gives no number
        return "refused"
    if found.tobytes() == np.ascontiguousarray(factors[box]).tobytes():
        return "equal"
    if np.isnan(found).all():
        return "nan"
    return "zeros" if (found == 0).any() else "other"


def _timed(home: Path, size: Size, seed: int, tell: Tell) -> dict[str, Any]:
    """Seconds of a chunk: by HTTP, its product, a bare answer; in the server's own code; and of levels."""
    factors = open_factors(home / "one")
    in_memory = factors.read_by(np.asarray(factors.U[:]), np.asarray(factors.Vt[:])).low_rank()
    ready = VirtualArray(replace(in_memory, chunks=tile(factors.shape, BULK)), ("row", "column"))
    drawn = np.random.default_rng(seed).integers(0, ready.grid, (size.chunks, 2))
    places: list[Place] = [(int(i), int(j)) for i, j in drawn]
    with one_blas_thread:  # as in the server
        by_http = list(_by_http(home, ready, places))
        for row in by_http:
            tell(f"{row['connections']} connections reach {row['ratio']:.2f} of answer and product")
        found = {"chunk_bytes": ready.chunk_bytes, "by_http": by_http}
        return found | {"kept_or_not": _kept_or_not(home, places, tell)} | _zoomed(home, tell)


def _by_http(home: Path, ready: VirtualArray, places: list[Place]) -> Iterator[dict[str, Any]]:
    """Each in turns, so that a busy machine is the same for all; everything is in the cache before."""
    with serving(home) as server:
        base = urlsplit(server.about["zarr"]).path
        for connections in CONNECTIONS:
            with _asking(server, connections) as ask:
                ask([f"{base}/reconstruction/c/{i}/{j}" for i, j in product(*map(range, ready.grid))])
                found = _undisturbed(_turns(ask, base, ready), places, connections)
            ratio = (found["bare_seconds"] + found["product_seconds"]) / found["route_seconds"]
            yield {"connections": connections, **found, "ratio": ratio}


def _turns(
    ask: Callable[[Sequence[str]], Any], base: str, ready: VirtualArray
) -> dict[str, Callable[[Sequence[Place]], Any]]:
    """A chunk at each place by HTTP, an answer of as many bytes, and the chunk's product here."""
    return {
        "route_seconds": lambda places: ask([f"{base}/reconstruction/c/{i}/{j}" for i, j in places]),
        "bare_seconds": lambda places: ask([f"/bare/{ready.chunk_bytes}"] * len(places)),
        "product_seconds": lambda places: [ready.chunk(place) for place in places],
    }


def _kept_or_not(home: Path, places: list[Place], tell: Tell) -> list[dict[str, Any]]:
    """Seconds in the server's own code, with decoded blocks of U and Vt kept, and with none.

    Of a chunk of what is read in bulk, and of one of the finest level, which the page asks for.
    """
    kept, not_kept = (Arrays(limit).opened(home / "one") for limit in (_CACHE_BYTES, 0))
    found: list[dict[str, Any]] = []
    for array, side in (("reconstruction", BULK), ("levels/0", TILE)):
        turns = {"kept_seconds": _making(kept, array), "seconds": _making(not_kept, array)}
        _undisturbed(turns, places, 1)  # so that what can be kept is
        seconds = _undisturbed(turns, places, 1)
        ratio = seconds["seconds"] / seconds["kept_seconds"]
        tell(f"{array}: {ratio:.1f} times as fast where factors are kept")
        found.append({"array": array, "side": side, **seconds, "ratio": ratio})
    return found


def _making(result: OpenResult, array: str) -> Callable[[Sequence[Place]], Any]:
    keys = (array + "/c/{}/{}").format
    return lambda places: [result.value(result.factors.k, keys(*place)) for place in places]


def _undisturbed(
    turns: Mapping[str, Callable[[Sequence[Place]], Any]], places: list[Place], together: int
) -> dict[str, float]:
    """Seconds of one chunk each way, so many asked for together: what the quickest tenth take, at most."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for first in range(0, len(places), together):
        some = places[first : first + together]
        for name, work in turns.items():
            start = time.perf_counter()
            work(some)
            seconds[name].append((time.perf_counter() - start) / len(some))
    return {name: float(np.quantile(values, 0.1)) for name, values in seconds.items()}


def _zoomed(home: Path, tell: Tell) -> dict[str, Any]:
    """Seconds of the last level, which reads all of both factors once, and again."""
    result = Arrays(_CACHE_BYTES).opened(home / "one")
    last = len(level_shapes(result.factors.shape, TILE)) - 1
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        result.value(result.factors.k, f"levels/{last}/c/0/0")
        seconds.append(time.perf_counter() - start)
    tell(f"level {last}: {seconds[0] * 1e3:.0f} ms, then {seconds[1] * 1e3:.1f} ms")
    return {"last_level": last, "level_seconds": seconds[0], "level_again_seconds": seconds[1]}


@contextmanager
def _asking(server: Server, connections: int) -> Iterator[Callable[[Sequence[str]], list[bytes]]]:
    """Asks for paths over so many connections, as readers keep them open."""
    address = urlsplit(server.about["base"]).netloc
    headers = {"Authorization": f"Bearer {server.about['token']}"}
    with ExitStack() as stack:
        free: SimpleQueue[http.client.HTTPConnection] = SimpleQueue()
        for _ in range(connections):
            free.put(stack.enter_context(closing(http.client.HTTPConnection(address))))
        pool = stack.enter_context(ThreadPoolExecutor(connections))

        def ask(path: str) -> bytes:
            connection = free.get()
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            free.put(connection)
            if answer.status != 200:
                message = f"{path}: {answer.status} {body[:200]!r}"
                raise RuntimeError(message)
            return body

        yield lambda paths: list(pool.map(ask, paths))
