"""`Recommender`: top items of users, of new users, and similar items, from factors of ratings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigsvd.errors import MemoryBudgetError, RequestError, SourceChangedError
from bigsvd.recommend.ratings import Ratings, ids_beside
from bigsvd.recommend.top import TILE_BYTES, TILE_ITEMS, TILE_USERS, Top, check_count, pieces, top_of_products
from bigsvd.request import Request
from bigsvd.results.factors import Factors, open_factors
from bigsvd.units import human_bytes

_BLOCK_USERS = 2**14  # whose factors, seen items and answer are held at once, at most
_DENSE_USERS = 64  # new users whose ratings are dense at once
_ANSWER_BYTES = 32  # of an item of an answer: its number and score, and both again while they are joined


class Recommender:
    """Scores U·s·Vᵀ of items for users; of new users with ratings r they are r·V·Vᵀ, without retraining.

    Where ratings were centred or scaled this is what is reconstructed of them: (U·s·Vᵀ)·scale + mean.

    Args:
        factors: of ratings (users, items), or the path of such.
        seen: the ratings whose items are excluded, whatever `svd` opens; None for the source of the factors.
        users, items: their ids; None for those beside the source (AnnData's obs and var), else numbers.

    Attributes:
        item_factors: (items, k) float32, or k + 1 where there are means: its products with those of users
            are scores.
        predicted: what is said where no SVD has computed the factors; empty else.

    Raises:
        SourceError: `seen` is gone. SourceChangedError: it has another shape. RequestError: the factors are
            of weighted or packed data or of samples that are columns, of data in memory without `seen`, or
            ids are of another number.

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
        _refuse_what_gives_no_scores(self.factors)
        self._request = Request.from_dict(self.factors.provenance["request"])
        path = self._request.source
        if seen is None and path.startswith("<"):
            raise RequestError(f"the factors are of {path}, which was in memory", "give it as seen")
        self.seen = Ratings.of(path if seen is None else seen, self._request)
        if self.seen.shape != self.factors.shape:
            raise SourceChangedError(
                f"the factors are of {self.factors.shape} users and items, {self.seen.name} has "
                f"{self.seen.shape}",
                "give the ratings that they are of as seen",
            )
        self.users = _checked(_ids(users, self.factors, 0), self.factors.shape[0], "users")
        self.items = _checked(_ids(items, self.factors, 1), self.factors.shape[1], "items")
        self.item_factors = _item_factors(self.factors)
        told = self.factors.predicted
        self.predicted = "" if told is None else told.short

    def user_factors(self, rows: slice) -> np.ndarray:
        """U·s of some users, (rows, k) float32, with a column of ones where `item_factors` has means."""
        U = np.asarray(self.factors.U[rows], np.float64)
        return self._beside_means(U * self.factors.s)

    def recommend(self, user: int | str, n: int = 10) -> Top:
        """The n best items that a user has not seen, by number or id; `RequestError` where there is none."""
        return self._of_row(_place(user, self.users, self.factors.shape[0], "user"), n)

    def fold_in(self, ratings: Any, n: int = 10) -> Top:
        """The n best items that new users with these ratings (r, items) have not rated: r·V·Vᵀ.

        `ratings` are a NumPy array, a matrix of SciPy or whatever `svd` opens; see `Factors.project`. They
        have a column for each item of the factors, in their order: ids beside them have to be the same.
        """
        _refuse_other_items(ratings, self.items)
        new = Ratings.of(ratings, replace(self._request, rows=None))
        count = self.factors.shape[1]
        if new.shape[1] != count:
            raise RequestError(
                f"the new users have {new.shape[1]:,} items, the factors {count:,}",
                "give a column for each item of the factors, in their order",
            )
        parts = [self._folded(new, rows, n) for rows in pieces(new.shape[0], _DENSE_USERS)]
        return Top.joined(parts)

    def similar(self, item: int | str, n: int = 10) -> Top:
        """The n items most alike another by the cosine of rows of V·diag(s), itself left out; (1, n)."""
        row = _place(item, self.items, self.factors.shape[1], "item")
        scaled = self.item_factors[:, : self.factors.k] * np.asarray(self.factors.s, np.float32)
        lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
        scaled /= np.maximum(lengths, np.finfo(np.float32).tiny)
        itself = np.arange(len(scaled))[np.newaxis] == row
        return top_of_products(scaled[row : row + 1], scaled, itself, n)

    def blocks(self, n: int = 10, memory_bytes: int = 2**28) -> Iterator[tuple[slice, Top]]:
        """The best of all users, as many at a time as fit; `MemoryBudgetError` where not even one does."""
        for rows in pieces(self.factors.shape[0], self._users_at_once(n, memory_bytes)):
            yield rows, self._of_rows(rows, n)

    def write(self, out: str | Path, n: int = 10, memory_bytes: int = 2**28) -> None:
        """Write those of all users: Zarr arrays `items` (users, n) int32 and `scores` float32, as in `Top`.

        Attributes say which factors, and `predicted` where no SVD has computed these; `complete` is true at
        last.
        """
        if Path(out).exists():
            raise RequestError(f"{out} exists", "give another path, or delete it")
        check_count(n, self.factors.shape[1])
        shape, chunks = (self.factors.shape[0], n), (self._users_at_once(n, memory_bytes), n)
        about = {"factors": str(self.factors.path), "predicted": self.predicted, "complete": False}
        group = zarr.create_group(str(out), attributes=about)
        items = group.create_array("items", shape=shape, chunks=chunks, dtype="int32")
        scores = group.create_array("scores", shape=shape, chunks=chunks, dtype="float32")
        for rows, top in self.blocks(n, memory_bytes):
            items[rows], scores[rows] = top.items, top.scores
        group.attrs["complete"] = True

    def _users_at_once(self, n: int, memory_bytes: int) -> int:
        """How many fit beside the scores of a tile, which are those of `TILE_USERS` of them at most."""
        users, items = self.factors.shape
        U_chunk = self.factors.U.chunks[0] * self.factors.k * 4
        fixed = 2 * self.item_factors.nbytes + 2 * U_chunk + self.seen.fixed_bytes
        each = self.seen.bytes_of_user + 24 * self.item_factors.shape[1] + _ANSWER_BYTES * n
        in_tile = TILE_BYTES // (TILE_USERS * TILE_ITEMS) * min(items, TILE_ITEMS)
        room = memory_bytes - fixed
        count = max(min(room // (each + in_tile), TILE_USERS), (room - TILE_USERS * in_tile) // each)
        if count < 1:
            raise MemoryBudgetError(
                f"the factors of {items:,} items and the scores of one user need "
                f"{human_bytes(fixed + each + in_tile)}, the budget is {human_bytes(memory_bytes)}",
                "raise --memory, or truncate the factors",
            )
        return int(min(count, _BLOCK_USERS, users))

    def _of_row(self, row: int, n: int) -> Top:
        return self._of_rows(slice(row, row + 1), n)

    def _of_rows(self, rows: slice, n: int) -> Top:
        return top_of_products(self.user_factors(rows), self.item_factors, self.seen.entries(rows), n)

    def _folded(self, new: Ratings, rows: slice, n: int) -> Top:
        rated = new.entries(rows)
        at = self.factors.project(new.dense(rows))
        if np.isnan(at).any():
            raise RequestError("ratings of the new users are NaN, those of the factors were not", "give 0")
        return top_of_products(self._beside_means(at), self.item_factors, rated, n)

    def _beside_means(self, coordinates: np.ndarray) -> np.ndarray:
        ones = np.ones((len(coordinates), self.item_factors.shape[1] - self.factors.k))
        return np.hstack([coordinates, ones]).astype(np.float32)


def _refuse_other_items(ratings: Any, known: Sequence[str] | None) -> None:
    """`RequestError` where the ids beside new ratings are not those of the factors, one by one."""
    found = ids_beside(str(ratings), 1) if isinstance(ratings, (str, Path)) else None
    if found is None or known is None or len(found) != len(known):
        return
    differ = [column for column, (new, old) in enumerate(zip(found, known, strict=True)) if new != old]
    if differ:
        raise RequestError(
            f"{len(differ):,} of {len(found):,} items of {ratings} are others than those of the factors: "
            f"column {differ[0]} is {found[differ[0]]!r}, and not {known[differ[0]]!r}",
            "bring the columns into the order of the factors",
        )


def _item_factors(factors: Factors) -> np.ndarray:
    """V·scale, and the means beside it where there are some; in memory as Vᵀ."""
    lines = [np.asarray(factors.Vt[:], np.float32)]
    if factors.scale is not None:
        lines = [lines[0] * np.asarray(factors.scale, np.float32)]
    if factors.mean is not None:
        lines.append(np.asarray(factors.mean, np.float32)[np.newaxis])
    return np.concatenate(lines).T


def _place(given: int | str, ids: Sequence[str] | None, length: int, what: str) -> int:
    """The number of a user or item; an id where there are ids."""
    if ids is not None and isinstance(given, str):
        if given not in ids:
            raise RequestError(f"no {what} of {length:,} has the id {given!r}", f"the first is {ids[0]!r}")
        return ids.index(given)
    if not str(given).isdecimal() or int(given) >= length:
        raise RequestError(f"{what} {given} is not one of {length:,}", f"give one of 0 to {length - 1}")
    return int(given)


def _ids(given: Sequence[str] | None, factors: Factors, axis: int) -> Sequence[str] | None:
    """Those given, of any kind of sequence, or else those beside the source that were taken of it."""
    return _ids_taken(factors, axis) if given is None else list(given)


def _ids_taken(factors: Factors, axis: int) -> Sequence[str] | None:
    names, taken = _ids_there(factors, axis), factors.kept.lines[axis]
    return names if names is None or taken is None else [names[number] for number in taken]


def _ids_there(factors: Factors, axis: int) -> Sequence[str] | None:
    return ids_beside(factors.provenance["request"]["source"], axis)


def _checked(ids: Sequence[str] | None, length: int, what: str) -> Sequence[str] | None:
    if ids is not None and len(ids) != length:
        raise RequestError(f"there are {len(ids):,} ids of {length:,} {what}", "give an id for each")
    return ids


def _refuse_what_gives_no_scores(factors: Factors) -> None:
    """`RequestError` unless products of the factors are ratings."""
    weighted = [name for name in ("weights", "row_weights") if getattr(factors, name) is not None]
    wrong = [*weighted, *["samples that are columns"] * factors.samples_axis]
    wrong += ["packed data"] * factors.source.packing.packed
    if wrong:
        raise RequestError(
            f"the factors have {', '.join(wrong)}", "decompose ratings (users, items) without these"
        )
