"""`Stacking`: how an array of any number of axes is read as a matrix, without being written anew.

One axis numbers the rows of the matrix; the others, stacked in C order, its columns. A rectangle of the
matrix lies in a box of the array. In memory a box keeps its order where the axis of the rows is the first
or the last; else it is read right into the order of the matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigsvd.errors import DtypeError, RequestError, ShapeError
from bigsvd.sources.base import (
    SIDES,
    Axes,
    KeptLines,
    advice_on,
    axis_names,
    axis_of,
    has_alleles,
    lengths_of,
    numpy_dtype,
)

Box = tuple[slice, ...]
_PARTS_OF_SPARSE = ("data", "indices", "indptr")  # as AnnData stores them


def stacked(name: str, shape: Iterable[Any], dtype: Any, axes: Axes, dims: Sequence[str]) -> Stacking:
    """How an array is a matrix, by what a request says of its axes, whose names `dims` has if they have any.

    Raises:
        ShapeError, DtypeError, RequestError: it is none of real numbers, or has no such axis.

    """
    lengths = lengths_of(name, shape)
    if len(lengths) == 1:
        if name.rpartition("/")[2] in _PARTS_OF_SPARSE:
            raise ShapeError(
                f"{name} has shape {lengths}, one axis: it may be part of a sparse matrix",
                "then give its group",
            )
        raise ShapeError(f"{name} has shape {lengths}, one axis", "give an array of two axes or more")
    if len(lengths) < 2 or min(lengths) < 1:
        raise ShapeError(f"{name} has shape {lengths}", "give a matrix (two axes) with at least one entry")
    dtype = numpy_dtype(name, dtype)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DtypeError(
            f"{name} has dtype {dtype}, not bool, int8..int64, uint8..uint64 or float16/32/64",
            advice_on(dtype),
        )
    if axes.sum is not None:
        _check_sum(name, lengths, axes.sum, axes.dim, dims)
    if len(lengths) - (axes.sum is not None) == 2:
        return Stacking(lengths, 0)  # a matrix: which of its axes has the samples changes nothing here
    if axes.dim is None and axes.samples == SIDES[1]:
        raise ShapeError(
            f"{name} has shape {lengths}, in which nothing is a column",
            f"name the axis of the samples by dim=AXIS: {axis_names(lengths, dims)}",
        )
    if axes.of_samples is None and axes.sum is None and has_alleles(dims):
        raise ShapeError(
            f"{name} has shape {lengths}, a last axis of alleles",
            f"sum these by sum={dims[-1]}, and name the axis of the samples by samples=AXIS: "
            f"{axis_names(lengths[:-1], dims[:-1])}",
        )
    if axes.of_samples is None:
        raise ShapeError(
            f"{name} has shape {lengths}",
            f"name the axis of the samples by dim=AXIS: {axis_names(lengths, dims)}; the others are stacked",
        )
    return Stacking(lengths, axis_of(name, axes.of_samples, lengths, dims))


def _check_sum(
    name: str, lengths: tuple[int, ...], summed: str | int, dim: str | int | None, dims: Sequence[str]
) -> None:
    """What is summed over is the last axis of three or more, and not that of the samples."""
    last = len(lengths) - 1
    if len(lengths) == 2:
        raise ShapeError(f"{name} has shape {lengths}, of which no axis is left to be summed", "drop sum")
    if axis_of(name, summed, lengths, dims) != last:
        raise RequestError(
            f"sum={summed!r} is not the last axis of {name}, whose shape is {lengths}",
            "sum over it before, such as by x.sum(axis) of a Dask array",
        )
    if dim is not None and axis_of(name, dim, lengths, dims) == last:
        raise RequestError(f"dim={dim!r} is the axis that sum={summed!r} sums over", "give another dim")


def _wanted_of(wanted: np.ndarray | None, along: slice) -> np.ndarray:
    """The lines of a range that are wanted, ascending; where all are, the first of them."""
    if wanted is None:
        return np.array([along.start])
    return wanted[slice(*np.searchsorted(wanted, (along.start, along.stop)))]


@dataclass(frozen=True)
class Stacking:
    """An array of some lengths as a matrix whose rows `axis` numbers.

    Laws: ``lay(array[box(rows, cols)], rows, cols)`` is ``matrix[rows, cols]``, where the matrix is
    ``moveaxis(array, axis, 0).reshape(m, -1)``.
    """

    lengths: tuple[int, ...]
    axis: int

    @property
    def shape(self) -> tuple[int, int]:
        """That of the matrix."""
        return self._joined(self.lengths)

    @property
    def is_matrix(self) -> bool:
        """Whether nothing is stacked."""
        return len(self.lengths) == len(SIDES)

    @property
    def keeps_order(self) -> bool:
        """Whether boxes have the entries of the matrix, or of its transpose, in order."""
        return self.axis in (0, len(self.lengths) - 1)

    def _others(self, each: Sequence[Any]) -> tuple[Any, ...]:
        """What is said of the axes that are stacked."""
        return (*each[: self.axis], *each[self.axis + 1 :])

    def _joined(self, lengths: Sequence[int]) -> tuple[int, int]:
        return int(lengths[self.axis]), math.prod(map(int, self._others(lengths)))

    def piece(self, chunk: Sequence[int]) -> tuple[int, int]:
        """Rows, and columns in all, that a chunk has entries of."""
        return self._joined(chunk)

    def unit(self, chunk: Sequence[int]) -> tuple[int, int]:
        """Rows and columns that are best read together: of whole chunks, and next to each other."""
        lengths, sides = self._others(self.lengths), self._others(chunk)
        columns = 1
        for place, (length, side) in enumerate(zip(lengths, sides, strict=True)):
            columns = min(side, length) * math.prod(lengths[place + 1 :])
            behind = place + 1
            if side > 1 or behind == len(lengths) or lengths[behind] % sides[behind]:
                break
        return min(int(chunk[self.axis]), self.lengths[self.axis]), columns

    def box(self, rows: slice, cols: slice) -> Box:
        """The box that a rectangle lies in: its rows, and the fewest whole lines that have its columns."""
        found: list[slice] = []
        start, stop = cols.start, cols.stop
        lengths = self._others(self.lengths)
        for place in range(len(lengths)):
            size = math.prod(lengths[place + 1 :])
            first, last = start // size, max(start, stop - 1) // size
            found.append(slice(first, last + 1))
            if last > first:
                found += [slice(0, rest) for rest in lengths[place + 1 :]]
                break
            start, stop = start - first * size, stop - first * size
        return (*found[: self.axis], rows, *found[self.axis :])

    def _within(self, box: Box, cols: slice) -> slice:
        """Where some columns are among those of a box that holds them."""
        lengths = self._others(self.lengths)
        corner = int(np.ravel_multi_index([side.start for side in self._others(box)], lengths))
        return slice(cols.start - corner, cols.stop - corner)

    def first_in(self, box: Box, wanted: KeptLines) -> tuple[int, int] | None:
        """The first entry of a box, by row and column, of lines that are wanted; None where it has none."""
        lengths, sides = self._others(self.lengths), self._others(box)
        corners = [side.start for side in sides], [side.stop - 1 for side in sides]
        first, last = (int(np.ravel_multi_index(corner, lengths)) for corner in corners)
        rows = _wanted_of(wanted[0], box[self.axis])
        cols = _wanted_of(wanted[1], slice(first, last + 1))
        places = zip(np.unravel_index(cols, lengths), sides, strict=True)
        cols = cols[np.all([(place >= side.start) & (place < side.stop) for place, side in places], axis=0)]
        if not rows.size or not cols.size:
            return None
        return int(rows[0]), int(cols[0])

    def lay(self, found: np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """The rectangle (r, c) of the entries of its box; a view where the order is kept."""
        if self.is_matrix:
            return found
        count, within = rows.stop - rows.start, self._within(self.box(rows, cols), cols)
        if self.axis == len(self.lengths) - 1:
            return found.reshape(-1, count).T[:, within]
        return np.moveaxis(found, self.axis, 0).reshape(count, -1)[:, within]

    def room(
        self, rows: slice, cols: slice, take: Callable[[tuple[int, int]], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Memory for a box, which `take` gives by its two lengths: as the box, and as the rectangle."""
        if self.is_matrix:
            whole = take((rows.stop - rows.start, cols.stop - cols.start))
            return whole, whole
        box = self.box(rows, cols)
        sides, within = [side.stop - side.start for side in box], self._within(box, cols)
        count, width = self._joined(sides)
        if self.axis == len(self.lengths) - 1:
            memory = take((width, count))
            return memory.reshape(sides), memory.T[:, within]
        memory = take((count, width))
        turned = memory.reshape(count, *self._others(sides))
        return np.moveaxis(turned, 0, self.axis), memory[:, within]
