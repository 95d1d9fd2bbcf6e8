"""Fields of `climate`: a made surface temperature in Zarr, land left out, and its exact singular values.

Patterns that stand and pulse are cosines of latitude and longitude; amplitudes wander in time as a random
walk does, which gives spectra like those of the sea.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.data import written_beside

_PATTERNS = 40
_LARGEST, _LEAST = 3.0, 0.1  # amplitudes, K
_NOISE = 0.5  # K
_MEAN = 15.0  # °C
_TIMES = 100  # of a chunk
_CELLS = 4096  # whose series are multiplied at a time
NAME = "sst"


@dataclass(frozen=True)
class Field:
    """So many times of a regular grid; k modes are asked for."""

    times: int
    latitudes: int
    longitudes: int
    k: int
    seed: int = 0

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"climate-{self.times}x{self.latitudes}x{self.longitudes}-seed{self.seed}"

    @property
    def nbytes(self) -> int:
        """Of all entries, float32."""
        return 4 * self.times * self.latitudes * self.longitudes

    @cached_property
    def latitude(self) -> np.ndarray:
        """Of cell centres, degrees."""
        half = 90.0 / self.latitudes
        return np.linspace(-90 + half, 90 - half, self.latitudes)

    @cached_property
    def longitude(self) -> np.ndarray:
        """Of cell centres, degrees."""
        return (np.arange(self.longitudes) + 0.5) * 360 / self.longitudes

    @cached_property
    def ocean(self) -> np.ndarray:
        """Which cells are no land, (latitudes, longitudes) bool; about four fifths."""
        y, x = np.meshgrid(np.deg2rad(self.latitude), np.deg2rad(self.longitude), indexing="ij")
        return np.asarray(np.sin(3 * x) + np.cos(4 * y) > -1.0)

    @cached_property
    def patterns(self) -> np.ndarray:
        """(patterns, latitudes·longitudes)."""
        random = np.random.default_rng((self.seed, 0))
        y, x = np.meshgrid(np.deg2rad(self.latitude), np.deg2rad(self.longitude), indexing="ij")
        waves = [(1 + i % 5, 1 + i // 5, *random.uniform(0, 2 * np.pi, 2)) for i in range(_PATTERNS)]
        return np.stack([(np.cos(p * x + a) * np.cos(q * y + b)).ravel() for p, q, a, b in waves])

    @cached_property
    def amplitudes(self) -> np.ndarray:
        """(times, patterns), K."""
        steps = np.random.default_rng((self.seed, 1)).standard_normal((self.times, _PATTERNS))
        walks = np.cumsum(steps, axis=0)
        walks -= walks.mean(axis=0)
        return np.asarray(walks / walks.std(axis=0) * np.geomspace(_LARGEST, _LEAST, _PATTERNS))

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The times of each chunk, and their fields (t, latitudes, longitudes) float32, NaN on land."""
        for start in range(0, self.times, _TIMES):
            some = slice(start, min(self.times, start + _TIMES))
            random = np.random.default_rng((self.seed, 2, start))
            part = self.amplitudes[some] @ self.patterns
            part += _MEAN + _NOISE * random.standard_normal(part.shape)
            fields = part.reshape(-1, self.latitudes, self.longitudes).astype(np.float32)
            fields[:, ~self.ocean] = np.nan
            yield some, fields


SIZES = {"tiny": Field(120, 18, 36, 4), "full": Field(4000, 180, 360, 20)}


def ensure_field(field: Field, folder: Path) -> Path:
    """The stored field, as xarray opens it; if it is not there, written beside its place, then renamed."""
    path = folder / f"{field.stem}.zarr"
    if path.exists():
        return path
    with written_beside(path) as partial:
        group = zarr.open_group(partial, mode="w", zarr_format=3)
        array = group.create_array(
            NAME,
            shape=(field.times, field.latitudes, field.longitudes),
            chunks=(min(_TIMES, field.times), field.latitudes, field.longitudes),
            dtype="float32",
            fill_value=np.nan,
            dimension_names=("time", "lat", "lon"),
        )
        axes = {"time": np.arange(field.times), "lat": field.latitude, "lon": field.longitude}
        for name, values in axes.items():
            group.create_array(name, data=values, dimension_names=(name,))
        for some, fields in field.blocks():
            array[some] = fields
    return path


def exact_sigma(field: Field, path: Path) -> np.ndarray:
    """The k largest singular values of anomalies times √cos(latitude), (k,), by their Gram matrix in float64.

    An eigenvalue is exact to 10⁻¹⁶ of the largest (Golub & Van Loan 2013, Sec. 8.1): of singular values down
    to 10⁻³ of the first ten digits hold.
    """
    array: Any = zarr.open_group(path, mode="r")[NAME]
    fields = (array[start : start + _TIMES] for start in range(0, field.times, _TIMES))
    stored = np.concatenate([some[:, field.ocean] for some in fields])
    weights = np.sqrt(np.cos(np.deg2rad(field.latitude)))[:, None] * np.ones(field.longitudes)
    gram = np.zeros((field.times, field.times))
    for start in range(0, stored.shape[1], _CELLS):
        cells = slice(start, start + _CELLS)
        some = stored[:, cells].astype(np.float64)
        some = (some - some.mean(axis=0)) * weights[field.ocean][cells]
        gram += some @ some.T
    return np.asarray(np.sqrt(np.linalg.eigvalsh(gram)[::-1][: field.k]))
