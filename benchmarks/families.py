"""Families of matrices on which passes are counted: one generator a row, deterministic.

They lie in memory as Zarr arrays, in about a hundred chunks along their long side, so that a sample of the
chunks is a small part of the data, as it is of a large store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

from benchmarks.data import Dataset, open_store, slow_decay_block
from benchmarks.pictures import pictures

_CHUNKS = 100
_POPULATIONS = 4
_CLUSTERS = 100
_CELL_TYPES = 12


@dataclass(frozen=True)
class Shape:
    """Lengths of the long and the short side, and the rank asked for."""

    long: int
    short: int
    k: int


SHAPES = {
    "tiny": Shape(800, 100, 4),
    "small": Shape(12_000, 1_000, 20),
    "full": Shape(40_000, 2_000, 50),
}


@dataclass(frozen=True)
class Problem:
    """One stored matrix and what is asked of it.

    Attributes:
        stored: the Zarr array as a user would have it.
        options: how `bigsvd.svd` is to read it (centring, missing values); the others are given the result.
        origin: where the entries come from, in words.

    """

    name: str
    label: str
    stored: zarr.Array[Any]
    k: int
    origin: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One row: `make(rng, long, short)` gives the entries and says where they come from."""

    name: str
    label: str
    make: Callable[[np.random.Generator, int, int], tuple[np.ndarray, str]]
    options: dict[str, Any] = field(default_factory=dict)


def slow_decay(rng: np.random.Generator, long: int, short: int) -> tuple[np.ndarray, str]:
    """The matrix of `benchmarks.data`: σᵢ ≈ √m·(i^-1 + 0.02²)^½."""
    dataset = Dataset("slow_decay", long, short, 1, int(rng.integers(2**31)))
    blocks = [slow_decay_block(dataset, block) for block in range(dataset.chunk_count)]
    return np.concatenate(blocks), "σ ~ i^-½, and noise"


def fast_decay(rng: np.random.Generator, long: int, short: int) -> tuple[np.ndarray, str]:
    """(G·diag(0.9^i))·Qᵀ with Q orthogonal and G standard normal, and noise of 1e-4."""
    G = rng.standard_normal((long, short), dtype=np.float32)
    Q = np.linalg.qr(rng.standard_normal((short, short)))[0].astype(np.float32)
    values = (G * np.float32(0.9) ** np.arange(short, dtype=np.float32)) @ Q.T
    values += np.float32(1e-4) * rng.standard_normal((long, short), dtype=np.float32)
    return values, "σ ~ 0.9^i, and noise"


def sorted_clusters(rng: np.random.Generator, long: int, short: int) -> tuple[np.ndarray, str]:
    """Rows in clusters of uneven size, cluster after cluster, so that a few panels show few clusters."""
    centres = rng.standard_normal((_CLUSTERS, short), dtype=np.float32)
    weights = rng.dirichlet(np.full(_CLUSTERS, 0.5))
    members = np.sort(rng.choice(_CLUSTERS, long, p=weights))
    values = centres[members] + rng.standard_normal((long, short), dtype=np.float32)
    return values, f"{_CLUSTERS} clusters, rows sorted by cluster, and noise"


def drifting_bump(rng: np.random.Generator, long: int, short: int) -> tuple[np.ndarray, str]:
    """A Gaussian bump that moves along the columns from the first row to the last, and noise."""
    centre = 0.05 + 0.9 * np.linspace(0, 1, long, dtype=np.float32)[:, None]
    place = np.linspace(0, 1, short, dtype=np.float32)[None, :]
    values = np.exp(-((place - centre) ** 2) / np.float32(2 * 0.01**2))
    values += np.float32(0.02) * rng.standard_normal((long, short), dtype=np.float32)
    return values, "an advecting bump, and noise"


def genotypes(rng: np.random.Generator, long: int, short: int) -> tuple[np.ndarray, str]:
    """Allele counts 0, 1, 2 of `short` people × `long` sites in four populations, int8.

    Balding & Nichols 1995: frequencies of a population are Beta(p(1−F)/F, (1−p)(1−F)/F) for an ancestral p.
    """
    ancestral = rng.uniform(0.1, 0.9, long)
    drift = np.linspace(0.05, 0.15, _POPULATIONS)[:, None]
    scale = (1 - drift) / drift
    frequencies = rng.beta(ancestral * scale, (1 - ancestral) * scale)
    population = np.sort(rng.integers(_POPULATIONS, size=short))
    counts = rng.binomial(2, frequencies[population]).astype(np.int8)
    return counts, f"Balding-Nichols, {_POPULATIONS} populations"


def cell_counts(rng: np.random.Generator, long: int, short: int) -> tuple[np.ndarray, str]:
    """Molecule counts of `long` cells × `short` genes, about nine tenths zeros, int16.

    Negative binomial as gamma-Poisson of shape 2; log-normal means, a tenth of the genes marks each type.
    """
    means = rng.lognormal(-3.0, 1.5, short)
    marked = rng.random((_CELL_TYPES, short)) < 0.1
    types = means * np.where(marked, rng.lognormal(1.0, 1.0, (_CELL_TYPES, short)), 1.0)
    cell_type = rng.choice(_CELL_TYPES, long, p=rng.dirichlet(np.full(_CELL_TYPES, 2.0)))
    depth = rng.lognormal(0.0, 0.4, (long, 1))
    rates = types[cell_type] * depth * rng.gamma(2.0, 0.5, (long, short))
    counts = np.minimum(rng.poisson(rates), np.iinfo(np.int16).max).astype(np.int16)
    return counts, f"negative binomial, {np.mean(counts == 0):.0%} zeros"


def noise(rng: np.random.Generator, long: int, short: int) -> tuple[np.ndarray, str]:
    """Standard normal entries: no gap anywhere in the spectrum."""
    return rng.standard_normal((long, short), dtype=np.float32), "standard normal entries"


FAMILIES = (
    Family("slow-decay", "slow decay", slow_decay),
    Family("fast-decay", "fast decay", fast_decay),
    Family("clusters", "sorted clusters", sorted_clusters),
    Family("drift", "drifting rows", drifting_bump),
    Family("genotypes", "genotypes, simulated", genotypes, {"center": True}),
    Family("cells", "cell counts, simulated", cell_counts),
    Family("pictures", "pictures", pictures),
    Family("noise", "pure noise", noise),
)
HAPMAP_OPTIONS: dict[str, Any] = {"center": True, "scale": True, "missing": "mean", "missing_value": -1.0}


def make_problem(family: Family, shape: Shape, seed: int) -> Problem:
    """The family's matrix of about this shape; the same each time."""
    place = next(i for i, row in enumerate(FAMILIES) if row.name == family.name)
    values, origin = family.make(np.random.default_rng([seed, place]), shape.long, shape.short)
    stored = in_memory(values, _CHUNKS, MemoryStore())
    return Problem(family.name, family.label, stored, shape.k, origin, family.options)


def in_memory(values: np.ndarray, pieces: int, store: MemoryStore) -> zarr.Array[Any]:
    """The entries as a Zarr array, in about so many chunks of whole lines along the long side."""
    along = int(np.argmax(values.shape))
    chunks = list(values.shape)
    chunks[along] = max(1, chunks[along] // pieces)
    array = zarr.create_array(
        store, shape=values.shape, chunks=tuple(chunks), dtype=values.dtype, compressors=None, zarr_format=3
    )
    array[:] = values
    return array


def given_problem(name: str, label: str, path: Path, k: int, options: dict[str, Any]) -> Problem:
    """A stored matrix that the user has."""
    return Problem(name, label, open_store(path), k, f"given by --{name}", options)


def problems(
    shape: Shape, seed: int, names: Sequence[str], hapmap: Path | None, counts: Path | None
) -> Iterator[Problem]:
    """Every named family (all if none is named) and the matrices that were given, made one at a time."""
    makers = [partial(make_problem, row, shape, seed) for row in FAMILIES if not names or row.name in names]
    if hapmap is not None:
        makers.append(partial(given_problem, "hapmap", "genotypes, given", hapmap, shape.k, HAPMAP_OPTIONS))
    if counts is not None:
        makers.append(partial(given_problem, "counts", "cell counts, given", counts, shape.k, {}))
    for make in makers:
        yield make()


def decomposed(problem: Problem) -> np.ndarray:
    """The matrix that is decomposed, (m, n) float64: filled, centred and scaled as the options say."""
    values = np.asarray(problem.stored[:], dtype=np.float64)
    options = problem.options
    if options.get("missing") == "mean":
        observed = np.where(values == options["missing_value"], np.nan, values)
        values = np.where(np.isnan(observed), np.nanmean(observed, axis=0), observed)
    if options.get("center"):
        values -= values.mean(axis=0)
    if options.get("scale"):
        deviation = values.std(axis=0)
        values /= np.where(deviation > 0, deviation, 1.0)
    return values
