"""How well rows were filled: errors of entries, coordinates, singular values, vectors and intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bigsvd.distill.baselines import Filled, complete_coordinates
from bigsvd.distill.basis import Basis
from bigsvd.distill.coverage import NOTHING, Within
from bigsvd.distill.rows import Rows

_GRAM_SIDE = 4096  # longest side of a Gram matrix whose eigenvalues are computed


@dataclass(frozen=True, eq=False)
class Truth:
    """What the complete rows are, as far as the teacher's components go.

    Attributes:
        basis: of the teacher. k: components that count. s: the largest singular values of the complete rows,
            (≤ k,). whole: whether these are of the rows themselves, or only of their part in the teacher's
            span, where neither side of the data is short enough. moment: Σ z·zᵀ of the coordinates, (r, r).
        rows: number of them.

    """

    basis: Basis
    k: int
    s: np.ndarray
    whole: bool
    moment: np.ndarray
    rows: int

    @classmethod
    def of(cls, basis: Basis, k: int, panels: Iterable[Rows], memory_bytes: int) -> Truth:
        """By one pass over the complete rows."""
        moment, gram, count = np.zeros((basis.r, basis.r)), _Gram.empty(basis.n, memory_bytes), 0
        for rows in panels:
            z = complete_coordinates(basis.V, rows)
            moment += z.T @ z
            gram.add(rows.values)
            count += len(rows)
        squares = gram.eigenvalues()
        whole = squares is not None
        if squares is None:
            squares = np.linalg.eigvalsh(moment)
        return cls(basis, k, leading_roots(squares, k), whole, moment, count)

    @property
    def directions(self) -> np.ndarray:
        """The best k right singular vectors within the teacher's span, (n, k)."""
        return np.asarray(self.basis.V @ leading_vectors(self.moment, self.k))


@dataclass(eq=False)
class _Gram:
    """BᵀB, or the rows for BBᵀ, as long as one of them is short."""

    product: np.ndarray | None
    rows: list[np.ndarray]
    most_rows: int

    @classmethod
    def empty(cls, n: int, memory_bytes: int) -> _Gram:
        if n <= _GRAM_SIDE and 8 * n * n <= memory_bytes:
            return cls(np.zeros((n, n)), [], 0)
        return cls(None, [], min(_GRAM_SIDE, memory_bytes // (8 * n)))

    def add(self, values: np.ndarray) -> None:
        if self.product is not None:
            self.product += values.T @ values
        elif self.most_rows:
            self.rows.append(values)
            if sum(map(len, self.rows)) > self.most_rows:
                self.most_rows, self.rows = 0, []

    def eigenvalues(self) -> np.ndarray | None:
        if self.product is not None:
            return np.asarray(np.linalg.eigvalsh(self.product))
        if not self.rows:
            return None
        whole = np.vstack(self.rows)
        return np.asarray(np.linalg.eigvalsh(whole @ whole.T))


@dataclass(eq=False)
class _Moments:
    """What a way expects of BᵀB along its coordinates, (c, c), and the components of these, (n, c).

    Σẑẑᵀ + ΣC + m·VᵀΨV where it knows C, as a prediction has it; else Σẑẑᵀ.
    """

    sums: np.ndarray
    V: np.ndarray

    @classmethod
    def of(cls, filled: Filled) -> _Moments:
        z, V = filled.coordinates, filled.basis.V[:, : filled.coordinates.shape[1]]
        if filled.posterior is None:
            return cls(z.T @ z, V)
        noise = V.T @ (filled.basis.noise[:, None] * V)
        return cls(z.T @ z + summed(filled.posterior.covariance, len(z)) + len(z) * noise, V)

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.sums + other.sums, other.V)

    def s(self, k: int) -> np.ndarray:
        """The k leading singular values."""
        return leading_roots(np.linalg.eigvalsh(self.sums), k)

    def directions(self, k: int) -> np.ndarray:
        """Right singular vectors, (n, k), orthonormal."""
        return np.linalg.qr(self.V @ leading_vectors(self.sums, k))[0]


@dataclass(eq=False)
class Tally:
    """Sums over panels of what one way of filling says, beside the truth.

    Attributes:
        V: components (n, r) whose coordinates are compared. k: of them that count.
        interval_scale: what standard deviations of entries are multiplied by.
        squares, entries: Σ (x − x̂)² over hidden entries, and how many.
        missed, length: Σ ‖z − ẑ‖² and Σ ‖z‖² of the k leading coordinates. rows: number of them.
        seconds, learning_seconds: that filling took, and learning from the new data before.
        within, coordinates_within: intervals of hidden entries, and of coordinates along V.

    """

    V: np.ndarray
    k: int
    interval_scale: float = 1.0
    squares: float = 0.0
    entries: int = 0
    missed: float = 0.0
    length: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    learning_seconds: float = 0.0
    moments: _Moments | None = None
    within: Within = NOTHING
    coordinates_within: Within = NOTHING

    def add(self, complete: Rows, hidden: np.ndarray, filled: Filled, z: np.ndarray, seconds: float) -> None:
        """Count a panel; z are its true coordinates, (b, r)."""
        self.rows, self.seconds = self.rows + len(complete), self.seconds + seconds
        self._add_entries(complete, hidden, filled)
        self._add_coordinates(filled, z[:, : self.k])
        self.within += Within.of(filled.ratios(complete, hidden) / self.interval_scale)
        if filled.basis.V is self.V:
            self.coordinates_within += Within.of(filled.coordinate_ratios(z[:, : self.k]))

    def _add_entries(self, complete: Rows, hidden: np.ndarray, filled: Filled) -> None:
        self.squares += float(np.sum(((filled.entries - complete.values) * hidden) ** 2))
        self.entries += int(np.sum(hidden))

    def _add_coordinates(self, filled: Filled, z: np.ndarray) -> None:
        self.missed += float(np.sum((filled.along(self.V) - z) ** 2))
        self.length += float(np.sum(z**2))
        found = _Moments.of(filled)
        self.moments = found if self.moments is None else self.moments + found

    @property
    def rmse(self) -> float:
        """On hidden entries; NaN where there is none."""
        return math.sqrt(ratio(self.squares, self.entries))

    @property
    def coordinate_error(self) -> float:
        """‖ΔZ‖/‖Z‖."""
        return math.sqrt(ratio(self.missed, self.length))

    @property
    def s(self) -> np.ndarray:
        """Predicted singular values, (k,), as a prediction publishes them."""
        if self.moments is None:
            return np.zeros(0)
        return self.moments.s(self.k)

    def angle(self, truth: Truth) -> float:
        """The largest principal angle between the predicted and the best directions, in degrees."""
        if self.moments is None:
            return math.nan
        own, best = self.moments.directions(self.k), truth.directions
        sine = float(np.linalg.norm(best - own @ (own.T @ best), 2))
        return math.degrees(math.asin(min(1.0, sine)))


def ratio(numerator: float, denominator: float) -> float:
    """NaN where there is nothing to divide by."""
    if not denominator:
        return math.nan
    return numerator / denominator


def leading_roots(ascending: np.ndarray, k: int) -> np.ndarray:
    """Singular values (≤ k,) by eigenvalues of a Gram matrix, descending; rounding below 0 is 0."""
    return np.asarray(np.sqrt(np.maximum(ascending[::-1][:k], 0)))


def leading_vectors(moment: np.ndarray, k: int) -> np.ndarray:
    """Eigenvectors (c, k) of the largest eigenvalues, these descending."""
    return np.linalg.eigh(moment)[1][:, ::-1][:, :k]


def summed(covariance: np.ndarray, rows: int) -> np.ndarray:
    """Σ C over rows; one that all share counts for each."""
    found = np.asarray(covariance)
    return np.asarray(np.sum(found, axis=0) * (rows // len(found)))


def singular_value_errors(s: np.ndarray, true_s: np.ndarray) -> tuple[float, float]:
    """Mean and largest of |ŝ − s|/s."""
    known = min(len(s), len(true_s))
    if not known:
        return float("nan"), float("nan")
    true = true_s[:known]
    errors = np.abs(s[:known] - true) / np.maximum(true, np.finfo(float).tiny)
    return float(np.mean(errors)), float(np.max(errors))
