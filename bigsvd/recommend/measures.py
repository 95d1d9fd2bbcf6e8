"""Precision, recall and nDCG of recommended items, among all items that were not seen in training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Means over the users that have hidden items; n items are recommended to each, hits are hidden ones.

    Attributes:
        precision: hits / n.
        recall: hits / hidden items.
        ndcg: Σ over hits 1/log2(1 + place) / Σ over place = 1..min(n, hidden items) 1/log2(1 + place).

    """

    precision: float
    recall: float
    ndcg: float


def measured(items: np.ndarray, hidden: np.ndarray) -> Scores:
    """Of items (users, n), -1 for none, and truth values (users, all items)."""
    counts = hidden.sum(axis=1)
    items, hidden, counts = items[counts > 0], hidden[counts > 0], counts[counts > 0]
    hits = np.take_along_axis(hidden, items, axis=1) & (items >= 0)
    n = items.shape[1]
    gains = 1 / np.log2(2 + np.arange(n))
    ideal = np.cumsum(gains)[np.minimum(counts, n) - 1]
    return Scores(
        precision=float(hits.mean()),
        recall=float((hits.sum(axis=1) / counts).mean()),
        ndcg=float((hits @ gains / ideal).mean()),
    )
