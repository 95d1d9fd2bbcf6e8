"""`Stage`: one way from what was seen of rows to their coordinates; `Coordinates` is what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bigsvd.distill.observed import Observed

Array = Any
Move = Callable[[np.ndarray], Array]  # to a device


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


class Stage(Protocol):
    """A way to infer coordinates.

    Laws: a row of which nothing was seen has the mean and covariance of the prior; the answer for a row does
    not depend on the rows beside it, but for rounding.
    """

    @property
    def name(self) -> str:
        """What it is called: "ridge", "map", "mixture" or "network"."""

    def infer(self, observed: Observed) -> Coordinates:
        """The posterior of each row, where the stage lies."""

    def on(self, move: Move) -> Stage:
        """The same for rows on a device: what it needs there is copied once, by `move`."""
