"""`Fields`: variables of the same samples, as one matrix for `svd`, and matrices as such variables again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bigsvd.climate.forms import Form, form_of
from bigsvd.climate.variable import MODE, Variable, numbers, same_labels
from bigsvd.errors import RequestError

if TYPE_CHECKING:
    import xarray as xr

_BLOCK_BYTES = 2**26  # of samples that are read at a time; chosen, not measured


@dataclass(frozen=True, eq=False)
class Fields:
    """Variables of the same samples, side by side.

    Attributes:
        variables: at least one. form: how the user gave them.

    """

    variables: tuple[Variable, ...]
    form: Form

    @classmethod
    def of(cls, X: Any, dim: str | Sequence[str]) -> Fields:
        """A `DataArray`, `Dataset` or list of `DataArray`, whose samples lie along `dim`.

        Raises:
            SourceError: it is none of these.
            RequestError: a variable has no such axis, or other samples than the first.

        """
        form, name = form_of(X), _one(dim)
        arrays = form.arrays(X)
        for array in arrays:
            _check_samples(array, arrays[0], name)
        return cls(tuple(Variable.of(array, name) for array in arrays), form)

    def alike(self, X: Any) -> Fields:
        """Other samples of the same variables.

        Raises:
            ColumnsError: it has other variables, or these lie on another grid.
            RequestError: a variable has other samples than the first.

        """
        arrays = self.form.alike(X, [variable.array for variable in self.variables])
        pairs = zip(self.variables, arrays, strict=True)
        variables = tuple(mine.of_other_samples(its) for mine, its in pairs)
        for array in arrays:
            _check_samples(array, arrays[0], self.dim)
        return Fields(variables, self.form)

    @property
    def dim(self) -> str:
        """The axis of the samples."""
        return self.variables[0].dim

    @property
    def samples(self) -> int:
        """How many there are."""
        return int(self.variables[0].array.sizes[self.dim])

    @cached_property
    def size(self) -> int:
        """How many features there are in all."""
        return sum(variable.size for variable in self.variables)

    @property
    def is_lazy(self) -> bool:
        """Whether values of some variable are not in memory."""
        return any(variable.is_lazy for variable in self.variables)

    @property
    def matrix(self) -> Any:
        """What `svd` takes, with ``dim=self.dim``: the only variable, or all of them stacked, on Dask."""
        if len(self.variables) == 1:
            return self.variables[0].matrix
        stacked = [variable.stacked() for variable in self.variables]
        return type(stacked[0]).concat(stacked, dim="feature")

    @property
    def block_rows(self) -> int:
        """How many samples are read, or made, at a time."""
        return max(1, _BLOCK_BYTES // (8 * self.size))

    def blocks(self) -> Iterator[np.ndarray]:
        """All samples, some at a time, (r, features)."""
        for start in range(0, self.samples, self.block_rows):
            some = slice(start, start + self.block_rows)
            yield np.concatenate([variable.rows(some) for variable in self.variables], axis=1)

    def scores(self, values: np.ndarray) -> xr.DataArray:
        """Values (r, k) of the samples of these fields, labelled."""
        return self.variables[0].of_scores(values)

    def of_components(self, values: np.ndarray, name: str) -> Any:
        """Values (k, features) of modes, in the form of the data; one array alone is called by a name."""
        return self.form.together(self._labelled(values, MODE, {MODE: numbers(len(values))}), name)

    def made(self, scores: np.ndarray, basis: np.ndarray, mean: np.ndarray, coords: Any) -> Any:
        """scores·basis + mean as samples with these coordinates; computed later where the data are read."""
        if not self.is_lazy:
            return self.of_samples(scores @ basis + mean, coords)
        import dask.array as da  # noqa: PLC0415 - as late as everywhere

        rows = da.from_array(scores, chunks=(self.block_rows, -1))
        lengths = (rows.chunks[0], (self.size,))
        return self.of_samples(
            rows.map_blocks(_Combined(basis, mean), chunks=lengths, dtype=np.float64), coords
        )

    def of_samples(self, values: Any, coords: Any) -> Any:
        """Values (r, features) of samples with these coordinates, in the form and units of the data."""
        pairs = zip(self._labelled(values, self.dim, coords), self.variables, strict=True)
        found = [each.assign_attrs(variable.array.attrs) for each, variable in pairs]
        return self.form.together(found, self.variables[0].array.name)

    def _labelled(self, values: Any, first: str, coords: Any) -> list[xr.DataArray]:
        """Values (r, features) of lines along an axis `first`, of each variable its own."""
        edges = np.cumsum([0, *(variable.size for variable in self.variables)])
        cuts = zip(self.variables, edges[:-1], edges[1:], strict=True)
        return [each.labelled(values[:, start:stop], first, coords) for each, start, stop in cuts]


def _one(dim: str | Sequence[str]) -> str:
    """The axis of the samples; `RequestError` where several are named, or it is not called by a text."""
    names = [dim] if isinstance(dim, str) else list(dim)
    if len(names) != 1 or not isinstance(names[0], str):
        raise RequestError(
            f"dim={dim!r} names {len(names)} axes of samples",
            "name one; stack several first, by x.stack(sample=[...])",
        )
    return names[0]


def _check_samples(array: xr.DataArray, first: xr.DataArray, dim: str) -> None:
    """`RequestError` unless an array has the axis of the samples, the same as the first has it."""
    if dim not in array.dims or len(array.dims) == 1:
        raise RequestError(
            f"{array.name or 'the array'} has axes {', '.join(map(str, array.dims))}",
            f"give variables with {dim} and others, or another dim",
        )
    if array.sizes[dim] != first.sizes[dim] or not same_labels(array, first, dim):
        raise RequestError(
            f"{array.name} has other samples along {dim} than {first.name}, {array.sizes[dim]} and "
            f"{first.sizes[dim]}",
            "align them first, by xarray.align",
        )


@dataclass(frozen=True, eq=False)
class _Combined:
    """Scores (r, k) to samples (r, n)."""

    basis: np.ndarray
    mean: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(scores @ self.basis + self.mean)
