"""`Mixture`: the posterior of a row's coordinates under a mixture of Gaussians, in closed form.

Where the teacher's rows lie on a curved sheet or in groups, one Gaussian prior wastes what is known of them.
The mixture is fitted to the teacher's coordinates alone, without any pass over its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, ClassVar

import numpy as np

from bigsvd.distill.basis import Basis, diagonals, namespace_of
from bigsvd.distill.gaussians import Gaussians, fit_gaussians
from bigsvd.distill.inverses import inverses, times
from bigsvd.distill.observed import Observed
from bigsvd.distill.stage import Coordinates, Move

Array = Any

MOST_ROWS = 2**14  # of the teacher that a mixture is fitted to
_LEADING = 16  # coordinates by which components are ranked: of 8, twice as many components had to answer
_LEFT_OUT = 1e-3  # of a row's probability, which may lie in components that are not looked at closely
_LEAST_SHARE = 1e-2  # of the noise in any direction, that a component varies by no less than
_STORED = ("weights", "means", "covariances", "prior")


@dataclass(frozen=True, eq=False)
class Mixture:
    """z ~ Σ_c weights_c·N(means_c, covariances_c): posterior mean and covariance of rows with gaps.

    Attributes:
        weights: (c,), they add up to 1. means: (c, r). covariances: (c, r, r), positive definite.
        prior: variances (r,) of the one Gaussian by which components are ranked for a row.
        move: copies an array to where rows lie.

    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    prior: np.ndarray
    move: Move = np.asarray
    name: ClassVar[str] = "mixture"

    def __len__(self) -> int:
        return len(self.weights)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it, for a store."""
        return {name: getattr(self, name) for name in _STORED}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Mixture:
        """The inverse of `to_arrays`."""
        weights, means, covariances, prior = (arrays[name] for name in _STORED)
        return cls(weights, means, covariances, prior)

    def moved(self, prior: np.ndarray) -> Mixture:
        """The same shape for new data whose coordinates have the covariance `prior` (r, r), as by `map`.

        Coordinates are stretched by the one symmetric A with A·Λ₀·A = Λ, which moves them least (Givens &
        Shortt 1984, Prop. 7): components that fit the teacher's scale would hold new data of another to it.
        """
        A = _stretch(self.prior, prior)
        means, covariances = self.means @ A, A @ self.covariances @ A
        return replace(self, means=means, covariances=covariances, prior=np.diag(prior))

    def on(self, move: Move) -> Mixture:
        """See `Stage.on`."""
        return replace(self, move=move)

    @property
    def _leading_count(self) -> int:
        """How many coordinates components are ranked by."""
        return min(_LEADING, len(self.prior))

    @cached_property
    def _parts(self) -> _Parts:
        return _Parts.of(self, len(self.prior))

    @cached_property
    def _leading_parts(self) -> _Parts:
        return _Parts.of(self, self._leading_count)

    @cached_property
    def _other_precisions(self) -> Array:
        """Λ⁻¹ of the coordinates by which nothing is ranked, on the device."""
        return self.move(np.diag(1 / self.prior[self._leading_count :]))

    def infer(self, observed: Observed) -> Coordinates:
        """See `Stage.infer`.

        Each component answers like a ridge with its own prior. What a row shows of it (its evidence) weighs
        the answers. Components are ranked by the leading coordinates, the others' prior being that of the
        ridge; those that hold all but a thousandth of a row's probability then answer in full.
        """
        if observed.G.shape[0] == 1 < len(observed):
            return self._shared(observed)
        order, needed = _by_rank(self._probable(observed))
        xp = namespace_of(order)
        by_need = xp.argsort(-needed)
        found = self._answers(_taken(observed, by_need), xp.take(order, by_need, axis=0), needed)
        return found.taken(xp.argsort(by_need)).coordinates

    def _answers(self, observed: Observed, order: Array, needed: Array) -> _Answers:
        """The mixed answers of rows which lie in the order of how many components they need, most first."""
        xp, parts = namespace_of(order), self._parts
        found = parts.answers(observed, order[:, 0])
        for place in range(1, int(xp.max(needed))):
            count = int(xp.count_nonzero(needed > place))
            more = parts.answers(_first(observed, count), order[:count, place])
            found.put(found.first(count).mixed(more))
        return found

    def _probable(self, observed: Observed) -> Array:
        """The probability of each component by what a row shows of its leading coordinates, (b, c)."""
        xp = namespace_of(observed.t)
        leading, parts = self._leading(observed), self._leading_parts
        logs = [parts.evidence(leading, place).log_weight for place in range(len(self))]
        return _normalised(xp.stack(logs, axis=1))

    def _leading(self, observed: Observed) -> Observed:
        """What rows say of their leading coordinates, the others' prior being that of the ridge.

        With G = [[P, Qᵀ], [Q, S]] it is P − Qᵀ(S + Λ⁻¹)⁻¹Q, and alike of t. (As the inverse of a block of the
        ridge's posterior, less its prior, rounding left no positive definite matrix where noise is little.)
        """
        q = self._leading_count
        if q == len(self.prior):
            return observed
        Q = observed.G[:, q:, :q]
        X = inverses(observed.G[:, q:, q:] + self._other_precisions) @ Q
        t = observed.t[:, :q] - times(X.mT, observed.t[:, q:])
        return Observed(observed.G[:, :q, :q] - Q.mT @ X, t, observed.energy, observed.count)

    def _shared(self, observed: Observed) -> Coordinates:
        """The same for rows that have the same columns: one solve for each component, and none left out."""
        answers = (self._parts.evidence(observed, place) for place in range(len(self)))
        return reduce(_Answers.mixed, answers).coordinates


@dataclass(frozen=True, eq=False)
class _Answers:
    """A posterior of each row, and the logarithm of how probable what was seen makes its component.

    log_weight: (b,), but for what is the same for all components. mean: (b, r). covariance: (b, r, r), or
    (1, r, r) where it is the same for all rows.
    """

    log_weight: Array
    mean: Array
    covariance: Array

    @property
    def coordinates(self) -> Coordinates:
        return Coordinates(self.mean, self.covariance)

    def first(self, count: int) -> _Answers:
        return _Answers(self.log_weight[:count], self.mean[:count, :], self.covariance[:count, ...])

    def taken(self, rows: Array) -> _Answers:
        return _Answers(*_picked(rows, self.log_weight, self.mean, self.covariance))

    def put(self, other: _Answers) -> None:
        """The first answers become these."""
        count = other.log_weight.shape[0]
        self.log_weight[:count] = other.log_weight
        self.mean[:count, :] = other.mean
        self.covariance[:count, ...] = other.covariance

    def mixed(self, other: _Answers) -> _Answers:
        """Two answers as one, by the law of total covariance."""
        xp = namespace_of(self.log_weight)
        log_weight = xp.logaddexp(self.log_weight, other.log_weight)
        share = xp.exp(other.log_weight - log_weight)[:, None]
        away = other.mean - self.mean
        within = self.covariance + share[:, :, None] * (other.covariance - self.covariance)
        between = _outer(xp.sqrt(share * (1 - share)) * away)
        return _Answers(log_weight, self.mean + share * away, within + between)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Components by their precisions J = S⁻¹ (c, r, r) and J·μ (c, r), on a device.

    constants: log weight + ½·log|J| − ½·μᵀJμ, (c,).
    """

    precisions: Array
    pulls: Array
    constants: Array

    @classmethod
    def of(cls, mixture: Mixture, leading: int) -> _Parts:
        """Those of so many leading coordinates."""
        means = mixture.means[:, :leading]
        precisions = np.linalg.inv(mixture.covariances[:, :leading, :leading])
        pulls = times(precisions, means)
        half = 0.5 * (np.linalg.slogdet(precisions)[1] - np.sum(pulls * means, axis=1))
        constants = np.log(mixture.weights) + half
        return cls(*map(mixture.move, (precisions, pulls, constants)))

    def answers(self, observed: Observed, places: Array) -> _Answers:
        """That of the component `places` (b,) of each row."""
        parts = _Parts(*_picked(places, self.precisions, self.pulls, self.constants))
        return parts.solved(observed)

    def evidence(self, observed: Observed, place: int) -> _Answers:
        """That of one component, of all rows."""
        some = slice(place, place + 1)
        parts = _Parts(self.precisions[some, ...], self.pulls[some, :], self.constants[some])
        return parts.solved(observed)

    def solved(self, observed: Observed) -> _Answers:
        """Each row's answer by its component, or by the only one.

        The evidence of what was seen is by Woodbury's identity ½·bᵀPb + ½·log|P| + the constant, with
        P = (G + J)⁻¹ the posterior's covariance, b = t + J·μ and P·b its mean.
        """
        inner, right = observed.G + self.precisions, observed.t + self.pulls
        xp = namespace_of(right)
        covariance = inverses(inner)
        mean = times(covariance, right)
        evidence = 0.5 * xp.sum(right * mean, axis=-1) - _half_log_determinant(inner)
        return _Answers(self.constants + evidence, mean, covariance)


def _half_log_determinant(matrices: Array) -> Array:
    xp = namespace_of(matrices)
    return xp.sum(xp.log(diagonals(xp.linalg.cholesky(matrices))), axis=-1)


def _outer(vectors: Array) -> Array:
    return vectors[:, :, None] * vectors[:, None, :]


def _normalised(logs: Array) -> Array:
    xp = namespace_of(logs)
    weights = xp.exp(logs - xp.max(logs, axis=1, keepdims=True))
    return weights / xp.sum(weights, axis=1, keepdims=True)


def _by_rank(probable: Array) -> tuple[Array, Array]:
    """Components (b, c), the most probable first, and how many are needed (b,) for all but a little."""
    xp = namespace_of(probable)
    order = xp.argsort(-probable, axis=1)
    count = probable.shape[1]
    before = xp.take_along_axis(probable, order, axis=1) @ xp.triu(xp.ones((count, count)), k=1)
    return order, xp.count_nonzero(before < 1 - _LEFT_OUT, axis=1)


def _picked(places: Array, *parts: Array) -> list[Array]:
    xp = namespace_of(places)
    return [xp.take(part, places, axis=0) for part in parts]


def _taken(observed: Observed, rows: Array) -> Observed:
    return Observed(*_picked(rows, observed.G, observed.t, observed.energy, observed.count))


def _first(observed: Observed, rows: int) -> Observed:
    return Observed(
        observed.G[:rows, ...], observed.t[:rows, :], observed.energy[:rows], observed.count[:rows]
    )


def _stretch(variances: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Λ₀^(−½)·(Λ₀^½·Λ·Λ₀^½)^½·Λ₀^(−½), Λ₀ diagonal; each in units of its own, whose product is a number."""
    units = float(np.max(variances)), float(np.max(np.diag(prior)))
    root = np.sqrt(variances / units[0])
    values, vectors = np.linalg.eigh(prior / units[1] * root * root[:, None])
    middle = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    return np.asarray(middle / root / root[:, None] * np.sqrt(units[1] / units[0]))


def rows_to_fit(samples: int, seed: int) -> np.ndarray:
    """The rows of the teacher that `fit_mixture` needs, ascending: all, or a random part of very many."""
    if samples <= MOST_ROWS:
        return np.arange(samples)
    return np.sort(np.random.default_rng(seed).choice(samples, MOST_ROWS, replace=False))


def fit_mixture(coordinates: np.ndarray, basis: Basis, seed: int = 0) -> Mixture:
    """The mixture of the teacher's coordinates (m, r), rows of U·diag(s); see `fit_gaussians`.

    They hold the noise of their rows, VᵀΨV, which is taken off each component's covariance again; no less
    than a hundredth of the noise is left in any direction.
    """
    found = fit_gaussians(np.asarray(coordinates, dtype=np.float64), seed)
    return Mixture(found.weights, found.means, _without_noise(found, basis), basis.prior)


def _without_noise(found: Gaussians, basis: Basis) -> np.ndarray:
    root = np.linalg.cholesky(basis.V.T @ (basis.noise[:, None] * basis.V))
    values, vectors = np.linalg.eigh(_whitened(found.covariances, root))
    left = root @ vectors * np.sqrt(np.maximum(values - 1, _LEAST_SHARE))[:, None, :]
    return _gram(left)


def _whitened(matrices: np.ndarray, root: np.ndarray) -> np.ndarray:
    """L⁻¹·S·L⁻ᵀ of each, symmetric."""
    half = np.linalg.solve(root, np.linalg.cholesky(matrices))
    return _gram(half)


def _gram(roots: np.ndarray) -> np.ndarray:
    return np.asarray(roots @ np.swapaxes(roots, 1, 2))
