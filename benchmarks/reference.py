"""The float64 reference: eigenvectors of AᵀA, streamed from the stored data, kept beside it.

`numpy.linalg.eigh` of the float64 Gram matrix resolves σᵢ to about eps·(σ₁/σᵢ)², 1e-13 for these datasets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.data import Dataset, checksum, open_store, row_blocks, store_path

_EXTRA = 10


class ReferenceMismatchError(Exception):
    """The stored data is not what its attributes or its reference say."""


@dataclass(frozen=True)
class Triplets:
    """Of one matrix: all σ, (n,) descending, and the leading Vt, (k + 10, n); float64."""

    sigma: np.ndarray
    Vt: np.ndarray


@dataclass(frozen=True)
class Reference:
    """`raw` is of A, `centred` of A − 1·meanᵀ."""

    raw: Triplets
    centred: Triplets


def ensure_reference(dataset: Dataset, folder: Path) -> Reference:
    """The reference of the stored dataset; computed if none is kept for these parameters and this checksum.

    Reads the store once to compare its checksum with the one written with it.

    Raises:
        ReferenceMismatchError: the store's entries or parameters are not those it was written with.

    """
    array = open_store(store_path(dataset, folder))
    crc = checksum(array)
    expected = {"dataset": dataset.describe(), "crc32c": crc}
    if array.attrs.asdict() != expected:
        message = f"{dataset.stem} holds {expected}, its attributes say {array.attrs.asdict()}; delete it"
        raise ReferenceMismatchError(message)
    key = json.dumps(expected | {"k": dataset.k}, sort_keys=True)
    path = folder / f"{dataset.stem}-reference.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) == key:
                return _from_arrays(kept)
    reference = compute_reference(array, min(dataset.k + _EXTRA, dataset.n))
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, key=np.array(key), **_to_arrays(reference))
    partial.rename(path)
    return reference


def compute_reference(array: zarr.Array[Any], keep: int) -> Reference:
    """The reference from one streaming of the stored matrix; `keep` right singular vectors are kept."""
    m, n = array.shape
    gram = np.zeros((n, n))
    total = np.zeros(n)
    for block in row_blocks(array):
        values = block.astype(np.float64)
        gram += values.T @ values
        total += values.sum(axis=0)
    raw = triplets(gram, keep)
    gram -= np.outer(total, total / m)
    return Reference(raw, triplets(gram, keep))


def triplets(gram: np.ndarray, keep: int) -> Triplets:
    """σ and V of a matrix from its float64 Gram matrix (N, N); `keep` right singular vectors are kept."""
    values, vectors = np.linalg.eigh(gram)
    sigma = np.sqrt(np.maximum(values[::-1], 0.0))
    return Triplets(sigma, np.ascontiguousarray(vectors[:, ::-1][:, :keep].T))


def _to_arrays(reference: Reference) -> dict[str, Any]:
    raw, centred = reference.raw, reference.centred
    return {"sigma": raw.sigma, "Vt": raw.Vt, "centred_sigma": centred.sigma, "centred_Vt": centred.Vt}


def _from_arrays(kept: Mapping[str, np.ndarray]) -> Reference:
    return Reference(
        Triplets(kept["sigma"], kept["Vt"]),
        Triplets(kept["centred_sigma"], kept["centred_Vt"]),
    )
