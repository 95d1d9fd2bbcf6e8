"""Kernel regression over the teacher's rows: what a memory of them all says of a row with gaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bigsvd.distill.baselines import ByEntries, Filler, Panels, too_large
from bigsvd.distill.basis import Basis
from bigsvd.distill.holdout import Holdout
from bigsvd.distill.rows import Rows

_WIDTHS = 10.0 ** np.arange(-1.5, 2.0, 0.5)  # squared bandwidths that are tried, in units of the mean noise
_BATCH = 256  # rows at a time


@dataclass(frozen=True, eq=False)
class KernelRegression:
    """x̂ = Σ_j w_j·t_j over the teacher's rows, w_j ∝ exp(−Σ_Ω(x − t_j)²/2h²) (Nadaraya 1964, Watson 1964).

    h is chosen on hidden entries of the new data. The teacher's rows are held in memory.

    Attributes:
        known: rows of the teacher, (m, n) in units of B, 0 where they have a gap themselves.
        basis, k: in whose coordinates the outcome is told. seed: of the hidden entries.
        memory_bytes: that it may take.

    """

    known: np.ndarray
    basis: Basis
    k: int
    seed: int
    memory_bytes: int
    name: str = "kernel regression"

    def refusal(self, rows: int) -> str | None:
        """See `Baseline.refusal`."""
        del rows
        m, n = self.known.shape
        needed = 8 * (3 * m * n + 4 * _BATCH * m)
        return too_large(f"{self.name} over {m:,} x {n:,}", needed, self.memory_bytes)

    def fit(self, new: Panels) -> Filler:
        """See `Baseline.fit`."""
        errors = np.zeros(len(_WIDTHS))
        for rows in new():
            hidden = Holdout(self.seed).hidden(rows)
            errors += self._errors(rows, hidden)
        width = float(_WIDTHS[int(np.argmin(errors))] * np.mean(self.basis.noise))
        return ByEntries(self.basis, self.k, lambda rows: self.predict(rows, width))

    def _errors(self, rows: Rows, hidden: np.ndarray) -> np.ndarray:
        """Squared errors on the hidden entries, for each width."""
        shown, noise = rows.hide(hidden), float(np.mean(self.basis.noise))
        predicted = (self.predict(shown, float(width) * noise) for width in _WIDTHS)
        return np.array([np.sum((found - rows.values)[hidden] ** 2) for found in predicted])

    def predict(self, rows: Rows, width: float) -> np.ndarray:
        """Entries (b, n) for a squared bandwidth."""
        return np.vstack([_softmax(squares, width) @ self.known for squares in self._distances(rows)])

    @cached_property
    def _squares(self) -> np.ndarray:
        return self.known**2

    def _distances(self, rows: Rows) -> Iterator[np.ndarray]:
        """Σ_Ω(x − t)² less what is the same for all rows t of the teacher, (≤ batch, m), batch by batch."""
        for start in range(0, len(rows), _BATCH):
            some = slice(start, start + _BATCH)
            seen = rows.seen[some].astype(np.float64)
            yield seen @ self._squares.T - 2 * (rows.values[some] @ self.known.T)


def _softmax(squares: np.ndarray, width: float) -> np.ndarray:
    """Weights of rows (b, m) by their distances, each row of weights summing to 1."""
    logits = squares / (-2 * width)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
