"""`Gaussians`: a mixture of normal densities fitted to points, by EM with covariances that are shrunk.

How many there are, and how far their covariances are drawn to the one they share, is decided by the
likelihood of points that were held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_HELD_OUT = 5  # one in so many points is
_STEPS = 20  # of EM at most
_STANDS = 1e-3  # gain of mean log-likelihood by a step of EM, below which it has converged
_LLOYD_STEPS = 10  # of k-means, which only starts EM
_STRENGTHS = (
    0.125,
    0.5,
    2.0,
)  # of shrinkage: as if so many points for each dimension came from the shared one
_MOST = 64  # components: beyond that a network is the better model
_FEWEST_POINTS = 10  # for each component
_FLOOR = 1e-6  # of the mean variance, added to every variance: points on a line have a density, too


@dataclass(frozen=True, eq=False)
class Gaussians:
    """p(z) = Σ_c weights_c·N(z; means_c, covariances_c): (c,), (c, r), (c, r, r) float64."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def r(self) -> int:
        """Number of coordinates."""
        return int(self.means.shape[1])

    def log_joint(self, points: np.ndarray) -> np.ndarray:
        """log(weights_c·N(z; means_c, covariances_c)) of points (m, r), as (m, c)."""
        roots = np.linalg.inv(np.linalg.cholesky(self.covariances))
        squares = [_squares((points - mean) @ root.T) for mean, root in zip(self.means, roots, strict=True)]
        return self._log_scale(roots) - 0.5 * np.stack(squares, axis=1)

    def _log_scale(self, roots: np.ndarray) -> np.ndarray:
        """log(weights_c/√|2π·covariances_c|), of the inverses of the covariances' roots."""
        volumes = np.sum(np.log(np.diagonal(roots, axis1=1, axis2=2)), axis=1)
        return np.asarray(np.log(self.weights) + volumes - 0.5 * self.r * np.log(2 * np.pi))

    def log_likelihood(self, points: np.ndarray) -> float:
        """Mean of log p(z) over points (m, r)."""
        return float(np.mean(_log_sum(self.log_joint(points))))


def fit_gaussians(points: np.ndarray, seed: int) -> Gaussians:
    """The mixture under which held-out points are likeliest, fitted to all points (m, r); one for few points.

    Sizes are doubled until two in turn gain nothing. The same points and seed give the same mixture.
    """
    held = np.random.default_rng(seed).permutation(len(points)) % _HELD_OUT == 0
    trials = [_Trial(-np.inf, 1, _STRENGTHS[-1])]
    for size in _sizes(len(points)):
        trials.append(_trial(points[~held], points[held], size, seed))
        if max(trials) not in trials[-2:]:
            break
    best = max(trials)
    return expectation_maximisation(points, best.size, best.strength, seed)


def _sizes(points: int) -> Iterator[int]:
    size = 1
    while size <= _MOST and size * _FEWEST_POINTS <= points:
        yield size
        size *= 2


class _Trial(NamedTuple):
    """The likelihood of held-out points under a mixture of that size, and how strongly it was shrunk."""

    likelihood: float
    size: int
    strength: float


def _trial(points: np.ndarray, held: np.ndarray, size: int, seed: int) -> _Trial:
    """The best strength for a size."""
    return max(_tried(points, held, _Trial(0.0, size, strength), seed) for strength in _STRENGTHS)


def _tried(points: np.ndarray, held: np.ndarray, trial: _Trial, seed: int) -> _Trial:
    found = expectation_maximisation(points, trial.size, trial.strength, seed)
    return trial._replace(likelihood=found.log_likelihood(held))


def expectation_maximisation(points: np.ndarray, size: int, strength: float, seed: int) -> Gaussians:
    """EM for a Gaussian mixture of `size` components, from k-means (Dempster, Laird & Rubin 1977).

    Its M-step is the mode under an inverse Wishart prior around the covariance within components: that of a
    component with few points is mostly the shared one (Fraley & Raftery 2007, Sec. 3).
    """
    share, before = _start(points, size, seed), -np.inf
    for _ in range(_STEPS):
        found = _maximised(points, share, strength * points.shape[1])
        share, likelihood = _shares(found.log_joint(points))
        if likelihood - before < _STANDS:
            break
        before = likelihood
    return found


def _start(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Each point belongs to one cluster of k-means."""
    return np.asarray(np.eye(size)[_clusters(points, size, np.random.default_rng(seed))])


def _shares(joint: np.ndarray) -> tuple[np.ndarray, float]:
    """The E-step: the probability of each component (m, c), and the mean log-likelihood."""
    each = _log_sum(joint)
    return np.exp(joint - each[:, None]), float(np.mean(each))


def _maximised(points: np.ndarray, share: np.ndarray, borrowed: float) -> Gaussians:
    """The M-step for shares (m, c) of the points; so many points of each covariance are of the shared one."""
    counts = np.sum(share, axis=0)
    # One point at the mean of all: a component that lost its points stays where it does no harm.
    means = (share.T @ points + np.mean(points, axis=0)) / (counts + 1)[:, None]
    scatter = np.stack([_scatter(points - mean, part) for mean, part in zip(means, share.T, strict=True)])
    within = _regular(np.sum(scatter, axis=0) / len(points))
    covariances = (scatter + borrowed * within) / (counts + borrowed)[:, None, None]
    return Gaussians((counts + 1) / np.sum(counts + 1), means, covariances)


def _scatter(away: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Σ share·away·awayᵀ."""
    return np.asarray((away * share[:, None]).T @ away)


def _regular(covariance: np.ndarray) -> np.ndarray:
    """The same with a floor below every variance."""
    mean = float(np.mean(np.diag(covariance)))
    return covariance + _FLOOR * max(mean, np.finfo(float).tiny) * np.eye(len(covariance))


def _clusters(points: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """The number of the cluster of each point (m,): Lloyd's steps from the start of k-means++."""
    centres = _spread_out(points, size, random)
    for _ in range(_LLOYD_STEPS):
        cluster = _nearest(points, centres)
        for place in np.unique(cluster):
            centres[place] = np.mean(points[cluster == place], axis=0)
    return cluster


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.asarray(np.argmin(_squares(centres) - 2 * points @ centres.T, axis=1))


def _spread_out(points: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """`size` of the points, each drawn by its squared distance from those before.

    Arthur & Vassilvitskii 2007, Sec. 2.2: k-means++.
    """
    chosen = [int(random.integers(len(points)))]
    distance = _squares(points - points[chosen[0]])
    while len(chosen) < size:
        chosen.append(_drawn(distance, random))
        distance = np.minimum(distance, _squares(points - points[chosen[-1]]))
    return points[chosen].copy()


def _drawn(weights: np.ndarray, random: np.random.Generator) -> int:
    """A place, as likely as its weight."""
    sums = np.cumsum(weights)
    return min(int(np.searchsorted(sums, random.random() * sums[-1])), len(weights) - 1)


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Squared norms of vectors (m, r)."""
    return np.asarray(np.sum(vectors * vectors, axis=1))


def _log_sum(logs: np.ndarray) -> np.ndarray:
    """The logarithm of Σ_c exp(logs_c), of (m, c), as (m,)."""
    return np.asarray(np.logaddexp.reduce(logs, axis=1))
