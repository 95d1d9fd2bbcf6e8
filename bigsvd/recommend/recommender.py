"""`Recommender`: top items of users, of new users, and similar items, from factors of ratings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigsvd.chunks.buffers import ReadBuffers
from bigsvd.errors import MemoryBudgetError, RequestError, SourceChangedError
from bigsvd.recommend.ratings import ids_beside
from bigsvd.results.factors import Factors, open_factors
from bigsvd.slabs.sparse import SparseBlock
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source
from bigsvd.units import human_bytes

_BYTES_OF_A_SCORE = 24  # float64 of the product and of its copy as float32, places of the partition (int64)


@dataclass(frozen=True, eq=False)
class Top:
    """Items and scores of some users, best first, (users, n): -1 and -inf where fewer items were unseen."""

    items: np.ndarray
    scores: np.ndarray


class Recommender:
    """Scores U·s·Vᵀ of items for users; of new users with ratings r they are r·V·Vᵀ, without retraining.

    Args:
        factors: of ratings (users, items) that were neither centred nor scaled, or the path of such.
        seen: the ratings whose items are excluded, a path or `Source`; None for the source of the factors.
        users, items: their ids; None for those beside the source (AnnData's obs and var), else numbers.

    Attributes:
        predicted: what is said where no SVD has computed the factors; empty else.

    Raises:
        SourceError: `seen` is gone. SourceChangedError: it has another shape. RequestError: the factors are
            of centred, scaled or weighted data, or ids are of another number.

    """

    def __init__(
        self,
        factors: Factors | str | Path,
        seen: Any = None,
        *,
        users: Sequence[str] | None = None,
        items: Sequence[str] | None = None,
    ) -> None:
        self.factors = factors if isinstance(factors, Factors) else open_factors(factors)
        _refuse_changed_ratings(self.factors)
        path = self.factors.provenance["request"]["source"]
        self.seen = open_source(path if seen is None else seen)
        if self.seen.facts.shape != self.factors.shape:
            raise SourceChangedError(
                f"the factors are of {self.factors.shape} users and items, {self.seen.facts.name} has "
                f"{self.seen.facts.shape}",
                "give the ratings that they are of as seen",
            )
        self.users = _checked(users or ids_beside(path, 0), self.factors.shape[0], "users")
        self.items = _checked(items or ids_beside(path, 1), self.factors.shape[1], "items")
        self.item_factors = np.asarray(self.factors.Vt[:]).T.astype(np.float32)
        told = self.factors.predicted
        self.predicted = "" if told is None else told.short

    def user_factors(self, rows: slice) -> np.ndarray:
        """U·s of some users, (rows, k) float32: their products with `item_factors` (items, k) are scores."""
        U = np.asarray(self.factors.U[rows], np.float64)
        return np.asarray(U * self.factors.s, np.float32)

    def recommend(self, user: int | str, n: int = 10) -> Top:
        """The n best items that a user has not seen, by number or id; `RequestError` where there is none."""
        row = _place(user, self.users, self.factors.shape[0], "user")
        return self._of_rows(slice(row, row + 1), n)

    def fold_in(self, ratings: Any, n: int = 10) -> Top:
        """The n best items that new users with these ratings (r, items) have not rated: r·V·Vᵀ.

        `ratings` are a NumPy array, a matrix of SciPy or whatever `svd` opens.
        """
        source = open_source(ratings)
        shape, count = source.facts.shape, self.factors.shape[1]
        if shape[1] != count:
            raise RequestError(
                f"the new users have {shape[1]:,} items, the factors {count:,}", "reorder them"
            )
        rated = entries_of(source, slice(0, shape[0]))
        return self._best(np.asarray(rated @ self.item_factors), rated.nonzero(), n)

    def similar(self, item: int | str, n: int = 10) -> Top:
        """The n items most alike another by the cosine of rows of V·diag(s), itself left out; (1, n)."""
        row = _place(item, self.items, self.factors.shape[1], "item")
        scaled = self.item_factors * np.asarray(self.factors.s, np.float32)
        lengths = np.maximum(np.linalg.norm(scaled, axis=1), np.finfo(np.float32).tiny)
        alike = (scaled @ scaled[row] / lengths / lengths[row])[None]
        return top_of(alike, (np.zeros(1, int), np.array([row])), n)

    def blocks(self, n: int = 10, memory_bytes: int = 2**28) -> Iterator[tuple[slice, Top]]:
        """The best of all users, as many at a time as fit; `MemoryBudgetError` where not even one does."""
        users, items = self.factors.shape
        fixed, each = 2 * self.item_factors.nbytes, _BYTES_OF_A_SCORE * items
        most = (memory_bytes - fixed) // each
        if most < 1:
            raise MemoryBudgetError(
                f"a user's scores and the factors of {items:,} items need {human_bytes(fixed + each)}, the "
                f"budget is {human_bytes(memory_bytes)}",
                "raise --memory, or truncate the factors",
            )
        for start in range(0, users, most):
            rows = slice(start, min(users, start + most))
            yield rows, self._of_rows(rows, n)

    def write(self, out: str | Path, n: int = 10, memory_bytes: int = 2**28) -> None:
        """Write those of all users: Zarr arrays `items` (users, n) int32 and `scores` float32, as in `Top`.

        Attributes say which factors, and `predicted` where no SVD has computed these.
        """
        if Path(out).exists():
            raise RequestError(f"{out} exists", "give another path, or delete it")
        n = _checked_count(n, self.factors.shape[1])
        about = {"factors": str(self.factors.path), "predicted": self.predicted, "complete": False}
        group = zarr.create_group(str(out), attributes=about)
        shape = (self.factors.shape[0], n)
        chunks = (min(shape[0], 2**14), n)
        items = group.create_array("items", shape=shape, chunks=chunks, dtype="int32")
        scores = group.create_array("scores", shape=shape, chunks=chunks, dtype="float32")
        for rows, top in self.blocks(n, memory_bytes):
            items[rows], scores[rows] = top.items, top.scores
        group.attrs["complete"] = True

    def _of_rows(self, rows: slice, n: int) -> Top:
        return self._best(self.user_factors(rows), entries_of(self.seen, rows).nonzero(), n)

    def _best(self, users: np.ndarray, seen: tuple[np.ndarray, np.ndarray], n: int) -> Top:
        return top_of(users.astype(np.float32) @ self.item_factors.T, seen, n)


def entries_of(source: Source, rows: slice) -> Any:
    """Ratings of some users, as a matrix of SciPy or an array."""
    block = source.fresh().block(rows, slice(0, source.facts.shape[1]), ReadBuffers())
    if isinstance(block, SparseBlock):
        return block.matrix.tocsr()
    return np.nan_to_num(np.asarray(block.rows(slice(None))))


def top_of(scores: np.ndarray, left_out: tuple[np.ndarray, np.ndarray], n: int) -> Top:
    """The n best of each row, those of equal scores by number; `scores` is written into."""
    n = _checked_count(n, scores.shape[1])
    scores[left_out] = -np.inf
    found = np.sort(np.argpartition(scores, -n, axis=1)[:, -n:], axis=1)
    best = np.take_along_axis(scores, found, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    items = np.take_along_axis(found, order, axis=1).astype(np.int32)
    items[np.isneginf(best)] = -1
    return Top(items, best)


def _checked_count(n: int, most: int) -> int:
    if not 1 <= n <= most:
        raise RequestError(f"n is {n}, there are {most} items", f"give n of 1 to {most}")
    return n


def _place(given: int | str, ids: Sequence[str] | None, length: int, what: str) -> int:
    """The number of a user or item; an id where there are ids."""
    if ids is not None and isinstance(given, str):
        if given not in ids:
            raise RequestError(f"no {what} of {length:,} has the id {given!r}", f"the first is {ids[0]!r}")
        return ids.index(given)
    if not str(given).isdecimal() or int(given) >= length:
        raise RequestError(f"{what} {given} is not one of {length:,}", f"give one of 0 to {length - 1}")
    return int(given)


def _checked(ids: Sequence[str] | None, length: int, what: str) -> Sequence[str] | None:
    if ids is not None and len(ids) != length:
        raise RequestError(f"there are {len(ids):,} ids of {length:,} {what}", "give an id for each")
    return ids


def _refuse_changed_ratings(factors: Factors) -> None:
    """`RequestError` unless a product with V gives scores as they are."""
    changed = [name for name in ("mean", "scale", "weights") if getattr(factors, name) is not None]
    if changed or factors.samples_axis != 0:
        what = ", ".join(changed) or "samples that are columns"
        raise RequestError(f"the factors have {what}", "decompose ratings (users, items) without these")
