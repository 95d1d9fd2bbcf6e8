"""How many components of noisy digits to keep: as many as tell unseen ones apart best.

pip install ".[sklearn]" && python examples/choose_k.py
bigsvd rank digits.factors --score examples/choose_k.py:accuracy --plot choose_k.png
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import bigsvd

LEARNT = 300  # digits whose labels are known; the others are there without
pictures, digits = load_digits(return_X_y=True)


def accuracy(factors):
    """The share of the other digits that their nearest neighbours among the first name rightly."""
    scores = factors.scores
    nearest = KNeighborsClassifier(5).fit(scores[:LEARNT], digits[:LEARNT])
    return nearest.score(scores[LEARNT:], digits[LEARNT:])


if __name__ == "__main__":
    noisy = pictures / 16 + np.random.default_rng(0).normal(0, 0.3, pictures.shape)
    factors = bigsvd.svd(noisy, 64, "digits.factors", center=True, overwrite=True)
    for k, found in factors.rank_by(accuracy).by_k.items():
        print(f"k = {k:2}  relative error {factors.truncate(k).certificate.relative_error:.3f}  {found:.3f}")
