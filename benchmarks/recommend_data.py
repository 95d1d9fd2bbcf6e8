"""Ratings of `recommend`: made users and items in groups, of which some are popular, as CSR in Zarr."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.data import written_beside
from bigsvd.recommend.ratings import write

GROUPS = 40
_OWN = 0.7  # share of a user's ratings that are of items of the user's group
_POPULARITY = 1.2  # the exponent at which items of a group are drawn, by their place in it


@dataclass(frozen=True)
class Made:
    """So many users and items, with `each` ratings of a user, some of them of the same item; k components."""

    users: int
    items: int
    each: int
    k: int
    seed: int = 0

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"recommend-{self.users}x{self.items}x{self.each}-seed{self.seed}"


SIZES = {"tiny": Made(600, 400, 20, 8), "small": Made(20_000, 20_000, 50, 20)}
SIZES["full"] = Made(100_000, 100_000, 100, 20)


def ensure_ratings(made: Made, folder: Path) -> Path:
    """The path of the matrix, written where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{made.stem}.zarr"
    if not path.exists():
        with written_beside(path) as part:
            names = [[f"{letter}{number}" for number in range(count)] for letter, count in _sides(made)]
            write(part, matrix(made), *names)
    return path / "X"


def matrix(made: Made) -> csr_matrix:
    """Ratings of 1 to 5 (users, items), float32."""
    random = np.random.default_rng(made.seed)
    shape = (made.users, made.each)
    own = random.integers(0, GROUPS, (made.users, 1))
    groups = np.where(random.random(shape) < _OWN, own, random.integers(0, GROUPS, shape))
    in_group = made.items // GROUPS
    weights = np.arange(1, in_group + 1) ** -_POPULARITY
    edges = np.cumsum(weights) / weights.sum()
    places = np.minimum(np.searchsorted(edges, random.random(shape)), in_group - 1)
    users = np.repeat(np.arange(made.users), made.each)
    found = csr_matrix(
        (np.ones(users.size, np.float32), (users, (places * GROUPS + groups).ravel())),
        shape=(made.users, made.items),
    )
    found.sum_duplicates()
    found.data[:] = random.integers(1, 6, found.nnz)
    return found


def _sides(made: Made) -> tuple[tuple[str, int], ...]:
    return ("u", made.users), ("i", made.items)
