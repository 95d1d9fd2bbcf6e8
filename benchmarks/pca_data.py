"""Genotypes of `pca`: stored as Zarr, samples × variants, and as PLINK .bed; their values by LAPACK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.data import open_store, written_beside
from benchmarks.genotypes import MISSING, Population

_MAGIC = bytes([0x6C, 0x1B, 0x01])  # of a .bed file whose variants follow each other
_CODES = np.array([0b01, 0b11, 0b10, 0b00], np.uint8)  # of −1 (missing), 0, 1 and 2 counted alleles
_CHUNK_BYTES = 10_000_000


@dataclass(frozen=True)
class Genotypes:
    """A matrix (samples, variants) of 0, 1, 2, and −1 where a call is `missing`; k is the rank asked for."""

    samples: int
    variants: int
    k: int
    seed: int = 0
    missing: float = 0.0

    @property
    def chunk_variants(self) -> int:
        """Variants of one chunk, of all samples: 10 MB, and at least ten chunks."""
        return max(1, min(_CHUNK_BYTES // self.samples, self.variants // 10))

    @property
    def data_bytes(self) -> int:
        """Decoded bytes."""
        return self.samples * self.variants

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"genotypes-{self.samples}x{self.variants}-seed{self.seed}-missing{self.missing:g}"


SIZES = {
    "tiny": Genotypes(100, 1_500, 5),
    "small": Genotypes(1_000, 20_000, 10),
    "medium": Genotypes(2_500, 50_000, 10),
    "full": Genotypes(5_000, 200_000, 10),
    "huge": Genotypes(2_490, 1_664_505, 20),
}


def ensure_genotypes(genotypes: Genotypes, folder: Path) -> Path:
    """The stored genotypes; if they are not there, written beside their place, then renamed."""
    path = folder / f"{genotypes.stem}.zarr"
    if path.exists():
        return path
    population = Population(genotypes.samples, genotypes.seed, genotypes.missing)
    theta, beta = population.ancestry(), population.frequencies(genotypes.variants)
    with written_beside(path) as partial:
        array = zarr.create_array(
            partial,
            shape=(genotypes.samples, genotypes.variants),
            chunks=(genotypes.samples, genotypes.chunk_variants),
            dtype="int8",
            zarr_format=3,
        )
        for block, columns in enumerate(_columns(array)):
            array[:, columns] = population.counts(block, theta, beta[:, columns])
    return path


def _columns(array: zarr.Array[Any]) -> Iterator[slice]:
    """The columns of each chunk."""
    width = array.chunks[1]
    for start in range(0, array.shape[1], width):
        yield slice(start, min(array.shape[1], start + width))


def blocks(array: zarr.Array[Any]) -> Iterator[np.ndarray]:
    """The genotypes a chunk of variants at a time, (samples, c) int8."""
    for columns in _columns(array):
        yield np.asarray(array[:, columns])


def by_deviation(counts: np.ndarray, dtype: type[np.float32 | np.float64] = np.float64) -> np.ndarray:
    """Variants less their mean, divided by their population standard deviation; missing calls at the mean.

    As bigsvd's center, scale and missing="mean": the deviation is of the filled column, 1 for a constant.
    """
    values = _centred(counts)[0]
    deviation = values.std(axis=0)
    return np.asarray(values / np.where(deviation > 0, deviation, 1.0), dtype=dtype)


def by_frequency(counts: np.ndarray) -> np.ndarray:
    """Variants less their mean, divided by √(2f(1−f)) with f half the mean, as PCAone and others do."""
    values, mean = _centred(counts)
    variance = mean * (1 - mean / 2)
    return np.asarray(values / np.sqrt(np.where(variance > 0, variance, 1.0)))


def _centred(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 entries less the mean of the observed ones of their column, 0 where missing; that mean."""
    observed = counts != MISSING
    mean = (counts * observed).sum(axis=0, dtype=np.float64) / np.maximum(observed.sum(axis=0), 1)
    return (counts - mean) * observed, mean


def exact_sigma(
    genotypes: Genotypes, folder: Path, standardized: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """All singular values (samples,), descending, of the standardised genotypes.

    From the float64 Gram matrix of the samples and LAPACK's eigenvalues of that, which are kept in a file.
    """
    kept = folder / f"{genotypes.stem}-{standardized.__name__}.npy"
    if kept.exists():
        found: np.ndarray = np.load(kept, allow_pickle=False)
        return found
    gram = np.zeros((genotypes.samples, genotypes.samples))
    for counts in blocks(open_store(ensure_genotypes(genotypes, folder))):
        values = standardized(counts)
        gram += values @ values.T
    sigma: np.ndarray = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0))
    partial = kept.with_suffix(".partial.npy")
    np.save(partial, sigma)
    partial.rename(kept)
    return sigma


def ensure_bed(genotypes: Genotypes, folder: Path) -> Path:
    """The same genotypes as PLINK .bed, .bim and .fam; what their names have in common."""
    prefix = folder / f"{genotypes.stem}-plink"
    bed = Path(f"{prefix}.bed")
    if bed.exists():
        return prefix
    people = (f"{i} {i} 0 0 0 -9\n" for i in range(1, genotypes.samples + 1))
    variants = (f"1\tv{j}\t0\t{j}\tA\tC\n" for j in range(1, genotypes.variants + 1))
    for suffix, lines in ((".fam", people), (".bim", variants)):
        with Path(f"{prefix}{suffix}").open("w") as text:
            text.writelines(lines)
    partial = Path(f"{prefix}.partial")
    with partial.open("wb") as file:
        file.write(_MAGIC)
        for counts in blocks(open_store(ensure_genotypes(genotypes, folder))):
            file.write(packed(counts).tobytes())
    partial.rename(bed)
    return prefix


def packed(counts: np.ndarray) -> np.ndarray:
    """Genotypes (samples, c) as .bed has them, (c, ⌈samples/4⌉): two bits each, the first sample lowest."""
    codes = _CODES[counts.T + 1]
    codes = np.pad(codes, ((0, 0), (0, -counts.shape[0] % 4)))
    first, second, third, fourth = (codes[:, place::4] for place in range(4))
    found: np.ndarray = first | second << 2 | third << 4 | fourth << 6
    return found
