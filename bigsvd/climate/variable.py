"""`Variable`: one labelled array as samples of features, without holding its values."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bigsvd.errors import ColumnsError

if TYPE_CHECKING:
    import xarray as xr

MODE = "mode"  # what the axis of the modes is called; they are counted from 1


@dataclass(frozen=True, eq=False)
class Variable:
    """A variable with samples along `dim`; its values are read when they are asked for.

    Attributes:
        dims: the axes of the features, in the order in which they are stacked.

    """

    array: xr.DataArray
    dim: str
    dims: tuple[Hashable, ...]

    @classmethod
    def of(cls, array: xr.DataArray, dim: str) -> Variable:
        """With the other axes as the array has them."""
        return cls(array, dim, tuple(name for name in array.dims if name != dim))

    def of_other_samples(self, array: xr.DataArray) -> Variable:
        """The same variable of other samples, its axes in this order.

        Raises:
            ColumnsError: it has other axes, or they have other lengths or coordinates.

        """
        other = Variable(array, self.dim, self.dims)
        if set(array.dims) != {self.dim, *self.dims} or other.lengths != self.lengths:
            raise ColumnsError(
                f"{self.called} has axes {_told(array)}, it was fitted on {_told(self.array)}",
                "give samples on the same grid",
            )
        for name in self.dims:
            if not same_labels(self.array, array, name):
                raise ColumnsError(
                    f"{self.called} has another coordinate {name} than it was fitted on", "give the same grid"
                )
        return other

    @property
    def called(self) -> str:
        """Its name, for messages."""
        return str(self.array.name or "the array")

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the axes of the features."""
        return tuple(self.array.sizes[name] for name in self.dims)

    @property
    def size(self) -> int:
        """How many features there are."""
        return math.prod(self.lengths)

    @property
    def coords(self) -> Any:
        """The coordinates of the features."""
        return _coordinates(self.array, [self.dim])

    @property
    def sample_coords(self) -> Any:
        """The coordinates of the samples."""
        return _coordinates(self.array, self.dims)

    @property
    def is_lazy(self) -> bool:
        """Whether its values are not in memory."""
        return not self.array.variable._in_memory  # noqa: SLF001 - xarray has no public word for it

    @property
    def matrix(self) -> xr.DataArray:
        """The array; if it is a matrix, samples are its rows."""
        if len(self.dims) == 1:
            return self.array.transpose(self.dim, *self.dims)
        return self.array

    def rows(self, some: slice) -> np.ndarray:
        """The values of some samples, (r, features), read."""
        part = self.array.isel({self.dim: some}).transpose(self.dim, *self.dims)
        return np.asarray(part).reshape(part.sizes[self.dim], -1)

    def stacked(self) -> Any:
        """All of them as a `Variable` of xarray with two axes, on Dask; nothing is read or copied."""
        chunks: Any = {self.dim: "auto"}
        if self.array.chunks:
            chunks = {}
        whole = self.array.variable.chunk(chunks).transpose(self.dim, *self.dims)
        stacked: Any = whole.stack(feature=self.dims)  # type: ignore[no-untyped-call]
        return stacked

    def labelled(self, values: Any, first: str, coords: Any) -> xr.DataArray:
        """Values (r, features) of lines along an axis `first`, with its coordinates and those of features."""
        import xarray as xr  # noqa: PLC0415 - of the extra xarray

        shaped = values.reshape(values.shape[0], *self.lengths)
        found = xr.DataArray(shaped, dims=(first, *self.dims), coords=self.coords, name=self.array.name)
        return found.assign_coords(coords)

    def of_scores(self, values: np.ndarray) -> xr.DataArray:
        """Values (r, k) of the samples, labelled."""
        import xarray as xr  # noqa: PLC0415 - of the extra xarray

        found = xr.DataArray(values, dims=(self.dim, MODE), coords=self.sample_coords, name="scores")
        return found.assign_coords({MODE: numbers(values.shape[1])})


def _coordinates(array: xr.DataArray, without: Iterable[Hashable]) -> Any:
    """The coordinates that do not run along some axes."""
    return array.coords.to_dataset().drop_dims(without, errors="ignore").coords


def _told(array: xr.DataArray) -> str:
    return ", ".join(f"{name}={length}" for name, length in array.sizes.items())


def same_labels(one: xr.DataArray, other: xr.DataArray, name: Hashable) -> bool:
    """Whether an axis has the same coordinates in both, as far as it has any."""
    if name not in one.indexes or name not in other.indexes:
        return True
    return bool(one.indexes[name].equals(other.indexes[name]))


def of_modes(values: np.ndarray, name: str) -> xr.DataArray:
    """A value for each mode, (k,), labelled."""
    import xarray as xr  # noqa: PLC0415 - of the extra xarray

    return xr.DataArray(values, dims=(MODE,), coords={MODE: numbers(len(values))}, name=name)


def numbers(count: int) -> np.ndarray:
    """What so many modes are called: from 1 on."""
    return np.arange(1, count + 1)
