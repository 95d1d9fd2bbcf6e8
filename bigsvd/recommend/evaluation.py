"""PureSVD of several ranks beside TopPopular and EASE, on ratings of which some were hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bigsvd.errors import MemoryBudgetError, RankError, RequestError
from bigsvd.recommend.measures import Scores, measured
from bigsvd.recommend.ratings import Ratings
from bigsvd.recommend.top import Top, check_count, pieces
from bigsvd.request import Request
from bigsvd.slabs.sparse import scipy_sparse
from bigsvd.solve import svd
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from bigsvd.units import human_bytes

_PURE = "PureSVD k="
_BYTES_OF_A_SCORE = 32  # float64 of the product, its copy as float32, and what selects the best
_COPIES_OF_GRAM = 4  # the matrix, its inverse, and what LAPACK takes for it


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

    @property
    def by_rank(self) -> dict[int, float]:
        """The nDCG of PureSVD by k."""
        ranks = {name.removeprefix(_PURE): row.ndcg for name, row in self.rows.items() if _PURE in name}
        return {int(k): ndcg for k, ndcg in ranks.items()}

    @property
    def beside(self) -> dict[str, float]:
        """The nDCG of the others."""
        return {name: row.ndcg for name, row in self.rows.items() if _PURE not in name}

    def plot(self, path: str | Path) -> None:
        """Write a PNG: nDCG of PureSVD by k, with a line for each of the others; see `write_gains`."""
        from bigsvd.report.gains import write_gains  # noqa: PLC0415 - imports matplotlib

        write_gains(self.by_rank, self.beside, path, label=f"nDCG@{self.n}")

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Split:
    """Ratings in CSR form of which some were hidden.

    Attributes:
        train, hidden: (users, items), without entries that are 0. n: how many items are recommended.
        memory_bytes: of dense scores and matrices.

    """

    train: Any
    hidden: Any
    n: int
    memory_bytes: int

    def scored(self, score: Callable[[Any], np.ndarray]) -> Scores:
        """Of what gives users' scores (r, items) for their rows of the training matrix."""
        users, items = self.train.shape
        at_once = int(max(1, self.memory_bytes // (_BYTES_OF_A_SCORE * items)))
        parts = [self._best(self.train[rows], score) for rows in pieces(users, at_once)]
        return measured(Top.joined(parts).items, self.hidden)

    def _best(self, rows: Any, score: Callable[[Any], np.ndarray]) -> Top:
        scores = np.array(score(rows), np.float32)
        scores[rows.nonzero()] = -np.inf
        return Top.nothing(len(scores), self.n).with_more(scores)


def evaluate(
    ratings: Any,
    ks: Sequence[int] = (5, 13, 20, 50),
    *,
    holdout: float = 0.2,
    seed: int = 0,
    n: int = 10,
    ease: float | None = 200.0,
    memory_bytes: int = 2**30,
) -> Evaluation:
    """Hide items of each user, recommend n of all items not left, and score TopPopular, PureSVD and EASE.

    Of a user with c items round(holdout·c), drawn at random by `seed`, are hidden. One SVD, of the largest k,
    is truncated to the others. EASE (Steck 2019, eq. 8) with λ = `ease`, None to leave it out, takes any
    rating as 1; PureSVD takes ratings as they are. Metrics: see `Scores`. `memory_bytes` are for scores and
    EASE, beside the ratings, which are held in memory.

    Raises:
        MemoryBudgetError: EASE's matrix (items, items) or the scores of one user do not fit.
        RankError: a k is not in 1..min(users, items), or there is none. RequestError: n is not in 1..items,
            `holdout` not between 0 and 1, `ease` not positive, or no user has items enough for any to be
            hidden.

    """
    _refuse_outside("holdout", holdout, 1.0)
    _refuse_outside("ease", 1.0 if ease is None else ease, np.inf)
    source = open_source(ratings)
    users, items = source.facts.shape
    _refuse_large(items, ease, memory_bytes)
    if not ks or not all(1 <= k <= min(users, items) for k in ks):
        raise RankError(
            f"k of {list(ks)} for {users:,} x {items:,} ratings", f"give 1 to {min(users, items)}"
        )
    check_count(n, items)
    split = _split(source, holdout, seed, n, memory_bytes)
    if not split.hidden.nnz:
        raise RequestError(
            f"of {split.train.nnz:,} ratings of {users:,} users none are hidden at holdout={holdout:g}",
            "raise holdout",
        )
    popular = np.bincount(split.train.indices, minlength=items)
    rows = {"TopPopular": split.scored(lambda part: np.tile(popular, (part.shape[0], 1)))}
    rows |= _by_svd(split, ks)
    if ease is not None:
        B = _ease(split.train, ease)
        rows["EASE"] = split.scored(lambda part: (part != 0).astype(np.float32) @ B)
    counts = np.diff(split.hidden.indptr)
    return Evaluation(rows, n, int(np.count_nonzero(counts)), int(counts.sum()))


def _by_svd(split: _Split, ks: Sequence[int]) -> dict[str, Scores]:
    train = split.train.astype(np.float32)
    V = np.asarray(svd(train, max(ks)).Vt[:]).T
    return {f"{_PURE}{k}": split.scored(partial(_pure, V[:, :k])) for k in sorted(ks)}


def _pure(V: np.ndarray, rows: Any) -> np.ndarray:
    return np.asarray((rows @ V) @ V.T)


def _ease(train: Any, penalty: float) -> np.ndarray:
    """B = I − P·diag(1/diag P), P = (XᵀX + λI)⁻¹, as float32."""
    X = (train != 0).astype(np.float64)
    gram = (X.T @ X).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    P = np.linalg.inv(gram)
    P /= -np.diag(P).copy()
    np.fill_diagonal(P, 0)
    return P.astype(np.float32)


def _split(source: Source, holdout: float, seed: int, n: int, memory_bytes: int) -> _Split:
    given = Ratings.of(source, Request.of(source.facts.name, 1, missing="zero"))
    whole = scipy_sparse().csr_matrix(given.entries(slice(0, given.shape[0])))
    whole.eliminate_zeros()
    taken = _hidden(whole, holdout, seed)
    train, hidden = whole.copy(), whole.copy()
    train.data[taken], hidden.data[~taken] = 0, 0
    train.eliminate_zeros()
    hidden.eliminate_zeros()
    return _Split(train, hidden, n, memory_bytes)


def _hidden(matrix: Any, holdout: float, seed: int) -> np.ndarray:
    """Which of the entries that a matrix in CSR form stores are hidden."""
    random, taken = np.random.default_rng(seed), np.zeros(matrix.nnz, dtype=bool)
    for start, stop in zip(matrix.indptr, matrix.indptr[1:], strict=False):
        count = round(holdout * (stop - start))
        taken[start + random.permutation(stop - start)[:count]] = True
    return taken


def _refuse_outside(name: str, value: float, most: float) -> None:
    if not 0 < value < most:
        raise RequestError(f"{name}={value!r} is not between 0 and {most:g}", f"give {name} between these")


def _refuse_large(items: int, ease: float | None, memory_bytes: int) -> None:
    gram = _COPIES_OF_GRAM * 8 * items * items * (ease is not None)
    if gram > memory_bytes:
        raise MemoryBudgetError(
            f"EASE of {items:,} items needs {human_bytes(gram)} for their Gram matrix and its inverse, the "
            f"budget is {human_bytes(memory_bytes)}",
            "leave it out (--no-ease), raise --memory, or evaluate fewer items",
        )
    one = _BYTES_OF_A_SCORE * items
    if one > memory_bytes:
        raise MemoryBudgetError(
            f"the scores of a user for {items:,} items need {human_bytes(one)}, the budget is "
            f"{human_bytes(memory_bytes)}",
            "raise --memory",
        )
