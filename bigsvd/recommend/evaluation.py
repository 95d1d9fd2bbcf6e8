"""PureSVD of several ranks beside TopPopular and EASE, on ratings of which some were hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bigsvd.errors import MemoryBudgetError, RankError
from bigsvd.recommend.measures import Scores, measured
from bigsvd.recommend.recommender import entries_of, top_of
from bigsvd.slabs.sparse import scipy_sparse
from bigsvd.solve import svd
from bigsvd.sources.open import open_source
from bigsvd.units import human_bytes


@dataclass(frozen=True)
class Evaluation:
    """`rows`: scores by what recommended. users: those that have hidden items. hidden: all of these."""

    rows: dict[str, Scores]
    n: int
    users: int
    hidden: int

    @property
    def text(self) -> str:
        """A table."""
        head = f"{self.users:,} users, {self.hidden:,} hidden items, all items ranked that were not seen"
        lines = [f"{'':16}{f'PREC@{self.n}':>9}{f'REC@{self.n}':>9}{f'nDCG@{self.n}':>9}"]
        for name, row in self.rows.items():
            lines.append(f"{name:16}{row.precision:9.3f}{row.recall:9.3f}{row.ndcg:9.3f}")
        return "\n".join([head, *lines])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def evaluate(
    ratings: Any,
    ks: Sequence[int] = (5, 13, 20, 50),
    *,
    holdout: float = 0.2,
    seed: int = 0,
    n: int = 10,
    ease: float = 200.0,
    memory_bytes: int = 2**30,
) -> Evaluation:
    """Hide items of each user, recommend n of all items not left, and score TopPopular, PureSVD and EASE.

    Of a user with c items round(holdout·c), drawn at random by `seed`, are hidden. One SVD, of the largest k,
    is truncated to the others. EASE (Steck 2019, eq. 8) with λ = `ease` takes any rating as 1; PureSVD takes
    ratings as they are. Metrics: see `Scores`. Memory: ratings in memory, and dense scores.

    Raises:
        MemoryBudgetError: dense scores (users, items) or EASE's Gram matrix (items, items) do not fit.
        RankError: a k is not in 1..min(users, items).

    """
    source = open_source(ratings)
    users, items = source.facts.shape
    _refuse_large(users, items, memory_bytes)
    if not all(1 <= k <= min(users, items) for k in ks):
        raise RankError(f"k of {max(ks)} for {users:,} x {items:,} ratings", "give ranks of 1 to the lesser")
    whole = scipy_sparse().csr_matrix(entries_of(source, slice(0, users)))
    whole.eliminate_zeros()
    taken = _hidden(whole, holdout, seed)
    train, gone = whole.copy(), whole.copy()
    train.data[taken], gone.data[~taken] = 0, 0
    train.eliminate_zeros()
    hidden = gone.toarray() != 0
    seen = train.nonzero()

    def scored(values: np.ndarray) -> Scores:
        return measured(top_of(values.astype(np.float32), seen, n).items, hidden)

    rows = {"TopPopular": scored(np.tile(np.bincount(seen[1], minlength=items), (users, 1)))}
    rows |= _by_svd(train, ks, scored)
    rows["EASE"] = scored(_ease(train, ease))
    return Evaluation(rows, n, int(hidden.any(axis=1).sum()), int(hidden.sum()))


def _by_svd(train: Any, ks: Sequence[int], scored: Callable[[np.ndarray], Scores]) -> dict[str, Scores]:
    factors = svd(train.astype(np.float32), max(ks))
    V = np.asarray(factors.Vt[:]).T
    return {f"PureSVD k={k}": scored((train @ V[:, :k]) @ V[:, :k].T) for k in sorted(ks)}


def _ease(train: Any, penalty: float) -> np.ndarray:
    """X·B with B = I − P·diag(1/diag P), P = (XᵀX + λI)⁻¹."""
    X = (train != 0).astype(np.float64)
    gram = np.asarray((X.T @ X).todense())
    gram[np.diag_indices_from(gram)] += penalty
    P = np.linalg.inv(gram)
    B = -P / np.diag(P)
    np.fill_diagonal(B, 0)
    return np.asarray(X @ B)


def _hidden(matrix: Any, holdout: float, seed: int) -> np.ndarray:
    """Which of the entries that a matrix in CSR form stores are hidden."""
    random, taken = np.random.default_rng(seed), np.zeros(matrix.nnz, dtype=bool)
    for start, stop in zip(matrix.indptr, matrix.indptr[1:], strict=False):
        count = round(holdout * (stop - start))
        taken[start + random.permutation(stop - start)[:count]] = True
    return taken


def _refuse_large(users: int, items: int, memory_bytes: int) -> None:
    needs = 24 * users * items + 32 * items * items
    if needs > memory_bytes:
        raise MemoryBudgetError(
            f"scores of {users:,} users and EASE of {items:,} items need {human_bytes(needs)}, the budget is "
            f"{human_bytes(memory_bytes)}",
            "raise --memory, or evaluate fewer users and items",
        )
