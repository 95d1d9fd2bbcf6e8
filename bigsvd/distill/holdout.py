"""`Holdout`: which entries of data with gaps are hidden on purpose, to judge predictions of them.

What is hidden resembles the gaps: a prediction that is good between scattered entries may be bad in the
middle of a cloud, or for a sensor that was never there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bigsvd.distill.rows import Rows

_BLOCKS_FROM = 2.0  # times as long as by chance: from such runs of gaps on they are taken for blocks
_ALIKE_BELOW = 0.5  # of the disagreement by chance: masks of neighbouring rows that differ less are one mask
_MOST_OF_A_ROW = 1 / 3  # of what a row has is hidden in blocks: it has to stay a row with about as many gaps


@dataclass(frozen=True)
class Holdout:
    """Hides a share of the entries that were seen; the same for the same seed, panel and gaps.

    Attributes:
        seed: of what is hidden. share: of the entries seen, as expected.

    """

    seed: int
    share: float = 0.1

    def hidden(self, rows: Rows) -> np.ndarray:
        """Which entries of a panel to hide, (b, n) bool: all of them were seen."""
        seen = np.asarray(rows.seen)
        pattern = pattern_of(seen)
        if pattern == "columns":
            return np.asarray(seen & self._columns(seen))
        if pattern == "blocks":
            return self._blocks(seen, rows.start)
        return np.asarray(seen & (self._random(rows.start).random(seen.shape) < self.share))

    def _random(self, start: int) -> np.random.Generator:
        """Numbers that depend on the seed and the panel alone (Salmon et al. 2011: counters, no state)."""
        return np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 1, start]))

    def _columns(self, seen: np.ndarray) -> np.ndarray:
        """Columns (n,) that are hidden in every row of every panel, as those that are gaps everywhere are."""
        return np.asarray(self._random(0).random(seen.shape[1]) < self.share)

    def _blocks(self, seen: np.ndarray, start: int) -> np.ndarray:
        """The gaps of other rows, whole, in as many rows as make up the share."""
        random = self._random(start)
        donors = (np.arange(len(seen)) + random.integers(1, max(2, len(seen)), len(seen))) % len(seen)
        given = seen & ~seen[donors]
        given = _trimmed(given, (_MOST_OF_A_ROW * np.sum(seen, axis=1)).astype(int), random)
        wanted = self.share * np.sum(seen) / max(1, np.sum(given))
        return np.asarray(given & (random.random(len(seen)) < wanted)[:, None])


def pattern_of(seen: np.ndarray) -> str:
    """How the gaps of some rows (b, n) lie: "columns" (the same in all), "blocks", or "single"."""
    told = seen[np.any(seen, axis=1)]
    if len(told) < 2 or np.all(told):
        return "single"
    if _is_one_mask(told):
        return "columns"
    if _run_excess(told[:, np.any(told, axis=0) & ~np.all(told, axis=0)]) > _BLOCKS_FROM:
        return "blocks"
    return "single"


def _is_one_mask(seen: np.ndarray) -> bool:
    share = float(np.mean(seen))
    differing = float(np.mean(seen[1:] != seen[:-1]))
    return differing < _ALIKE_BELOW * 2 * share * (1 - share)


def _run_excess(seen: np.ndarray) -> float:
    """Mean length of runs of gaps along the rows, times what it is by chance, 1 / (share seen)."""
    gaps = ~seen
    runs = np.sum(gaps[:, :1]) + np.sum(gaps[:, 1:] & seen[:, :-1])
    return float(np.sum(gaps) / max(1, runs) * np.mean(seen)) if seen.size else 0.0


def _trimmed(given: np.ndarray, most: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Of each row's entries no more than `most` (b,): those that follow each other from a place at random."""
    count = np.sum(given, axis=1)
    first = (random.random(len(given)) * count).astype(int)
    number = np.cumsum(given, axis=1) - 1 - first[:, None]
    return np.asarray(given & (np.mod(number, np.maximum(count, 1)[:, None]) < most[:, None]))
