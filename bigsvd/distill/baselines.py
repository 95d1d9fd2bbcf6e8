"""What a student is measured against: other ways to fill gaps, from the column mean to the complete rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bigsvd.distill.basis import Basis
from bigsvd.distill.intervals import ratios, row_deviations
from bigsvd.distill.observed import observe
from bigsvd.distill.ridge import Ridge
from bigsvd.distill.rows import Rows
from bigsvd.distill.stage import Coordinates, Stage

Learned = tuple[Basis, Stage]  # from new data
Panels = Callable[[], Iterator[Rows]]  # the rows from the first on, as often as they are asked for


@dataclass(frozen=True, eq=False)
class Filled:
    """Rows as somebody would fill them.

    Attributes:
        basis: whose components the coordinates belong to. k: how many of the leading ones are published.
        coordinates: of the rows, (b, c), rows of U·diag(s); at least k of the leading ones.
        posterior: of all coordinates, where the way tells how sure it is.
        predicted: every entry, (b, n), where it does not follow from the coordinates.

    """

    basis: Basis
    k: int
    coordinates: np.ndarray
    posterior: Coordinates | None = None
    predicted: np.ndarray | None = None

    @classmethod
    def by(cls, basis: Basis, k: int, posterior: Coordinates) -> Filled:
        """By the mean of a posterior."""
        return cls(basis, k, np.asarray(posterior.mean), posterior)

    def ratios(self, rows: Rows, hidden: np.ndarray) -> np.ndarray:
        """Errors of hidden entries by the standard deviation that the posterior has for their row."""
        if self.posterior is None:
            return np.zeros(0)
        deviations = row_deviations(self.basis, self.posterior, self.k)
        return ratios(rows, hidden, self.entries, deviations[:, None])

    def along(self, V: np.ndarray) -> np.ndarray:
        """The published coordinates (b, k) along other components (n, r): of a basis that has moved."""
        if V is self.basis.V:
            return self.leading
        return np.asarray(self.leading @ (self.basis.V[:, : self.k].T @ V[:, : self.k]))

    def coordinate_ratios(self, z: np.ndarray) -> np.ndarray:
        """Errors of the leading coordinates, by their standard deviations; z (b, k) is what they are."""
        if self.posterior is None:
            return np.zeros(0)
        variances = np.diagonal(np.asarray(self.posterior.covariance), axis1=1, axis2=2)
        return np.asarray((self.leading - z) / np.sqrt(variances[:, : self.k]))

    @classmethod
    def of_entries(cls, basis: Basis, k: int, rows: Rows, predicted: np.ndarray) -> Filled:
        """By entries for the gaps: what was seen is kept as it is."""
        whole = np.where(rows.seen, rows.values, predicted)
        return cls(basis, k, whole @ basis.V, predicted=predicted)

    @property
    def leading(self) -> np.ndarray:
        """The coordinates that are published, (b, k)."""
        return self.coordinates[:, : self.k]

    @property
    def entries(self) -> np.ndarray:
        """Every entry as predicted from what is published, (b, n); also those that were seen."""
        if self.predicted is not None:
            return self.predicted
        return np.asarray(self.leading @ self.basis.V[:, : self.k].T)


class Filler(Protocol):
    """A way to fill rows, once it has seen the new data."""

    def fill(self, rows: Rows) -> Filled:
        """Fill a panel."""


class Baseline(Protocol):
    """A way to fill new data."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    def refusal(self, rows: int) -> str | None:
        """Why it cannot be had for so many new rows; None where it can."""

    def fit(self, new: Panels) -> Filler:
        """Learn from the new data, gaps and all."""


@dataclass(frozen=True, eq=False)
class ByEntries:
    """A filler for which only the entries in the gaps have to be said: what was seen is kept as it is.

    Attributes:
        basis: of the teacher. k: number of its components that count. predict: entries (b, n) of rows.

    """

    basis: Basis
    k: int
    predict: Callable[[Rows], np.ndarray]

    def fill(self, rows: Rows) -> Filled:
        """See `Filler.fill`."""
        return Filled.of_entries(self.basis, self.k, rows, self.predict(rows))


@dataclass(frozen=True, eq=False)
class ByCoordinates:
    """A filler that says the coordinates: entries follow from the leading k components."""

    basis: Basis
    k: int
    infer: Callable[[Rows], np.ndarray]

    def fill(self, rows: Rows) -> Filled:
        """See `Filler.fill`."""
        return Filled(self.basis, self.k, self.infer(rows))


@dataclass(frozen=True, eq=False)
class ByStage:
    """A filler that asks a stage."""

    basis: Basis
    k: int
    stage: Stage

    def fill(self, rows: Rows) -> Filled:
        """See `Filler.fill`."""
        return Filled.by(self.basis, self.k, self.stage.infer(observe(self.basis, rows)))


@dataclass(frozen=True, eq=False)
class Fixed:
    """A baseline that learns nothing from the new data."""

    name: str
    filler: Filler

    def refusal(self, rows: int) -> str | None:
        """See `Baseline.refusal`."""
        del rows
        return None

    def fit(self, new: Panels) -> Filler:
        """See `Baseline.fit`."""
        del new
        return self.filler


@dataclass(frozen=True, eq=False)
class Learnt:
    """A baseline that makes a basis and a stage from the new data, in passes over them."""

    name: str
    k: int
    learn: Callable[[Panels], Learned]

    def refusal(self, rows: int) -> str | None:
        """See `Baseline.refusal`."""
        del rows
        return None

    def fit(self, new: Panels) -> Filler:
        """See `Baseline.fit`."""
        basis, stage = self.learn(new)
        return ByStage(basis, self.k, stage)


@dataclass(frozen=True, eq=False)
class ColumnMean:
    """Each gap is its column's mean: the teacher's, 0 in units of B, where the teacher was centred.

    Of any other teacher it is the mean over the entries seen in the new data, 0 where there is none.
    """

    basis: Basis
    k: int
    centred: bool
    name: str = "column mean"

    def refusal(self, rows: int) -> str | None:
        """See `Baseline.refusal`."""
        del rows
        return None

    def fit(self, new: Panels) -> Filler:
        """See `Baseline.fit`."""
        if self.centred:
            mean = np.zeros(self.basis.n)
        else:
            sums = [(np.sum(rows.values, axis=0), np.sum(rows.seen, axis=0)) for rows in new()]
            total, count = (np.sum(parts, axis=0) for parts in zip(*sums, strict=True))
            mean = total / np.maximum(1, count)
        return ByEntries(self.basis, self.k, lambda rows: np.broadcast_to(mean, rows.values.shape))


def zero_filled(basis: Basis, k: int) -> Baseline:
    """Vᵀx as z, with 0 in the gaps: what projecting data does that were filled with the mean."""
    return Fixed("zero-filled projection", ByCoordinates(basis, k, lambda rows: rows.values @ basis.V))


def gappy(basis: Basis, k: int) -> Baseline:
    """V_Ω⁺x_Ω as z: least squares on what was seen (Everson & Sirovich 1995), the shortest where many fit."""

    def infer(rows: Rows) -> np.ndarray:
        V = basis.V[:, :k]
        pairs = zip(rows.values, rows.seen, strict=True)
        found = [np.linalg.lstsq(V[seen], x[seen], rcond=None)[0] for x, seen in pairs]
        return np.array(found).reshape(-1, k)

    return Fixed("gappy least squares", ByCoordinates(basis, k, infer))


def isotropic(basis: Basis, k: int) -> Baseline:
    """Probabilistic PCA with one noise for all columns, their mean (Tipping & Bishop 1999)."""
    even = replace(basis, noise=np.full(basis.n, basis.noise.mean()))
    return Fixed("ridge, equal noise", ByStage(even, k, Ridge(even.prior)))


def by_stage(basis: Basis, k: int, stage: Stage) -> Baseline:
    """A stage of the student that does not learn from the new data."""
    return Fixed(stage.name, ByStage(basis, k, stage))


def oracle(basis: Basis, k: int) -> Filler:
    """Vᵀx of complete rows as z: what nobody who keeps to the teacher's k components can better."""
    return ByCoordinates(basis, k, lambda rows: complete_coordinates(basis.V, rows))


def complete_coordinates(V: np.ndarray, rows: Rows) -> np.ndarray:
    """Coordinates (b, r) of complete rows; of one that lacks some entries, by least squares on the others."""
    z = rows.values @ V
    for place in np.flatnonzero(~np.all(rows.seen, axis=1)):
        seen = rows.seen[place]
        z[place] = np.linalg.lstsq(V[seen], rows.values[place, seen], rcond=None)[0]
    return np.asarray(z)


def stacked(new: Panels) -> Rows:
    """All rows in memory."""
    parts = [(rows.values, rows.seen) for rows in new()]
    values, seen = map(np.vstack, zip(*parts, strict=True))
    return Rows(0, values, seen)


def some_of(new: Panels, rows: int) -> Iterator[Rows]:
    """The leading panels, as many as have so many rows."""
    count = 0
    for panel in new():
        yield panel
        count += len(panel)
        if count >= rows:
            return


def too_large(what: str, needed_bytes: int, memory_bytes: int) -> str | None:
    """Why a baseline that cannot be streamed is left out; None where it fits."""
    if needed_bytes <= memory_bytes:
        return None
    return f"{what} needs {needed_bytes:,} bytes, the budget is {memory_bytes:,}: it cannot be streamed"
