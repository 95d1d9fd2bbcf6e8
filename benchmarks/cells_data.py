"""Cells of `cells`: made counts in an AnnData store, CSR in Zarr, written some cells at a time.

Each molecule of a cell is of a gene that one of two programs of the cell draws, so that components stand out
of the noise of counting, as in single-cell data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import zarr

from benchmarks.data import written_beside

_PROGRAMS = 24
_MARKERS = 0.1  # share of genes that a program expresses otherwise
_DRAWS = 2**19  # equally likely draws that a program has
_MADE_CELLS = 2_000  # at a time
_CHUNK = 2**20  # entries


@dataclass(frozen=True)
class Cells:
    """Counts (cells, genes), of which a share `density` are not 0; k components of `variable` genes."""

    cells: int
    genes: int
    variable: int
    k: int
    density: float = 0.03
    seed: int = 0

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"cells-{self.cells}x{self.genes}-{self.density:g}-seed{self.seed}"

    @cached_property
    def rates(self) -> np.ndarray:
        """The share of each gene in the molecules of each program, (programs, genes)."""
        random = np.random.default_rng((self.seed, 0))
        usual = random.lognormal(0, 1.5, self.genes)
        factors = np.exp(random.normal(0, 1.2, (_PROGRAMS, self.genes)))
        marked = random.random((_PROGRAMS, self.genes)) < _MARKERS
        rates = usual * np.where(marked, factors, 1.0)
        rates /= rates.sum(axis=1, keepdims=True)
        return np.asarray(rates)

    @property
    def depth(self) -> float:
        """Molecules of a cell that give entries of the density, by bisection of what Poisson expects."""
        rates, low, high = self.rates.mean(axis=0), 0.0, 1e3 * self.genes
        while high - low > 1e-6 * high:
            middle = (low + high) / 2
            few = float(-np.expm1(-middle * rates).mean()) < self.density
            low, high = (middle, high) if few else (low, middle)
        return high

    def blocks(self) -> Iterator[Any]:
        """The counts, some cells at a time, CSR float32."""
        sums = np.cumsum(self.rates, axis=1)
        edges = np.rint(_DRAWS * np.pad(sums / sums[:, -1:], ((0, 0), (1, 0)))).astype(int)
        draws = np.stack([np.repeat(np.arange(self.genes, dtype=np.int32), d) for d in np.diff(edges)])
        depth = self.depth
        for start in range(0, self.cells, _MADE_CELLS):
            random = np.random.default_rng((self.seed, 1, start))
            yield _counts(random, min(_MADE_CELLS, self.cells - start), draws, depth, self.genes)


def _counts(random: np.random.Generator, count: int, draws: np.ndarray, depth: float, genes: int) -> Any:
    """Counts of so many cells."""
    molecules = random.poisson(depth * random.lognormal(-0.08, 0.4, count))
    cell = np.repeat(np.arange(count, dtype=np.int32), molecules)
    two, share = random.integers(0, len(draws), (2, count)), random.beta(4, 1, count)
    program = np.where(random.random(cell.size, np.float32) < share[cell], two[0][cell], two[1][cell])
    gene = draws[program, random.integers(0, draws.shape[1], cell.size)]
    ones = np.ones(cell.size, np.float32)
    return sp.coo_matrix((ones, (cell, gene)), shape=(count, genes)).tocsr()


SIZES = {
    "tiny": Cells(300, 200, 60, 5, density=0.1),
    "small": Cells(10_000, 5_000, 1_000, 20),
    "medium": Cells(40_000, 30_000, 2_000, 50),
    "full": Cells(200_000, 30_000, 2_000, 50),
}


@dataclass
class _Growing:
    """An array of one axis that is written by whole chunks as entries come."""

    array: Any
    _waiting: list[np.ndarray] = field(default_factory=list)

    def add(self, some: np.ndarray) -> None:
        """Take more entries."""
        self._waiting.append(some)
        held = sum(part.size for part in self._waiting)
        self._write(held - held % _CHUNK)

    def finish(self) -> None:
        """Write what is left."""
        self._write(sum(part.size for part in self._waiting))

    def _write(self, count: int) -> None:
        if count:
            whole, start = np.concatenate(self._waiting), self.array.shape[0]
            self.array.resize((start + count,))
            self.array[start:] = whole[:count]
            self._waiting = [whole[count:]]


def ensure_cells(made: Cells, folder: Path) -> Path:
    """The stored cells; if they are not there, written beside their place, then renamed."""
    path = folder / f"{made.stem}.zarr"
    if path.exists():
        return path
    with written_beside(path) as partial:
        group = zarr.create_group(partial, zarr_format=2, attributes=_encoding("anndata", "0.1.0"))
        sums = _write_counts(group, made)
        mean, square = sums / made.cells
        dispersion = (square - mean**2) / np.maximum(mean, 1 / made.cells)
        variable = np.zeros(made.genes, dtype=bool)
        variable[np.argsort(-dispersion, kind="stable")[: made.variable]] = True
        _write_frame(group, "obs", made.cells)
        _write_frame(group, "var", made.genes, highly_variable=variable)
    return path


def _write_counts(group: zarr.Group, made: Cells) -> np.ndarray:
    """X; the sums of each gene and of its squares, (2, genes)."""
    shape = {"shape": [made.cells, made.genes]}
    matrix = group.create_group("X", attributes=_encoding("csr_matrix", "0.1.0") | shape)
    kinds = {"data": "float32", "indices": "int32"}
    parts = {
        name: _Growing(matrix.create_array(name, shape=(0,), dtype=kind, chunks=(_CHUNK,)))
        for name, kind in kinds.items()
    }
    lengths, sums = [np.zeros(1, np.int64)], np.zeros((2, made.genes))
    for block in made.blocks():
        for name, part in parts.items():
            part.add(getattr(block, name))
        lengths.append(np.diff(block.indptr).astype(np.int64))
        for power in (1, 2):
            sums[power - 1] += np.bincount(block.indices, block.data**power, made.genes)
    for part in parts.values():
        part.finish()
    # scikit-learn, by which scanpy takes means, refuses starts of rows that are of another type than places.
    matrix.create_array("indptr", data=np.cumsum(np.concatenate(lengths)).astype(np.int32))
    return sums


def _write_frame(group: zarr.Group, place: str, count: int, **columns: np.ndarray) -> None:
    """A data frame of AnnData with numbers as names."""
    order = {"_index": "_index", "column-order": list(columns)}
    frame = group.create_group(place, attributes=_encoding("dataframe", "0.2.0") | order)
    names: Any = frame.create_array("_index", shape=(count,), dtype="str", chunks=(count,))
    names[:] = np.array([f"{place}{i}" for i in range(count)], dtype=object)
    names.attrs.update(_encoding("string-array", "0.2.0"))
    for name, values in columns.items():
        frame.create_array(name, data=values).attrs.update(_encoding("array", "0.2.0"))


def _encoding(kind: str, version: str) -> dict[str, Any]:
    """The attributes by which AnnData knows what an element is."""
    return {"encoding-type": kind, "encoding-version": version}
