"""Matrices with hard spectra, built from their singular values or from the structure that makes them hard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Maker = Callable[[np.random.Generator, int, int], np.ndarray]


def orthonormal(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((rows, cols)))[0]


def with_values(rng: np.random.Generator, sigma: np.ndarray, m: int, n: int) -> np.ndarray:
    """(m, n) with the given singular values and random singular vectors."""
    r = sigma.size
    return np.asarray((orthonormal(rng, m, r) * sigma) @ orthonormal(rng, n, r).T)


def _flat(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    return with_values(rng, 1 + 1e-3 * rng.random(min(m, n)), m, n)


def _clustered(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    q = min(m, n)
    return with_values(rng, np.repeat([10.0, 5.0, 1.0], [4, 8, q - 12]) * (1 + 1e-9 * rng.random(q)), m, n)


def _geometric(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    q = min(m, n)
    return with_values(rng, 10.0 ** (-14 * np.arange(q) / (q - 1)), m, n)


def _steep(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    return with_values(rng, 10.0 ** -np.arange(15.0), m, n)


def _step(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    return with_values(rng, np.where(np.arange(min(m, n)) < 7, 1.0, 1e-6), m, n)


def _deficient(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    return with_values(rng, np.linspace(5, 1, 6), m, n)


def _sorted_rows(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    centres = np.repeat(5 * rng.standard_normal((8, n)), -(-m // 8), axis=0)[:m]
    return centres + 0.1 * rng.standard_normal((m, n))


def _huge_row(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    values = rng.standard_normal((m, n))
    values[m // 3] *= 1e6
    return values


def _noise(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    return rng.standard_normal((m, n))


FAMILIES: dict[str, Maker] = {
    "flat": _flat,
    "clustered": _clustered,
    "geometric": _geometric,
    "steep": _steep,
    "step": _step,
    "deficient": _deficient,
    "sorted_rows": _sorted_rows,
    "huge_row": _huge_row,
    "noise": _noise,
}
