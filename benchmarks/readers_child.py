"""One reader of Zarr chunks in a fresh process: `python -m benchmarks.readers_child`.

The first line on its standard input is the job, as JSON. Each further one is a word that asks for a round
over all panels or for what is known after it; each is answered by one line of JSON. So the rounds of several
readers can take turns.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import google_crc32c
import numpy as np
import psutil
import zarr
from zarr.core import codec_pipeline
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from benchmarks.measure import peak_rss_bytes
from bigsvd.chunks.buffers import BufferRing, ReadBuffers
from bigsvd.sources.zarr_dense import ZarrSource

Read = Callable[[slice, slice, ReadBuffers], np.ndarray]
_BATCHED = "zarr.core.codec_pipeline.BatchedCodecPipeline"
_FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"
_ZARRS = "zarrs.ZarrsCodecPipeline"


@dataclass(frozen=True)
class Contender:
    """A way of reading a Zarr array.

    Attributes:
        pipeline: the class that Zarr is told to decode with; empty for bigsvd's own reader.
        alone: one thread reads panel after panel and the library divides each among threads of its own;
            otherwise as many threads read, each its own panel, as bigsvd's lanes do.

    """

    name: str
    label: str
    pipeline: str = ""
    alone: bool = False

    def runs_with(self, threads: int) -> bool:
        """Whether this differs from another contender with so many threads."""
        return threads > 1 or not self.alone

    def why_not(self) -> str:
        """What is not installed; empty where nothing lacks."""
        if self.pipeline == _ZARRS and find_spec("zarrs") is None:
            return "not installed: zarrs"
        if self.pipeline == _FUSED and not hasattr(codec_pipeline, "FusedCodecPipeline"):
            return f"not installed: zarr {zarr.__version__} has no synchronous pipeline, which came with 3.3"
        return ""

    def settings(self, threads: int) -> dict[str, Any]:
        """Zarr's configuration; where a pipeline could fall back to another one it may not."""
        if not self.pipeline:
            return {}
        return {
            "codec_pipeline.path": self.pipeline,
            "codec_pipeline.strict": True,
            "codec_pipeline.max_workers": threads if self.alone else 1,
            "threading.max_workers": threads,
        }

    def reads(self, path: Path, callers: int) -> list[Read]:
        """A function for each thread that reads a rectangle into the panel of a workspace."""
        store = LocalStore(path, read_only=True)
        if self.pipeline:
            return [_by_zarr(zarr.open_array(store, mode="r"), self.pipeline)] * callers
        source = ZarrSource("a", store, "", fill_missing=False)
        if source.facts.reader != "direct":
            message = "bigsvd would not read this store by ChunkReader"
            raise ValueError(message)
        return [source.fresh().read for _ in range(callers)]


CONTENDERS = (
    Contender("chunk-reader", "ChunkReader"),
    Contender("zarrs", "zarrs", _ZARRS),
    Contender("zarrs-alone", "zarrs, own threads", _ZARRS, alone=True),
    Contender("fused", "zarr, synchronous", _FUSED),
    Contender("fused-alone", "zarr, synchronous, own threads", _FUSED, alone=True),
    Contender("zarr", "zarr, as it comes", _BATCHED),
    Contender("zarr-alone", "zarr, as it comes, own threads", _BATCHED, alone=True),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}


def _by_zarr(array: zarr.Array[Any], pipeline: str) -> Read:
    """Reading by Zarr's own selection into given memory."""
    found = type(array.async_array.codec_pipeline).__name__
    if found != pipeline.rpartition(".")[2]:
        message = f"zarr took {found} for {pipeline}"
        raise ValueError(message)

    def read(rows: slice, cols: slice, space: ReadBuffers) -> np.ndarray:
        target = space.panel.take((rows.stop - rows.start, cols.stop - cols.start), array.dtype)
        buffer = default_buffer_prototype().nd_buffer.from_ndarray_like(cast("Any", target))
        array.get_basic_selection((rows, cols), out=buffer)
        return target

    return read


class Rounds:
    """Rounds over all panels of a store by threads that last, each into a ring of its own as a lane does."""

    def __init__(self, contender: Contender, path: Path, panel_rows: int, threads: int) -> None:
        zarr.config.set(contender.settings(threads))
        array = zarr.open_array(path, mode="r")
        self._shape, self._itemsize = array.shape, array.dtype.itemsize
        self._panel_rows = panel_rows
        callers = 1 if contender.alone else threads
        self._reads = contender.reads(path, callers)
        self._rings = [BufferRing(1) for _ in range(callers)]
        self._pool = ThreadPoolExecutor(callers)
        self._idle_bytes = int(psutil.Process().memory_info().rss)

    def read(self) -> dict[str, Any]:
        """The seconds of one round, and those that all threads of this process computed."""
        start, computed = time.perf_counter(), time.process_time()
        self._round(_nothing)
        return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - computed}

    def check(self) -> dict[str, Any]:
        """The checksum (crc32c) of each panel."""
        found = dict(self._round(checksum))
        return {"checksums": [found[number] for number in sorted(found)]}

    def memory(self) -> dict[str, Any]:
        """The most that was resident beyond what was before the first round, and the panels of the rings."""
        panel_bytes = self._panel_rows * self._shape[1] * self._itemsize
        return {
            "peak_memory_bytes": max(0, peak_rss_bytes() - self._idle_bytes),
            "panels_bytes": panel_bytes * sum(ring.readers + 1 for ring in self._rings),
        }

    def _round(self, made_of: Callable[[np.ndarray], int]) -> list[tuple[int, int]]:
        """Each panel's number and what is made of it."""

        def lane(caller: int) -> list[tuple[int, int]]:
            return [(number, made_of(panel)) for number, panel in self._panels(caller)]

        return [found for lane_found in self._pool.map(lane, range(len(self._reads))) for found in lane_found]

    def _panels(self, caller: int) -> Iterator[tuple[int, np.ndarray]]:
        """The panels that this thread reads, in turn; each is gone when the next but one is read."""
        rows, cols = self._shape
        read, ring = self._reads[caller], self._rings[caller]
        for turn, number in enumerate(range(caller, -(-rows // self._panel_rows), len(self._reads))):
            top = number * self._panel_rows
            whole_rows = slice(top, min(top + self._panel_rows, rows))
            yield number, read(whole_rows, slice(0, cols), ring.slot(turn))


def _nothing(panel: np.ndarray) -> int:
    return panel.size


def checksum(panel: np.ndarray) -> int:
    """The crc32c of the entries in row-major order."""
    return cast("int", google_crc32c.value(np.ascontiguousarray(panel)))


def main() -> None:
    """In the fresh process: a line for each line."""
    job = json.loads(sys.stdin.readline())
    rounds = Rounds(BY_NAME[job["name"]], Path(job["store"]), job["panel_rows"], job["threads"])
    asked = {"check": rounds.check, "read": rounds.read, "memory": rounds.memory}
    for line in sys.stdin:
        print(json.dumps(asked[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
