"""DINEOF: gaps of a field are filled by iterated truncated SVD, whose rank is chosen by cross-validation.

Beckers & Rixen 2003; Alvera-Azcárate, Barth, Rixen & Beckers 2005. Entries that were seen stay; gaps begin as
the mean, and are replaced by the reconstruction of rank p until it no longer changes; p grows while the error
on entries that were set aside falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SET_ASIDE = 0.03  # of what was seen, to choose the rank by; no fewer than 30, as DINEOF has it
_FEWEST = 30
_CHANGE = 1e-3  # of the spread of what was seen: the reconstruction stands when it changes by less
_MOST_ITERATIONS = 300
_PATIENCE = 3  # ranks in a row that are no better, after which none is tried


@dataclass(frozen=True, eq=False)
class Filled:
    """All entries (m, n): what was seen as it was, the gaps as DINEOF fills them; and the rank."""

    values: np.ndarray
    rank: int
    iterations: int


def fill(values: np.ndarray, seen: np.ndarray, most: int, seed: int) -> Filled:
    """Rows (m, n) with gaps; `most` is the largest rank that is tried.

    Columns of which nothing was seen get 0 beyond the mean of all that was seen.
    """
    mean = _column_means(values, seen)
    field = np.where(seen, values - mean, 0.0)
    aside = _set_aside(seen, seed)
    rank, iterations = _best_rank(field, seen & ~aside, aside, most)
    filled, more = _converged(field, seen, rank, np.where(seen, field, 0.0))
    return Filled(np.where(seen, values, filled + mean), rank, iterations + more)


def _column_means(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Of what was seen of each column (n,); of all where nothing was."""
    count = seen.sum(axis=0)
    sums = np.where(seen, values, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 0, sums / np.maximum(count, 1), sums.sum() / max(1, count.sum())))


def _set_aside(seen: np.ndarray, seed: int) -> np.ndarray:
    """Which of the entries seen are kept back, bool: where others have gaps, in the rows that have fewest.

    So they lie as the gaps do (Alvera-Azcárate et al. 2009: clouds are laid over the cleanest images).
    """
    rng = np.random.default_rng((seed, 8))
    wanted = max(_FEWEST, _SET_ASIDE * seen.sum())
    aside = np.zeros(seen.shape, dtype=bool)
    clouded = rng.permutation(np.flatnonzero(~seen.all(axis=1)))
    cleanest = np.argsort(-seen.sum(axis=1), kind="stable")
    for row, cloud in zip(cleanest, np.resize(clouded, len(cleanest)), strict=True):
        if aside.sum() >= wanted:
            break
        aside[row] = seen[row] & ~seen[cloud]
    return aside


def _best_rank(field: np.ndarray, kept: np.ndarray, aside: np.ndarray, most: int) -> tuple[int, int]:
    """The rank of least error on what was set aside; each begins where the one before has ended."""
    guess, best, least, iterations = np.where(kept, field, 0.0), 1, np.inf, 0
    for rank in range(1, most + 1):
        guess, more = _converged(field, kept, rank, guess)
        iterations += more
        error = float(np.sqrt(np.mean((guess - field)[aside] ** 2)))
        if error < least:
            best, least = rank, error
        elif rank - best >= _PATIENCE:
            break
    return best, iterations


def _converged(field: np.ndarray, kept: np.ndarray, rank: int, guess: np.ndarray) -> tuple[np.ndarray, int]:
    """The reconstruction of that rank that agrees with itself in the gaps, and how many steps it took."""
    spread = float(np.std(field[kept]))
    gaps = ~kept
    guess = np.where(kept, field, guess)
    for step in range(1, _MOST_ITERATIONS + 1):
        found = _truncated(guess, rank)
        change = float(np.sqrt(np.mean((found - guess)[gaps] ** 2))) if gaps.any() else 0.0
        guess = np.where(kept, field, found)
        if change < _CHANGE * spread:
            return found, step
    return found, _MOST_ITERATIONS


def _truncated(values: np.ndarray, rank: int) -> np.ndarray:
    """The best approximation of that rank, by the Gram matrix of the short side."""
    if values.shape[0] > values.shape[1]:
        return _truncated(values.T, rank).T
    _, vectors = np.linalg.eigh(values @ values.T)
    leading = vectors[:, -rank:]
    return np.asarray(leading @ (leading.T @ values))
