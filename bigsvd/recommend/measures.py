"""Precision, recall and nDCG of recommended items, among all items that were not seen in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


def measured(items: np.ndarray, hidden: Any) -> Scores:
    """Of items (users, n), -1 for none, and hidden ones: a matrix of SciPy in CSR form (users, all items)."""
    counts = np.diff(hidden.indptr)
    counted = counts > 0
    rows, n = np.arange(len(items))[:, np.newaxis], items.shape[1]
    hits = (np.asarray(hidden[rows, items].todense()) != 0) & (items >= 0)
    hits, counts = hits[counted], counts[counted]
    gains = 1 / np.log2(2 + np.arange(n))
    ideal = np.cumsum(gains)[np.minimum(counts, n) - 1]
    return Scores(
        precision=float(hits.mean()),
        recall=float((hits.sum(axis=1) / counts).mean()),
        ndcg=float((hits @ gains / ideal).mean()),
    )
