"""Standard deviations of what is predicted, and the factor that makes intervals cover what they say.

A model's own deviations are right for data that follow it. What data do instead is seen on entries that were
hidden: there the 90 % interval is made to hold nine of ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bigsvd.distill.basis import Basis, diagonals, namespace_of
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Coordinates

Array = Any

NINETY = 1.6448536269514722  # half the width of a normal 90 % interval, in standard deviations
_COVERED = 0.9
_FEWEST = 50  # hidden entries: of fewer no quantile is told
_PAIR_BYTES = 2**24  # of products of components that are held at a time


def entry_deviations(basis: Basis, coordinates: Coordinates) -> np.ndarray:
    """√(v_jᵀ·C·v_j + ψ_j) of every entry, (b, n), in units of B; V has all components that C has."""
    C = np.asarray(coordinates.covariance)
    parts = [_spread(basis.V[some], C) + basis.noise[some] for some in _columns(basis)]
    found = np.sqrt(np.concatenate(parts, axis=1))  # of one row, where all have one covariance
    return np.asarray(np.broadcast_to(found, (len(coordinates), basis.n)))


def _columns(basis: Basis) -> list[slice]:
    """Columns whose pairs of components are held at a time."""
    step = max(1, _PAIR_BYTES // (8 * basis.r**2))
    return [slice(start, start + step) for start in range(0, basis.n, step)]


def _spread(V: np.ndarray, C: np.ndarray) -> np.ndarray:
    """v_jᵀ·C·v_j for rows v_j of V (c, r) and each C (b, r, r), (b, c)."""
    pairs = V[:, :, None] * V[:, None, :]
    return np.asarray(C.reshape(len(C), -1) @ pairs.reshape(len(V), -1).T)


def row_deviations(basis: Basis, coordinates: Coordinates, components: int) -> Array:
    """One standard deviation for all entries of a row, (b,): the root of the mean over the columns.

    It is √((Σ_k C_kk + Σψ)/n). Where only the leading `components` are published, what the others hold is
    missed, too: their z² counts with their variances. It lies where basis and coordinates do.
    """
    xp = namespace_of(basis.noise)
    variances = xp.sum(diagonals(coordinates.covariance), axis=1)
    unknown = variances + xp.sum(basis.noise)
    return xp.sqrt((unknown + _left_out(coordinates, components)) / basis.n)


def _left_out(coordinates: Coordinates, components: int) -> Array:
    """Σ z² of the components that are not published, (b,)."""
    rest = coordinates.mean[:, components:]
    return namespace_of(rest).sum(rest * rest, axis=1)


def ratios(rows: Rows, hidden: np.ndarray, predicted: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """|x − x̂| by its deviation (b, n) or (b, 1), of the hidden entries, one after the other."""
    return np.asarray((np.abs(rows.values - predicted) / deviations)[hidden])


def interval_scale(found: Sequence[np.ndarray]) -> float:
    """What deviations are multiplied by, so that x̂ ± 1.645 of them holds 90 % of the hidden entries.

    1 where too few were hidden to tell.
    """
    if sum(map(len, found)) < _FEWEST:
        return 1.0
    return float(np.quantile(np.concatenate(found), _COVERED) / NINETY)
