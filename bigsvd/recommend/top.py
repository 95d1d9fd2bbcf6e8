"""`Top`: the best items of users, found over one tile of users and items after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.errors import RequestError

# Users and items whose scores are held at once. Wider tiles are multiplied no faster, and larger ones leave
# the memory that the allocator keeps between them.
TILE_USERS, TILE_ITEMS = 512, 2**13
_CELL_BYTES = 16  # of a score: itself, a copy to select from (float32), two truth values, a count (int32)
_NEW = 4  # times n: how many items of a user may be new in a tile, on average, before they are selected from
TILE_BYTES = _CELL_BYTES * TILE_USERS * TILE_ITEMS


@dataclass(frozen=True, eq=False)
class Top:
    """Items and scores of some users, best first, equal ones by number.

    Attributes:
        items: (users, n) int32; -1 where fewer items are left.
        scores: (users, n) float32; -inf there.

    """

    items: np.ndarray
    scores: np.ndarray

    @classmethod
    def nothing(cls, users: int, n: int) -> Top:
        """That of no items."""
        return cls(np.full((users, n), -1, np.int32), np.full((users, n), -np.inf, np.float32))

    @classmethod
    def joined(cls, parts: list[Top]) -> Top:
        """That of the users of all parts."""
        return cls(np.concatenate([p.items for p in parts]), np.concatenate([p.scores for p in parts]))

    def with_more(self, scores: np.ndarray, first: int = 0) -> Top:
        """The best of these and of further items, numbered from `first` on, of which scores are given.

        `scores`: (users, items), -inf for what is left out. What is sorted is little more than the answer,
        in whatever order good items come: where more are new than that, the best of them are selected.
        """
        users, n = self.items.shape
        better = scores > self.scores[:, -1:]
        if np.count_nonzero(better) > _NEW * users * n:
            better = _best(scores, min(n, scores.shape[1]))
        rows, items = np.divmod(np.flatnonzero(better), scores.shape[1])
        of = np.concatenate([np.repeat(np.arange(users), n), rows])
        known = np.concatenate([self.items.ravel(), (items + first).astype(np.int32)])
        values = np.concatenate([self.scores.ravel(), scores[rows, items]])
        order = np.lexsort((-values, of))
        chosen = order[np.searchsorted(of[order], np.arange(users))[:, np.newaxis] + np.arange(n)]
        return Top(np.where(np.isneginf(values[chosen]), -1, known[chosen]), values[chosen])


def top_of_products(users: np.ndarray, items: np.ndarray, left_out: Any, n: int) -> Top:
    """Of scores U·Vᵀ of users (u, k) and items (i, k), both float32, without what each has in `left_out`.

    `left_out`: a matrix of SciPy in CSR form or an array, (u, i), whose entries that are not 0 count.

    Raises:
        RequestError: n is not in 1..i.

    """
    check_count(n, len(items))
    parts = [_over_items(users[rows], items, left_out[rows], n) for rows in pieces(len(users), TILE_USERS)]
    return Top.joined(parts)


def check_count(n: int, items: int) -> None:
    """`RequestError` unless n items can be recommended of so many."""
    if not 1 <= n <= items:
        raise RequestError(f"n is {n}, there are {items} items", f"give n of 1 to {items}")


def pieces(length: int, size: int) -> Iterator[slice]:
    """Slices of that size that cover a length; one that is empty where that is 0."""
    for start in range(0, max(length, 1), size):
        yield slice(start, min(length, start + size))


def _over_items(users: np.ndarray, items: np.ndarray, left_out: Any, n: int) -> Top:
    top = Top.nothing(len(users), n)
    for cols in pieces(len(items), TILE_ITEMS):
        scores = users @ items[cols].T
        scores[left_out[:, cols].nonzero()] = -np.inf
        top = top.with_more(scores, cols.start)
    return top


def _best(scores: np.ndarray, n: int) -> np.ndarray:
    """Which are the n best of each row; of equal ones the first."""
    least = np.partition(scores, -n, axis=1)[:, -n, np.newaxis]
    above, equal = scores > least, scores == least
    wanted = n - above.sum(axis=1)
    tied = np.flatnonzero(equal.sum(axis=1) > wanted)
    equal[tied] &= np.cumsum(equal[tied], axis=1, dtype=np.int32) <= wanted[tied, np.newaxis]
    return np.asarray(above | equal)
