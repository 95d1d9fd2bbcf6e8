"""`svd-accuracy`: the same network, trained on pictures as they are, and on what an SVD leaves of them.

A network of one hidden layer learns to name handwritten digits. Its training and its test pictures are both
noisy. In each experiment everything but the treatment of the pictures is the same: the network, its initial
weights, the order of the batches, the pictures, their labels and their noise. The treatment is found on the
training pictures alone (all of them, also those whose labels the network is not shown), and applied to the
test pictures, one by one. Ranks and weight decay are chosen by the accuracy on labelled training pictures
that the network did not learn from, never on test pictures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import bigsvd
from benchmarks.accuracy_data import Digits, labelled_digits, small_digits
from benchmarks.machine import provenance

NOISES = (0.0, 0.5, 1.0)
TREATMENTS = ("raw", "truncated", "shrunk", "random", "decayed")
USUAL_DECAY = 1e-4  # of MLPClassifier


@dataclass(frozen=True)
class Labels:
    """How many pictures the network is shown with their labels, and how it learns from them.

    Attributes:
        count: labelled pictures. epochs: passes of the network over them.
        folds: how many times a fifth of them is set aside to choose a rank by; fewer where there are many.

    """

    count: int
    epochs: int
    folds: int


@dataclass(frozen=True)
class Size:
    """One lane: which digits, how many of them train, and which ranks and decays are tried."""

    digits: Callable[[], Digits]
    training: int
    labels: tuple[Labels, ...]
    ranks: tuple[int, ...]
    decays: tuple[float, ...]
    hidden: int = 128
    batch: int = 50


SIZES = {
    "tiny": Size(small_digits, 1_300, (Labels(200, 30, 1),), (8, 20), (USUAL_DECAY, 1.0), hidden=32),
    "full": Size(
        labelled_digits,
        4_000,
        (Labels(300, 60, 2), Labels(4_000, 15, 1)),
        (5, 10, 20, 40, 80),
        (USUAL_DECAY, 1e-1, 1.0, 10.0),
    ),
}


@dataclass(frozen=True, eq=False)
class Pictures:
    """Noisy pictures, (m, n) training and (p, n) test, float32, and the mean of the training pictures."""

    training: np.ndarray
    test: np.ndarray

    @cached_property
    def mean(self) -> np.ndarray:
        """(n,)"""
        found: np.ndarray = self.training.mean(axis=0)
        return found

    def within(self, basis: np.ndarray, factors: np.ndarray | float = 1.0) -> Pictures:
        """Each picture x as mean + W·diag(factors)·Wᵀ(x − mean), for the orthonormal columns of W (n, k)."""
        back = np.asarray(factors * basis, dtype=np.float32).T
        training, test = (
            self.mean + (rows - self.mean) @ basis @ back for rows in (self.training, self.test)
        )
        return Pictures(training, test)


@dataclass(frozen=True, eq=False)
class Spectral:
    """The SVD of the centred training pictures: V (n, K), s (K,), and the variance of a pixel's noise."""

    V: np.ndarray
    s: np.ndarray
    noise: float
    samples: int

    @classmethod
    def of(cls, pictures: Pictures, rank: int) -> Spectral:
        """By bigsvd; the noise is what the first `rank` components leave, by degree of freedom."""
        factors = bigsvd.svd(pictures.training, rank, center=True)
        m, n = pictures.training.shape
        total = float(np.square(pictures.training - pictures.mean, dtype=np.float64).sum())
        left = max(0.0, total - float(np.sum(np.square(factors.s, dtype=np.float64))))
        V = np.asarray(factors.Vt, dtype=np.float32).T
        return cls(V, np.asarray(factors.s, dtype=np.float64), left / ((m - rank) * (n - rank)), m)

    def shrinkage(self) -> np.ndarray:
        """η(s)/s (K,), the optimal shrinkage for the Frobenius norm (Gavish & Donoho 2017, eq. 7)."""
        if self.noise == 0:
            return np.ones(len(self.s))
        aspect = len(self.V) / self.samples
        y = np.square(self.s) / (self.noise * self.samples)
        inside = np.square(y - aspect - 1) - 4 * aspect
        kept = np.where(y > (1 + np.sqrt(aspect)) ** 2, np.sqrt(np.maximum(inside, 0)) / y, 0.0)
        return np.asarray(kept)


@dataclass(frozen=True, eq=False)
class Experiment:
    """One seed, noise and number of labels: noisy pictures, and the digits that they were made of."""

    pictures: Pictures
    digits: Digits
    size: Size
    labels: Labels
    seed: int

    @property
    def shown(self) -> np.ndarray:
        """Numbers of the labelled training pictures; they are shuffled already."""
        return np.arange(self.labels.count)

    def folds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Labelled pictures to learn from, and a fifth of them to choose by."""
        fifths = np.array_split(self.shown, 5)
        for held in fifths[: self.labels.folds]:
            yield np.setdiff1d(self.shown, held), held

    def validated(self, pictures: Pictures, decay: float = USUAL_DECAY) -> float:
        """Accuracy on labelled training pictures that were set aside; the mean of the folds."""
        found = []
        for learnt, held in self.folds():
            network = self.learnt(pictures, learnt, decay)
            found.append(network.score(pictures.training[held], self.digits.names[held]))
        return float(np.mean(found))

    def best(self, treated: Sequence[Pictures]) -> int:
        """Which of some treatments gives the best accuracy on what was set aside."""
        return int(np.argmax([self.validated(pictures) for pictures in treated]))

    def tested(self, pictures: Pictures, decay: float = USUAL_DECAY) -> float:
        """Accuracy on the test pictures of a network that learns from all labelled ones."""
        names = self.digits.names[self.size.training :]
        return float(self.learnt(pictures, self.shown, decay).score(pictures.test, names))

    def error(self, pictures: Pictures) -> float:
        """‖X − Y‖_F from the training pictures without noise Y."""
        return float(np.linalg.norm(pictures.training - self.digits.pictures[: self.size.training]))

    def learnt(self, pictures: Pictures, some: np.ndarray, decay: float) -> MLPClassifier:
        """The network that learns from some of the training pictures.

        Of one seed its initial weights and the order of the batches are always the same.
        """
        network = MLPClassifier(
            (self.size.hidden,),
            alpha=decay,
            batch_size=self.size.batch,
            max_iter=self.labels.epochs,
            n_iter_no_change=self.labels.epochs,
            random_state=self.seed,
        )
        with warnings.catch_warnings():  # that it ends after its epochs is meant so
            warnings.simplefilter("ignore", ConvergenceWarning)
            return network.fit(pictures.training[some], self.digits.names[some])


def run_accuracy(size: Size, seeds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Every noise and number of labels, by seed; each row holds the accuracies of one experiment."""
    measured_with = provenance()
    digits = size.digits()
    rows = []
    for seed in range(seeds):
        for noise in NOISES:
            shuffled = digits.shuffled(seed)
            pictures = noisy(shuffled, size.training, noise, seed)
            spectral = Spectral.of(pictures, max(size.ranks))
            for labels in size.labels:
                experiment = Experiment(pictures, shuffled, size, labels, seed)
                found = compare(experiment, spectral)
                rows.append({"seed": seed, "noise": noise, "labels": labels.count, **found})
                shown = ", ".join(f"{name} {found[name]:.3f}" for name in TREATMENTS)
                tell(f"seed {seed}, noise {noise:g}, {labels.count} labels: {shown}")
    parameters = {
        **{name: getattr(size, name) for name in ("training", "ranks", "decays", "hidden", "batch")},
        "labels": [asdict(labels) for labels in size.labels],
        "noises": NOISES,
        "seeds": seeds,
        "origin": digits.origin,
        "pixels": digits.pictures.shape[1],
        "test": len(digits.pictures) - size.training,
    }
    return {**measured_with, "parameters": parameters, "rows": rows}


def noisy(digits: Digits, training: int, noise: float, seed: int) -> Pictures:
    """With normal noise of this standard deviation added to every pixel, whose range is 0 to 1.

    Of one seed the noise is the same but for its size.
    """
    drawn = np.random.default_rng((seed, 1)).standard_normal(digits.pictures.shape, dtype=np.float32)
    rows = digits.pictures + np.float32(noise) * drawn
    return Pictures(rows[:training], rows[training:])


def compare(experiment: Experiment, spectral: Spectral) -> dict[str, Any]:
    """Accuracy by treatment, each with the rank or decay that was chosen for it, and by every rank."""
    pictures, size = experiment.pictures, experiment.size
    factors = spectral.shrinkage()
    truncated = [pictures.within(spectral.V[:, :k]) for k in size.ranks]
    shrunk = [pictures.within(spectral.V[:, :k], factors[:k]) for k in size.ranks]
    best, best_shrunk = experiment.best(truncated), experiment.best(shrunk)
    rank = size.ranks[best]
    decay = size.decays[int(np.argmax([experiment.validated(pictures, each) for each in size.decays]))]
    by_rank = [experiment.tested(each) for each in truncated]
    return {
        "raw": experiment.tested(pictures),
        "truncated": by_rank[best],
        "shrunk": experiment.tested(shrunk[best_shrunk]),
        "random": experiment.tested(pictures.within(random_basis(len(spectral.V), rank, experiment.seed))),
        "decayed": experiment.tested(pictures, decay),
        "rank": rank,
        "rank_shrunk": size.ranks[best_shrunk],
        "rank_of_least_error": size.ranks[int(np.argmin([experiment.error(each) for each in truncated]))],
        "decay": decay,
        "by_rank": by_rank,
    }


def random_basis(pixels: int, rank: int, seed: int) -> np.ndarray:
    """Orthonormal columns (pixels, rank) that know nothing of the pictures."""
    drawn = np.random.default_rng((seed, 2)).standard_normal((pixels, rank))
    basis, _ = np.linalg.qr(drawn)
    return basis.astype(np.float32)
