"""Compress a trained network: each matrix of weights W is replaced by the two factors of its truncated SVD.

W (in, out) ≈ (U·diag(s))·Vt takes k·(in + out) numbers instead of in·out: a layer becomes two thinner ones.
    pip install . scikit-learn && python examples/compress_network.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import bigsvd

RANKS = (64, 32, 16, 8, 4)


def compressed(weights: np.ndarray, k: int) -> list[np.ndarray]:
    """The factors of W at rank k, or W itself where these would be no smaller."""
    if k * sum(weights.shape) >= weights.size:
        return [weights]
    U, s, Vt = bigsvd.svd(weights, k)
    return [np.asarray(U) * s, np.asarray(Vt)]


def accuracy(layers: list[list[np.ndarray]], biases: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    """The share of pictures that the network names rightly; a layer multiplies by all its factors in turn."""
    for number, (factors, bias) in enumerate(zip(layers, biases, strict=True)):
        x = np.maximum(x, 0) if number else x
        for factor in factors:
            x = x @ factor
        x = x + bias
    return float(np.mean(np.argmax(x, axis=1) == y))


def main() -> None:
    """Train, then print accuracy on unseen pictures against bytes, by rank."""
    pictures, digits = load_digits(return_X_y=True)
    pictures = pictures.astype(np.float32) / 16
    network = MLPClassifier((256, 256), random_state=0, early_stopping=True).fit(
        pictures[:1300], digits[:1300]
    )
    print(f"{'k':>5} {'bytes':>9} accuracy")
    for k in (max(map(min, (weights.shape for weights in network.coefs_))), *RANKS):
        layers = [compressed(weights, k) for weights in network.coefs_]
        size = sum(factor.nbytes for factors in layers for factor in factors)
        right = accuracy(layers, network.intercepts_, pictures[1300:], digits[1300:])
        print(f"{k:>5} {size:>9,} {right:.3f}")


if __name__ == "__main__":
    main()
