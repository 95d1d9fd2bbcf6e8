"""Coverage: how many errors lie within intervals of each of several levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # of intervals whose coverage is counted
_NINETY = LEVELS.index(0.9)
_REACH = np.array([NormalDist().inv_cdf((1 + level) / 2) for level in LEVELS])  # standard deviations


@dataclass(eq=False)
class Within:
    """How many errors lie within the interval of each of `LEVELS`, (levels,), of how many."""

    counts: np.ndarray
    tried: int

    @classmethod
    def of(cls, standard: np.ndarray) -> Within:
        """Errors in units of their standard deviation, of any shape and sign."""
        sizes = np.abs(standard).reshape(-1, 1)
        return cls((sizes <= _REACH).sum(axis=0), len(sizes))

    def __add__(self, other: Within) -> Within:
        return Within(self.counts + other.counts, self.tried + other.tried)

    @property
    def shares(self) -> tuple[float, ...]:
        """For each level; empty where there were no errors."""
        if not self.tried:
            return ()
        return tuple((self.counts / self.tried).tolist())

    @property
    def ninety(self) -> float:
        """Of the 90 % interval; NaN where there were no errors."""
        if not self.tried:
            return math.nan
        return self.shares[_NINETY]


NOTHING = Within(np.zeros(len(LEVELS)), 0)
