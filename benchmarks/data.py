"""Datasets: matrices with a known spectrum, written to Zarr a row block at a time, never in memory whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import google_crc32c
import numpy as np
import zarr

NOISE = 0.02
THREADS = 2
_CHUNK_ROWS = 2000


@dataclass(frozen=True)
class Dataset:
    """`slow_decay`: A = (G·diag(i^-½))·Cᵀ + 0.02·N, (m, n) float32; k is the rank that benchmarks ask of it.

    G and N are standard normal, generated for each row block from (seed, block); C is the orthonormal DCT. So
    σᵢ ≈ √m·(i^-1 + 0.02²)^½: a spectrum that decays slowly, hard for a randomised method.
    """

    name: str
    m: int
    n: int
    k: int
    seed: int

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk, and of one generated block."""
        return min(_CHUNK_ROWS, max(1, self.m // 10))

    @property
    def chunk_count(self) -> int:
        """Chunks of the stored array."""
        return -(-self.m // self.chunk_rows)

    @property
    def data_bytes(self) -> int:
        """Decoded bytes."""
        return 4 * self.m * self.n

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"{self.name}-{self.m}x{self.n}-seed{self.seed}"

    def describe(self) -> dict[str, Any]:
        """What identifies the entries, as JSON values; k does not."""
        return {name: value for name, value in asdict(self).items() if name != "k"} | {
            "noise": NOISE,
            "chunk_rows": self.chunk_rows,
            "dtype": "float32",
        }


SIZES = {
    "tiny": Dataset("slow_decay", 1_000, 120, 5, 0),
    "small": Dataset("slow_decay", 20_000, 1_000, 20, 0),
    "full": Dataset("slow_decay", 200_000, 4_000, 50, 0),
}


def slow_decay_block(dataset: Dataset, block: int) -> np.ndarray:
    """Rows block·chunk_rows … of the dataset, (rows, n) float32."""
    rows = min(dataset.chunk_rows, dataset.m - block * dataset.chunk_rows)
    generator = np.random.default_rng((dataset.seed, block))
    values: np.ndarray = generator.standard_normal((rows, dataset.n), dtype=np.float32)
    values *= np.arange(1, dataset.n + 1, dtype=np.float32) ** np.float32(-0.5)
    values = import_module("scipy.fft").dct(values, norm="ortho", axis=1, overwrite_x=True, workers=THREADS)
    values += np.float32(NOISE) * generator.standard_normal((rows, dataset.n), dtype=np.float32)
    return values


def store_path(dataset: Dataset, folder: Path) -> Path:
    """Where the dataset lies under the data folder."""
    return folder / f"{dataset.stem}.zarr"


def open_store(path: Path) -> zarr.Array[Any]:
    """The stored matrix, read-only."""
    return zarr.open_array(path, mode="r")


def row_blocks(array: zarr.Array[Any]) -> Iterator[np.ndarray]:
    """The matrix a row of chunks at a time."""
    for start in range(0, array.shape[0], array.chunks[0]):
        yield np.asarray(array[start : start + array.chunks[0]])


def checksum(array: zarr.Array[Any]) -> int:
    """crc32c of the decoded entries in row-major order; one bare read."""
    crc = 0
    for block in row_blocks(array):
        crc = extend(crc, block)
    return crc


def extend(crc: int, block: np.ndarray) -> int:
    """The crc32c so far, continued over a block's bytes."""
    return cast("int", google_crc32c.extend(crc, np.ascontiguousarray(block)))


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which is renamed to it once all is written."""
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    yield partial
    partial.rename(path)


def ensure_data(dataset: Dataset, folder: Path) -> Path:
    """The stored dataset; if it is not there, written beside its place with its checksum, then renamed."""
    path = store_path(dataset, folder)
    if path.exists():
        return path
    with written_beside(path) as partial:
        shape = (dataset.m, dataset.n)
        array = zarr.create_array(
            partial, shape=shape, chunks=(dataset.chunk_rows, dataset.n), dtype="float32", zarr_format=3
        )
        crc = 0
        for block in range(dataset.chunk_count):
            values = slow_decay_block(dataset, block)
            start = block * dataset.chunk_rows
            array[start : start + len(values)] = values
            crc = extend(crc, values)
        array.attrs.put({"dataset": dataset.describe(), "crc32c": crc})
    return path
