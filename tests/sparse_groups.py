"""Sparse matrices in Zarr as AnnData stores them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import zarr


def counts(rows: int, cols: int, density: float = 0.2, seed: int = 0) -> Any:
    """Made counts (rows, cols) in CSR form, float32; rows and columns differ in how many they have."""
    random = np.random.default_rng(seed)
    means = random.gamma(1.0, 1.0, rows)[:, np.newaxis] * (0.1 + random.gamma(0.5, 1.0, cols))
    means[::3, : cols // 4] *= 4  # two kinds of rows
    dense = random.poisson(means * (density / means.mean()))
    return sp.csr_matrix(dense.astype(np.float32))


def write_sparse(path: Path, matrix: Any, zarr_format: Any = 2, chunk: int = 100, **more: Any) -> Path:
    """A group with a matrix of SciPy in CSR or CSC form; `more`: attributes that differ."""
    attributes = {
        "encoding-type": f"{matrix.format}_matrix", "encoding-version": "0.1.0", "shape": list(matrix.shape),
    }  # fmt: skip
    group = zarr.create_group(path, zarr_format=zarr_format, attributes=attributes | more)
    for name in ("data", "indices", "indptr"):
        part = getattr(matrix, name)
        array = group.create_array(name, shape=part.shape, dtype=part.dtype, chunks=(chunk,))
        array[:] = part
    return path
