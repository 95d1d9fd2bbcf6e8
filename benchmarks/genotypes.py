"""Simulated genotypes as in DataSimulator (github.com/eugeniamaria/DataSimulator, scenario A), by blocks.

Of K ancestral groups and as many alleles as there are variants. Individuals live in regions of equal size.
A region has proportions q ~ Dir(0.2) of the groups, an individual of it θ ~ Dir(50·q). A variant with
frequency f and F_ST F has in each group the frequency β ~ Beta(f(1−F)/F, (1−f)(1−F)/F), drawn again outside
(0.05, 0.95). The count of an individual is binomial, of two draws with probability θᵀβ. DataSimulator takes
f and F from files of HapMap; here f is uniform in (0.05, 0.95) and F is 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GROUPS = 6
MISSING = -1
_REGIONS = 5
_SPARSITY = 0.2
_CLOSENESS = 50.0
_FST = 0.1
_RARE, _COMMON = 0.05, 0.95


@dataclass(frozen=True)
class Population:
    """`samples` individuals, always the same for a seed; `missing` is the share of calls that failed."""

    samples: int
    seed: int
    missing: float = 0.0

    def ancestry(self) -> np.ndarray:
        """θ, (samples, GROUPS); rows sum to 1 and are sorted by region."""
        rng = np.random.default_rng((self.seed, 0))
        regions = rng.dirichlet(np.full(GROUPS, _SPARSITY), _REGIONS)
        home = np.arange(self.samples) * _REGIONS // self.samples
        shares = rng.standard_gamma(_CLOSENESS * regions[home])
        found: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
        return found

    def frequencies(self, variants: int) -> np.ndarray:
        """β, (GROUPS, variants)."""
        rng = np.random.default_rng((self.seed, 1))
        odds = (1 - _FST) / _FST
        f = rng.uniform(_RARE, _COMMON, variants)
        first, second = np.tile(odds * f, (GROUPS, 1)), np.tile(odds * (1 - f), (GROUPS, 1))
        found = rng.beta(first, second)
        while (again := (found <= _RARE) | (found >= _COMMON)).any():
            found[again] = rng.beta(first[again], second[again])
        return found

    def counts(self, block: int, theta: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """Counts of alleles (r, c) int8 for θ (r, GROUPS) and β (GROUPS, c), `MISSING` where a call failed.

        `block` numbers what is drawn: another number, other draws.
        """
        rng = np.random.default_rng((self.seed, 2, block))
        p = theta.astype(np.float32) @ beta.astype(np.float32)
        drawn = rng.random(p.shape, dtype=np.float32)
        found = (drawn < p * p).view(np.int8) + (drawn < p * (2 - p)).view(np.int8)
        if self.missing:
            found[rng.random(p.shape, dtype=np.float32) < self.missing] = MISSING
        return found
