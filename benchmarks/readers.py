"""bigsvd's own reader of Zarr chunks beside codec pipelines of others: time and memory on the same stores.

Each reader runs in a fresh process that is kept to as many processors as threads read. The processes of one
store wait for each other and read it in turns, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from threading import Timer
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

from benchmarks.data import open_store, written_beside
from benchmarks.machine import limited_to, provenance
from benchmarks.peers import SEED
from benchmarks.readers_child import BY_NAME, CONTENDERS, Contender, checksum

OWN = "chunk-reader"
THREADS = (1, 2)
_CODECS = {"zstd": ZstdCodec(), "blosc-lz4": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")}
_LONGEST_WORDS = 200


@dataclass(frozen=True)
class Size:
    """`side` of the square chunks of float32; `panels` of three such rows of eight chunks each."""

    side: int
    panels: int


SIZES = {"tiny": Size(20, 3), "small": Size(250, 4), "full": Size(500, 6)}


@dataclass(frozen=True)
class Store:
    """A stored matrix, read in panels of `panel_rows` whole rows; `layout` says how chunks lie in these."""

    layout: str
    codec: str
    dtype: str
    shape: tuple[int, int]
    panel_rows: int
    chunks: tuple[int, int]
    shards: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Of its files, and of the option that chooses it."""
        return f"{self.layout}-{self.codec}-{self.dtype}"

    @property
    def data_bytes(self) -> int:
        """Decoded bytes."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


def stores(size: Size) -> tuple[Store, ...]:
    """Three layouts, two codecs, two types; panels and small chunks of either type have as many bytes."""
    found = []
    for dtype, side, panel_rows in (
        ("float32", size.side, 3 * size.side),
        ("int8", 2 * size.side, 12 * size.side),
    ):
        cols = 8 * size.side
        shape = (size.panels * panel_rows, cols)
        layouts = {
            "tall": ((panel_rows // 2, cols), None),
            "sharded": ((panel_rows // 6, cols // 4), (panel_rows, cols)),
            "both-axes": ((side, side), None),
        }
        found += [
            Store(layout, codec, dtype, shape, panel_rows, chunks, shards)
            for layout, (chunks, shards) in layouts.items()
            for codec in _CODECS
        ]
    return tuple(found)


NAMES = tuple(store.name for store in stores(SIZES["tiny"]))


def ensure_store(store: Store, folder: Path) -> Path:
    """The stored matrix with the checksum of each panel; written beside its place, then renamed.

    Normal float32 entries, of which only sign and exponent can be compressed, or 0, 1 and 2 in int8.
    """
    path = folder / f"readers-{store.name}-{store.shape[0]}x{store.shape[1]}.zarr"
    if path.exists():
        return path
    with written_beside(path) as partial:
        array = zarr.create_array(
            partial, shape=store.shape, chunks=store.chunks, shards=store.shards, dtype=store.dtype,
            compressors=_CODECS[store.codec], zarr_format=3,
        )  # fmt: skip
        rng = np.random.default_rng(SEED)
        checksums = []
        for top in range(0, store.shape[0], store.panel_rows):
            values = _entries(rng, (store.panel_rows, store.shape[1]), store.dtype)
            array[top : top + store.panel_rows] = values
            checksums.append(checksum(values))
        array.attrs.put({"checksums": checksums})
    return path


def _entries(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> np.ndarray:
    if dtype == "int8":
        return rng.integers(0, 3, shape, dtype=np.int8)
    return rng.standard_normal(shape, dtype=np.float32)


class ReaderFailedError(Exception):
    """A reader's process ended before it was done; its last words."""


class Reader:
    """The process of one contender, which answers words; see `readers_child`."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path, timer: Timer) -> None:
        self._process = process
        self._errors = errors
        self._timer = timer

    def ask(self, word: str) -> dict[str, Any]:
        """The answer, or `ReaderFailedError`."""
        self.tell(word)
        line = b"" if self._process.stdout is None else self._process.stdout.readline()
        if not line:
            raise ReaderFailedError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tell(self, line: str) -> None:
        """Send a line; a process that has ended does not get it, which `ask` notices."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(f"{line}\n".encode())

    def _last_words(self) -> str:
        """Why it ended."""
        code = self._process.wait()
        if self._timer.finished.is_set():
            return f"not done after {self._timer.interval:g} s"
        said = self._errors.read_text().strip().splitlines() or [f"exit {code}"]
        return said[-1][:_LONGEST_WORDS]


@contextmanager
def started(
    job: dict[str, Any], timeout_seconds: float, module: str = "benchmarks.readers_child"
) -> Iterator[Reader]:
    """A fresh process for this job; it is ended after so many seconds, or when it is no longer needed."""
    with tempfile.TemporaryDirectory(prefix="reader-") as folder:
        errors = Path(folder) / "errors"
        command = [sys.executable, "-m", module]
        with (
            errors.open("w") as stderr,
            subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            ) as process,
        ):
            timer = Timer(timeout_seconds, process.kill)
            timer.start()
            try:
                reader = Reader(process, errors, timer)
                reader.tell(json.dumps(job))
                yield reader
            finally:
                timer.cancel()
                process.kill()


def run_readers(
    size: Size,
    data: Path,
    names: Sequence[str],
    repeat: int,
    timeout_seconds: float,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Every contender on every named store (all if none is named) with every number of threads."""
    measured_with = provenance()
    measured_with["versions"] |= _installed()
    rows: list[dict[str, Any]] = []
    for store in (store for store in stores(size) if not names or store.name in names):
        path = ensure_store(store, data)
        stored_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        for threads in THREADS:
            with limited_to(threads):
                found = _measured(store, path, threads, repeat, timeout_seconds)
            known = {**asdict(store), "name": store.name, "data_bytes": store.data_bytes}
            known |= {"stored_bytes": stored_bytes, "threads": threads}
            rows += [known | row for row in _compared(found, store.data_bytes)]
            tell(f"{store.name}, {threads} threads: {', '.join(map(_said, rows[-len(found) :]))}")
    return {
        **measured_with,
        "parameters": {"repeat": repeat, "timeout_seconds": timeout_seconds, "own": OWN},
        "contenders": [asdict(contender) for contender in CONTENDERS],
        "runs": rows,
    }


def _installed() -> dict[str, str]:
    """The version of what may or may not be there."""
    try:
        return {"zarrs": version("zarrs")}
    except PackageNotFoundError:
        return {}


def _measured(
    store: Store, path: Path, threads: int, repeat: int, timeout_seconds: float
) -> list[dict[str, Any]]:
    """What each contender did: a round in which every panel is checked, then rounds in turns."""
    expected = open_store(path).attrs["checksums"]
    rows = [_row(contender) for contender in CONTENDERS if contender.runs_with(threads)]
    job = {"store": str(path.absolute()), "panel_rows": store.panel_rows, "threads": threads}
    with ExitStack() as stack:
        readers = {
            row["contender"]: stack.enter_context(started({**job, "name": row["contender"]}, timeout_seconds))
            for row in rows
            if row["status"] == "done"
        }

        def ask(word: str, take: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
            """Give each reader's row what the reader answers; one that fails is not asked again."""
            for row in (row for row in rows if row["status"] == "done"):
                try:
                    take(row, readers[row["contender"]].ask(word))
                except ReaderFailedError as error:
                    row["status"] = f"failed: {error}".replace(str(path.absolute()), "STORE")

        ask("check", lambda row, answer: row.update(same_bits=answer["checksums"] == expected))
        for _ in range(repeat):
            ask("read", _add_round)
        ask("memory", lambda row, answer: row.update(answer))
    return rows


def _row(contender: Contender) -> dict[str, Any]:
    status = contender.why_not() or "done"
    return {"contender": contender.name, "status": status, "seconds": [], "cpu_seconds": []}


def _add_round(row: dict[str, Any], answer: dict[str, Any]) -> None:
    """Append what a round took to the row."""
    for name, seconds in answer.items():
        row[name].append(seconds)


def _compared(rows: list[dict[str, Any]], data_bytes: int) -> list[dict[str, Any]]:
    """With the median rate, and ratios of rate and processor time to those of bigsvd's own reader."""
    for row in (row for row in rows if row["status"] == "done"):
        row["bytes_per_second"] = data_bytes / median(row["seconds"])
        row["slowest_bytes_per_second"] = data_bytes / max(row["seconds"])
        row["fastest_bytes_per_second"] = data_bytes / min(row["seconds"])
    own = next(row for row in rows if row["contender"] == OWN)
    for row in (row for row in rows if row["status"] == own["status"] == "done"):
        row["ratio"] = row["bytes_per_second"] / own["bytes_per_second"]
        row["cpu_ratio"] = median(row["cpu_seconds"]) / median(own["cpu_seconds"])
    return rows


def _said(row: dict[str, Any]) -> str:
    label = BY_NAME[row["contender"]].label
    return f"{label} {row['bytes_per_second'] / 1e9:.2f} GB/s" if row["status"] == "done" else f"{label} –"
