"""`Basis`: what of a teacher's factors every stage of a prediction rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

Array = Any

_LEAST_SHARE = 1e-2  # of the noise along a component, that its coordinates vary by no less than
_LEAST_NOISE = 1e-2  # of the mean noise, that each column has no less than
_LEAST_PART = 1e-12  # of the largest variance, below which float64 tells no noise from rounding
_PRODUCTS_BYTES = 2**25  # of products of pairs of components, that are made at a time


def namespace_of(array: Array) -> Any:
    """The array namespace of an array, where no device is at hand: numpy, cupy or a strict stand-in.

    Arrays of the standard say it themselves; those of CuPy (until 15 at least) do not.
    """
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    return import_module(type(array).__module__.partition(".")[0])


def diagonals(matrices: Array) -> Array:
    """The diagonal of each, (b, r) of (b, r, r): CuPy lacks the function of the standard for it."""
    b, r, _ = matrices.shape
    return namespace_of(matrices).reshape(matrices, (b, r * r))[:, :: r + 1]


@dataclass(frozen=True, eq=False)
class Basis:
    """The model of a row of B: x = V·z + e, z ~ N(0, diag(prior)), e_j ~ N(0, noise_j).

    It is that of Tipping & Bishop (1999), with a noise of its own for each column. B is the teacher's matrix
    as it was decomposed, samples as rows.

    Attributes:
        V: components by feature, (n, r) float64, orthonormal columns.
        s: singular values of the teacher, (r,), descending.
        noise: variance of each column that the components leave, (n,) float64, positive.
        samples: m, of the teacher.

    """

    V: Array
    s: Array
    noise: Array
    samples: int

    @property
    def n(self) -> int:
        """Number of features."""
        return int(self.V.shape[0])

    @property
    def r(self) -> int:
        """Number of components."""
        return int(self.V.shape[1])

    @property
    def prior(self) -> Array:
        """The variance of each coordinate before anything is seen, (r,): s²/m less the noise along it.

        No less than a hundredth of that noise: what the teacher did not tell from noise stays possible.
        """
        xp = namespace_of(self.V)
        along = self.noise @ (self.V * self.V)
        return xp.maximum(self.s * self.s / self.samples - along, _LEAST_SHARE * along)

    @cached_property
    def weighted(self) -> Array:
        """Ψ⁻¹·V, (n, r)."""
        return self.V / self.noise[:, None]

    @cached_property
    def scaled(self) -> Array:
        """Ψ^−½·V, and below it a row of zeros, (n + 1, r)."""
        xp = namespace_of(self.V)
        return xp.concat([self.V / xp.sqrt(self.noise)[:, None], xp.zeros((1, self.r))])

    @cached_property
    def whole(self) -> Array:
        """Vᵀ·Ψ⁻¹·V, (r, r): G of a complete row."""
        return self.scaled.mT @ self.scaled

    @cached_property
    def pairs(self) -> tuple[Array, Array, Array]:
        """The first and the second of each pair of components (p,), and the pair of each entry of G (r²,)."""
        xp = namespace_of(self.V)
        first, second = np.triu_indices(self.r)
        back = np.zeros((self.r, self.r), dtype=np.int64)
        back[first, second] = back[second, first] = np.arange(len(first))
        return xp.asarray(first), xp.asarray(second), xp.asarray(back.ravel())

    def products(self) -> Iterator[tuple[slice, Array]]:
        """For some columns at a time v_ja·v_jb/ψ_j of each pair of components, (c, p)."""
        step = max(1, _PRODUCTS_BYTES // (4 * self.r * (self.r + 1)))
        if step >= self.n:
            yield slice(0, self.n), self._all_products
            return
        for start in range(0, self.n, step):
            some = slice(start, min(self.n, start + step))
            yield some, self._products(some)

    @cached_property
    def _all_products(self) -> Array:
        return self._products(slice(0, self.n))

    def _products(self, some: slice) -> Array:
        xp = namespace_of(self.V)
        first, second, _ = self.pairs
        part = self.scaled[some, :]
        return xp.take(part, first, axis=1) * xp.take(part, second, axis=1)

    @staticmethod
    def products_bytes(n: int, r: int) -> int:
        """The memory that `products` take at most."""
        return 3 * min(_PRODUCTS_BYTES, 4 * n * r * (r + 1)) + 8 * (2 * n + 3 * r) * r

    def moved(self, move: Callable[[np.ndarray], Array]) -> Basis:
        """The same on another device; `move` copies an array to it."""
        return replace(self, V=move(self.V), s=move(self.s), noise=move(self.noise))

    @staticmethod
    def floored(noise: np.ndarray, s: np.ndarray, samples: int) -> np.ndarray:
        """Noise (n,) raised to a hundredth of its mean, and above what rounding of the data amounts to.

        Where nothing varies at all it is 1, in units that then do not matter.
        """
        least = max(_LEAST_NOISE * float(np.mean(noise)), _LEAST_PART * float(np.max(s)) ** 2 / samples)
        return np.asarray(np.maximum(noise, least or 1.0))
