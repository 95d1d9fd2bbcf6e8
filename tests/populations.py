"""Genotypes of simulated populations that drifted apart from one (Balding & Nichols 1995)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

AXES = ("variants", "samples", "ploidy")


def drawn(
    sizes: tuple[int, ...], variants: int, fst: float = 0.02, missing: float = 0.0, seed: int = 0
) -> np.ndarray:
    """How often people have an allele, -1 where it was not called: (variants, people) int8, by population."""
    random = np.random.default_rng(seed)
    ancestral = random.uniform(0.1, 0.9, variants)
    spread = (1 - fst) / fst
    frequencies = random.beta(ancestral * spread, (1 - ancestral) * spread, (len(sizes), variants))
    counts = random.binomial(2, np.repeat(frequencies, sizes, axis=0).T).astype(np.int8)
    counts[random.random(counts.shape) < missing] = -1
    return counts


def as_calls(counts: np.ndarray) -> np.ndarray:
    """Two alleles of each genotype, (variants, people, 2) int8."""
    calls = np.stack([counts > 0, counts > 1], axis=2).astype(np.int8)
    calls[counts < 0] = -1
    return calls


def stored(path: Path, counts: np.ndarray) -> Path:
    """A store as bio2zarr and sgkit have it."""
    variants, people = counts.shape
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for name, data, axes in (
        ("call_genotype", as_calls(counts), AXES),
        ("variant_position", np.arange(variants, dtype="i4") * 100, AXES[:1]),
        ("variant_contig", np.arange(variants, dtype="i4") * 3 // variants, AXES[:1]),
        ("variant_id", np.array([f"rs{i}" for i in range(variants)]), AXES[:1]),
        ("sample_id", np.array([f"NA{i}" for i in range(people)]), AXES[1:2]),
        ("contig_id", np.array(["1", "2", "X"]), ("contigs",)),
    ):
        chunks = tuple(min(size, length) for size, length in zip((200, 50, 2), data.shape, strict=False))
        array = group.create_array(name, data=data, chunks=chunks)
        array.attrs["_ARRAY_DIMENSIONS"] = axes
    return path


def standardised(counts: np.ndarray, scale: float) -> np.ndarray:
    """(g − 2p)/√(scale·p(1−p)), 0 where nothing was called or all have the same: (variants, people)."""
    seen = np.where(counts < 0, np.nan, counts)
    p = np.nanmean(seen, axis=1, keepdims=True) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nan_to_num((seen - 2 * p) / np.sqrt(scale * p * (1 - p)), posinf=0, neginf=0))
