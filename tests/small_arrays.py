"""Small stored matrices whose singular values fall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr


def small_matrix(m: int = 120, n: int = 80, seed: int = 0) -> np.ndarray:
    """Float32, with singular values that fall."""
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((length, 12)))[0] for length in (m, n))
    return np.asarray((U * 2.0 ** -np.arange(12)) @ V.T + 1.0, dtype=np.float32)


def store(path: Path, values: np.ndarray, **options: Any) -> Path:
    """A Zarr array at a path, in chunks of at most 50 x 30."""
    chunks = tuple(min(most, length) for most, length in zip((50, 30), values.shape, strict=True))
    zarr.create_array(str(path), data=values, chunks=chunks, zarr_format=3, **options)
    return path
