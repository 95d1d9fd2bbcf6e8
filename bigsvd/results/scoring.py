"""Choosing k by a score of the user's own: what a task makes of the k leading triplets, for k of a log grid.

The k of the least squared error, or of any rule on singular values, is in general not the one with which
labels are best told apart or recommendations best made: only the task can say that.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from bigsvd.errors import RequestError, first_line
from bigsvd.results.rank import Choice

_IN_A_DECADE = 6  # of the grid: 1, 2, 3, 5, 7, 10; chosen


class Truncatable(Protocol):
    """Factors, of which the leading triplets can be taken."""

    @property
    def k(self) -> int:
        """Number of triplets."""

    def truncate(self, k: int) -> Self:
        """The leading k."""


@dataclass(frozen=True)
class Scored:
    """The score of the k leading triplets, for some k.

    Attributes:
        name: of the function that gave them. k: ascending. values: one for each; the higher the better.

    """

    name: str
    k: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def best(self) -> int:
        """The smallest of the k with the highest score."""
        return self.k[int(np.argmax(self.values))]

    @property
    def by_k(self) -> dict[int, float]:
        """The score of each k."""
        return dict(zip(self.k, self.values, strict=True))

    @property
    def choice(self) -> Choice:
        """The best as what a rule chooses."""
        return Choice(f"best {self.name}", self.best, self._reason)

    @property
    def _reason(self) -> str:
        return f"the best of {len(self.k)} scores is {max(self.values):.4g}"

    def text(self, k: int) -> str:
        """The score of k with four digits; empty where there is none."""
        found = self.by_k
        return f"{found[k]:.4g}" if k in found else ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values, under "score"; none where there is no score."""
        if not self.k:
            return {}
        values = {"name": self.name, "k": list(self.k), "values": list(self.values), "best": self.best}
        return {"score": values}


UNSCORED = Scored("", (), ())


def log_grid(most: int) -> tuple[int, ...]:
    """1, 2, 3, 5, 7, 10, 15, 22, ... up to `most`, which is among them."""
    steps = np.arange(_IN_A_DECADE * np.log10(most))
    return tuple(sorted({1, most, *map(int, np.rint(10 ** (steps / _IN_A_DECADE)))}))


def scored(factors: Truncatable, score: Callable[[Any], Any], ks: Iterable[int] | None = None) -> Scored:
    """The score of ``factors.truncate(k)`` for each of some k; of `log_grid` where these are None.

    Raises:
        RequestError: the score fails for one of them, or is no finite number.
        RankError: one of them is no number of triplets.

    """
    name = getattr(score, "__name__", type(score).__name__)
    chosen = tuple(sorted(set(log_grid(factors.k) if ks is None else ks)))
    if not chosen:
        raise RequestError("there is no k to score", "give one or more")
    return Scored(name, chosen, tuple(_one(factors.truncate(k), score, name) for k in chosen))


def _one(factors: Truncatable, score: Callable[[Any], Any], name: str) -> float:
    """The score of these factors."""
    try:
        value = np.asarray(found := score(factors))
    except (Exception, SystemExit) as error:
        raise RequestError(
            f"the score {name} fails at k={factors.k} with {told(error)}", "mend the function"
        ) from error
    if value.size != 1 or value.dtype.kind not in "biuf" or not np.isfinite(value).all():
        raise RequestError(
            f"the score {name} is {found!r} at k={factors.k}",
            "return one finite number, which is higher where it is better",
        )
    return float(value.reshape(()))


def told(error: BaseException) -> str:
    """What an error of a user's code is, and where it arose."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {first_line(error)} ({last.filename}, line {last.lineno})"
