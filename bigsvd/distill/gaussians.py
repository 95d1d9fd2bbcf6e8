"""`Gaussians`: a mixture of normal densities fitted to points, by EM with covariances that are shrunk.

How many there are, and how far their covariances are drawn to the one they share, is decided by the
likelihood of points that were held out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from bigsvd.distill.moments import number_of_pairs, packed, pairs_bytes, pairs_of

Pairs = Iterable[np.ndarray]  # of points, see `pairs_of`

_HELD_OUT = 5  # one in so many points is
_STEPS = 20  # of EM at most
_TRIAL_STEPS = 8  # of those by which a size and a strength are chosen
_NEGLIGIBLE = 1e-12  # of a point, that adds nothing to a covariance: most components have no more of it
_STANDS = 1e-3  # gain of mean log-likelihood by a step of EM, below which it has converged
_LLOYD_STEPS = 10  # of k-means, which only starts EM
_STRENGTHS = (0.125, 0.5, 2.0)  # of shrinkage: as if so many points a dimension came from the shared one
_MOST = 64  # components: beyond that a network is the better model
_FEWEST_POINTS = 10  # for each component
_FLOOR = 1e-6  # of the mean variance, added to every variance: points on a line have a density, too
_COPIES = 4  # of the points, while a mixture is fitted to them
_SHARES = 4  # numbers of each point and component: the shares, and what they are made of
_MATRICES = 6  # of each component: covariances, sums, roots and what these are made of
_LEAST_VARIANCE = 1e-100  # of points that are all alike: its inverse is a number


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

    def log_likelihood(self, points: np.ndarray) -> float:
        """Mean of log p(z) over points (m, r)."""
        centre = self.weights @ self.means
        return _likelihood(self.about(centre), pairs_of(points - centre))

    def about(self, centre: np.ndarray) -> Gaussians:
        """That of points less the centre (r,)."""
        return replace(self, means=self.means - centre)

    def times(self, unit: float) -> Gaussians:
        """That of points in units of `unit`, in units of 1."""
        return replace(self, means=self.means * unit, covariances=self.covariances * unit * unit)

    @property
    def natural(self) -> np.ndarray:
        """Natural parameters (c, p): times `pairs_of` points, log(weights_c·N(z; means_c, covariances_c)).

        They are exact to rounding of ‖z‖² beside the smallest variance: points are to lie about 0.
        """
        roots = np.linalg.inv(np.linalg.cholesky(self.covariances))
        forms = -0.5 * _gram(_with_offset(roots, self.means))
        forms[:, 0, 0] += self._log_scale(roots)
        return packed(forms)

    def _log_scale(self, roots: np.ndarray) -> np.ndarray:
        """log(weights_c/√|2π·covariances_c|), of the inverses of the covariances' roots."""
        volumes = np.sum(np.log(np.diagonal(roots, axis1=1, axis2=2)), axis=1)
        return np.asarray(np.log(self.weights) + volumes - 0.5 * self.r * np.log(2 * np.pi))


def _with_offset(roots: np.ndarray, means: np.ndarray) -> np.ndarray:
    """[−L·μ, L] (c, r, r+1): times (1, z)ᵀ they are L·(z − μ)."""
    return np.concatenate([-roots @ means[:, :, None], roots], axis=2)


def _gram(matrices: np.ndarray) -> np.ndarray:
    """MᵀM of each."""
    return np.asarray(np.swapaxes(matrices, 1, 2) @ matrices)


def _likelihood(found: Gaussians, pairs: Pairs) -> float:
    """Mean of log p(z) over points by their pairs."""
    natural = found.natural
    return float(np.mean(np.concatenate([_log_sum(natural @ some) for some in pairs])))


def fit_flops(points: int, r: int) -> float:
    """Of `fit_gaussians` to points (m, r), at the most: in each step of EM a product with their pairs."""
    sizes = (1, *_sizes(points))
    trials = len(_STRENGTHS) * _TRIAL_STEPS * sum(sizes) * (1 - 1 / _HELD_OUT)
    return 2.0 * number_of_pairs(r) * points * (trials + _STEPS * sizes[-1])


def fit_bytes(points: int, r: int) -> int:
    """That `fit_gaussians` holds beside points (m, r), at the most: copies, shares, pairs, and components."""
    most = max(_sizes(points), default=1)
    numbers = points * (_COPIES * r + _SHARES * most) + _MATRICES * most * (r + 1) ** 2
    return 8 * numbers + pairs_bytes(points, r) + pairs_bytes(points // _HELD_OUT, r)


def fit_gaussians(points: np.ndarray, seed: int) -> Gaussians:
    """The mixture under which held-out points are likeliest, fitted to all points (m, r); one for few points.

    Sizes are doubled until two in turn gain nothing, and each begins with the strength of shrinkage that was
    best before. The same points and seed give the same mixture. `fit_bytes` are held.
    """
    centre = np.mean(points, axis=0)
    unit = _unit(points - centre)
    return _likeliest((points - centre) / unit, seed).times(unit).about(-centre)


def _unit(points: np.ndarray) -> float:
    """A power of two, in which points are neither huge nor tiny and keep their bits; 1 where all are 0."""
    largest = float(np.max(np.abs(points), initial=0.0))
    return 2.0 ** math.frexp(largest)[1]


def _likeliest(points: np.ndarray, seed: int) -> Gaussians:
    best = _best(points, seed)
    return expectation_maximisation(_Sample.of(points), _start(points, best.size, seed), best.strength)


def _best(points: np.ndarray, seed: int) -> _Trial:
    """The size and strength of the likeliest."""
    held = np.random.default_rng(seed).permutation(len(points)) % _HELD_OUT == 0
    known, others = _Sample.of(points[~held]), pairs_of(points[held])
    trials = [_Trial(-np.inf, 1, _STRENGTHS[-1])]
    for size in _sizes(len(points)):
        tried = partial(_tried, known, others, _start(known.points, size, seed))
        trials.append(_climbed(tried, trials[-1].strength))
        if max(trials) not in trials[-2:]:
            break
    return max(trials)


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


def _climbed(tried: Callable[[float], _Trial], strength: float) -> _Trial:
    """The best strength, looked for on both sides of one for as long as it gets better."""
    place = _STRENGTHS.index(strength)
    stronger = _along(tried, _STRENGTHS[place + 1 :], tried(strength))
    return _along(tried, _STRENGTHS[:place][::-1], stronger)


def _along(tried: Callable[[float], _Trial], strengths: Sequence[float], best: _Trial) -> _Trial:
    for strength in strengths:
        found = tried(strength)
        if found.likelihood <= best.likelihood:
            break
        best = found
    return best


def _tried(known: _Sample, others: Pairs, start: np.ndarray, strength: float) -> _Trial:
    found = expectation_maximisation(known, start, strength, _TRIAL_STEPS)
    return _Trial(_likelihood(found, others), len(start), strength)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Points (m, r) that lie about 0, and their pairs."""

    points: np.ndarray
    pairs: Pairs

    @classmethod
    def of(cls, points: np.ndarray) -> _Sample:
        return cls(points, pairs_of(points))


def expectation_maximisation(
    sample: _Sample, start: np.ndarray, strength: float, steps: int = _STEPS
) -> Gaussians:
    """EM for a Gaussian mixture (Dempster, Laird & Rubin 1977), begun with shares (c, m) of the points.

    Its M-step is the mode under an inverse Wishart prior around the covariance within components: that of a
    component with few points is mostly the shared one (Fraley & Raftery 2007, Sec. 3).
    """
    share, before = start, -np.inf
    for _ in range(steps):
        found = _maximised(sample.points, share, strength * sample.points.shape[1])
        share, likelihood = _expected(found, sample.pairs)
        if likelihood - before < _STANDS:
            break
        before = likelihood
    return found


def _start(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Each point belongs to one cluster of k-means."""
    cluster = _clusters(points, size, np.random.default_rng(seed))
    return np.asarray(np.eye(size)[:, cluster])


def _expected(found: Gaussians, pairs: Pairs) -> tuple[np.ndarray, float]:
    """The E-step: the probability of each component (c, m), and the mean log-likelihood."""
    natural = found.natural
    parts = [_shares(natural @ some) for some in pairs]
    share, each = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return share, float(np.mean(each))


def _shares(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each component (c, b), and the log-likelihood of each point (b,)."""
    each = _log_sum(joint)
    return np.exp(joint - each), each


def _maximised(points: np.ndarray, share: np.ndarray, borrowed: float) -> Gaussians:
    """The M-step for shares (c, m) of points whose mean is 0; so many more are of the shared covariance."""
    counts = np.sum(share, axis=1)
    # One point at 0, the mean of all: a component that lost its points stays where it does no harm.
    means = share @ points / (counts + 1)[:, None]
    scatter = np.stack([_scatter(points, *part) for part in zip(means, share, strict=True)])
    within = _regular(np.sum(scatter, axis=0) / len(points))
    covariances = (scatter + borrowed * within) / (counts + borrowed)[:, None, None]
    return Gaussians((counts + 1) / np.sum(counts + 1), means, covariances)


def _scatter(points: np.ndarray, mean: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Σ share·(z−μ)(z−μ)ᵀ, of the points that have a share."""
    some = np.flatnonzero(share > _NEGLIGIBLE)
    away = points[some] - mean
    return np.asarray((away * share[some, None]).T @ away)


def _regular(covariance: np.ndarray) -> np.ndarray:
    """The same with a floor below every variance."""
    mean = float(np.mean(np.diag(covariance)))
    return covariance + _FLOOR * max(mean, _LEAST_VARIANCE) * np.eye(len(covariance))


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
    """The logarithm of Σ_c exp(logs_c), of (c, m), as (m,)."""
    greatest = np.max(logs, axis=0)
    return np.asarray(greatest + np.log(np.sum(np.exp(logs - greatest), axis=0)))
