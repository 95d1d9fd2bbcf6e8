"""`Stage`: one way from what was seen of rows to their coordinates; `Coordinates` is what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from bigsvd.distill.observed import Observed

Array = Any


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Posterior of the coordinates z of some rows, which are rows of U·diag(s).

    Attributes:
        mean: (b, r). covariance: (b, r, r), or (1, r, r) where it is the same for all.

    """

    mean: Array
    covariance: Array

    def __len__(self) -> int:
        return int(self.mean.shape[0])

    @property
    def second_moments(self) -> Array:
        """E zzᵀ = mean·meanᵀ + C of each row, (b, r, r)."""
        return self.mean[:, :, None] * self.mean[:, None, :] + self.covariance

    @property
    def variances(self) -> Array:
        """Sum of the variances of the coordinates of each row, the trace of C, (b,) or (1,)."""
        return self.covariance.trace(0, 1, 2)


class Stage(Protocol):
    """A way to infer coordinates.

    Laws: a row of which nothing was seen has the mean and covariance of the prior; the answer for a row does
    not depend on the rows beside it, but for rounding.
    """

    @property
    def name(self) -> str:
        """What it is called: "ridge", "map", "mixture" or "network"."""

    def infer(self, observed: Observed) -> Coordinates:
        """The posterior of each row."""
