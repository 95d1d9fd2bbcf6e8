"""Matrices of several precisions with a slowly decaying spectrum in Zarr, and their float64 reference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.data import NOISE, open_store
from benchmarks.machine import usable_cpus
from benchmarks.reference import Triplets, triplets

_EXTRA = 10
_CHUNK_BYTES = 2**24
_LEAST_CHUNKS = 64
_INT8_DEVIATION = 20.0


@dataclass(frozen=True)
class Matrix:
    """A = (G·diag(i^-½))·Cᵀ + 0.02·N, (m, n), as `benchmarks.data`; int8 has 20/deviation times it, rounded.

    G and N are standard normal, generated for each row of chunks from (seed, its number); C is the
    orthonormal DCT. k is the rank that is asked for.
    """

    m: int
    n: int
    k: int
    dtype: str
    seed: int = 0

    @property
    def data_bytes(self) -> int:
        """Decoded bytes."""
        return self.m * self.n * np.dtype(self.dtype).itemsize

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk, and of one generated block: about 16 MB."""
        line = self.n * np.dtype(self.dtype).itemsize
        return max(1, min(self.m // _LEAST_CHUNKS, _CHUNK_BYTES // line))

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"cpu-gpu-{self.dtype}-{self.m}x{self.n}-k{self.k}-seed{self.seed}"

    def describe(self) -> dict[str, Any]:
        """What identifies the entries and the reference, as JSON values."""
        return asdict(self) | {"noise": NOISE, "chunk_rows": self.chunk_rows}

    def block(self, number: int) -> np.ndarray:
        """Rows number·chunk_rows …, (rows, n) of `dtype`."""
        rows = min(self.chunk_rows, self.m - number * self.chunk_rows)
        generator = np.random.default_rng((self.seed, number))
        wide: type[np.float32 | np.float64] = np.float64 if self.dtype == "float64" else np.float32
        decay = np.arange(1, self.n + 1) ** -0.5
        values: np.ndarray = generator.standard_normal((rows, self.n), dtype=wide)
        values *= decay.astype(wide)
        values = import_module("scipy.fft").dct(values, norm="ortho", axis=1, overwrite_x=True)
        values += wide(NOISE) * generator.standard_normal((rows, self.n), dtype=wide)
        if self.dtype != "int8":
            return values
        deviation = float(np.sqrt(np.sum(decay**2) / self.n + NOISE**2))
        rounded: np.ndarray = np.rint(values * (_INT8_DEVIATION / deviation))
        return rounded.clip(-127, 127).astype(np.int8)


def ensure_matrix(matrix: Matrix, folder: Path) -> tuple[Path, Triplets]:
    """The stored matrix and its reference; what lacks is written beside its place, then renamed."""
    path, kept = folder / f"{matrix.stem}.zarr", folder / f"{matrix.stem}-reference.npz"
    attributes: dict[str, Any] = {"matrix": matrix.describe()}
    if path.exists() and kept.exists() and open_store(path).attrs.asdict() == attributes:
        with np.load(kept, allow_pickle=False) as found:
            if str(found["key"]) == json.dumps(attributes, sort_keys=True):
                return path, Triplets(found["sigma"], found["Vt"])
    for old in (path, path.with_suffix(".partial")):
        shutil.rmtree(old, ignore_errors=True)
    partial_path = path.with_suffix(".partial")
    folder.mkdir(parents=True, exist_ok=True)
    array = zarr.create_array(
        partial_path,
        shape=(matrix.m, matrix.n),
        chunks=(matrix.chunk_rows, matrix.n),
        dtype=matrix.dtype,
        zarr_format=3,
    )
    gram = np.zeros((matrix.n, matrix.n))
    for block in _written(array, matrix):
        wide = block.astype(np.float64)
        gram += wide.T @ wide
    reference = triplets(gram, min(matrix.k + _EXTRA, matrix.n))
    array.attrs.put(attributes)
    with kept.open("wb") as file:
        np.savez(
            file,
            key=np.array(json.dumps(attributes, sort_keys=True)),
            sigma=reference.sigma,
            Vt=reference.Vt,
        )
    partial_path.rename(path)
    return path, reference


def _written(array: zarr.Array[Any], matrix: Matrix) -> Iterator[np.ndarray]:
    """Every block in order, generated and stored by all threads, as many at a time as there are threads."""
    cpus, count = usable_cpus(), -(-matrix.m // matrix.chunk_rows)
    with ThreadPoolExecutor(cpus) as pool:
        for first in range(0, count, cpus):
            yield from pool.map(partial(_write, array, matrix), range(first, min(count, first + cpus)))


def _write(array: zarr.Array[Any], matrix: Matrix, number: int) -> np.ndarray:
    values = matrix.block(number)
    start = number * matrix.chunk_rows
    array[start : start + len(values)] = values
    return values
