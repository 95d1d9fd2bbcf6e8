"""How the samples and features of a random case lie in the data that are handed over.

A case is a matrix of samples and features. Here it is put among lines that are left out, turned, and
unfolded to an array of three axes; what a request then says of axes and lines is to give it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr

SELECTIONS = ("", "slice", "steps", "mask", "ids")
VALID = ("", "", "valid_range", "valid_min, valid_max")
PACKINGS = ((0.002, 280.0), (-0.25, 1000.0), (1.0, -40.0))
T = TypeVar("T")
_TIME = "time"  # the name of the samples' axis, where axes have names
_PART = "part"


@dataclass(frozen=True)
class Layout:
    """Axes, lines that are left out, and what stored entries stand for.

    Attributes:
        samples: "rows" or "columns" of a matrix. by_dim: whether a request says so as `dim`.
        dim: the axis of the samples in an array of three; None for a matrix.
        sides: lengths of the two axes that are stacked to features, those left out among them.
        of_samples, of_features: how these are selected, one of `SELECTIONS`; "": all of them.
        left_out: samples and features of the data that are not selected.
        packing: CF's scale_factor and add_offset, if not (1, 0): beside them `_FillValue` marks gaps.
        filled: whether `_FillValue` marks gaps without them. valid: what else does, one of `VALID`.
        unsigned: whether entries are the bits of unsigned integers, as `_Unsigned` says.
        parts: along a further axis, of which each entry is the sum; 0: there is none.

    """

    samples: str = "rows"
    dim: int | None = None
    sides: tuple[int, ...] = ()
    of_samples: str = ""
    of_features: str = ""
    left_out: tuple[int, int] = (0, 0)
    packing: tuple[float, float] = (1.0, 0.0)
    by_dim: bool = False
    filled: bool = False
    valid: str = ""
    unsigned: bool = False
    parts: int = 0

    @property
    def described(self) -> bool:
        """Whether attributes of the array say what its entries stand for, and which are missing."""
        return self.packed or self.filled

    @property
    def packed(self) -> bool:
        """Whether stored entries are not the numbers."""
        return self.packing != (1.0, 0.0)

    @property
    def turned(self) -> bool:
        """Whether the samples are the columns of the matrix that is decomposed."""
        return self.samples == "columns"

    def oriented(self, by_samples: Any) -> Any:
        """What is said of samples and features, or has them as its axes, by rows and columns."""
        if not self.turned:
            return by_samples
        return by_samples.T if isinstance(by_samples, np.ndarray) else by_samples[::-1]

    def along_axes(self, lengths: tuple[T, ...]) -> tuple[T, ...]:
        """What is said of the samples, and of each axis of the features, by the axes of the data."""
        if self.dim is None:
            return tuple(self.oriented(lengths))
        first, *others = lengths
        return (*others[: self.dim], first, *others[self.dim :])


@dataclass(frozen=True)
class Laid:
    """A matrix (samples, features) in a layout; from the shape and the seed alone.

    Attributes:
        ids: of the samples and of the features among all in the data, ascending.

    """

    layout: Layout
    ids: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, layout: Layout, shape: tuple[int, int], seed: int) -> Laid:
        """The lines that are selected are drawn."""
        rng = np.random.default_rng([seed, 2])
        hows = (layout.of_samples, layout.of_features)
        drawn = [_ids(rng, *each) for each in zip(hows, shape, layout.left_out, strict=True)]
        return cls(layout, (drawn[0], drawn[1]))

    @property
    def whole(self) -> tuple[int, int]:
        """All samples and features of the data."""
        left_out = self.layout.left_out
        return len(self.ids[0]) + left_out[0], len(self.ids[1]) + left_out[1]

    def matrix(self, values: np.ndarray, other: Any) -> np.ndarray:
        """The matrix of the data, values (samples, features) among `other`, by rows and columns."""
        found = np.full(self.whole, other, values.dtype)
        found[np.ix_(*self.ids)] = values
        return np.asarray(self.layout.oriented(found))

    def array(self, values: np.ndarray, other: Any) -> np.ndarray:
        """The data, along axes of their own."""
        if values.ndim > 2:
            parts = [self.array(part, other) for part in np.moveaxis(values, -1, 0)]
            return np.stack(parts, axis=-1)
        found = self.matrix(values, other)
        if self.layout.dim is None:
            return found
        return np.moveaxis(found.reshape(-1, *self.layout.sides), 0, self.layout.dim)

    def vector(self, values: np.ndarray, axis: int, form: int) -> np.ndarray:
        """What is given for the samples (axis 0) or features (1), in one of three forms.

        0: in the order in which these are selected. 1: for all of the data, NaN where none is taken. 2: the
        same in the shape of the axes that are stacked.
        """
        how, ids, length = (
            (self.layout.of_samples, self.layout.of_features)[axis],
            self.ids[axis],
            self.whole[axis],
        )
        if form == 0:
            return values[::-1] if how == "ids" and len(ids) < length else values
        found = np.full(length, np.nan)
        found[ids] = values
        return found.reshape(self.layout.sides) if form == 2 and axis == 1 and self.layout.sides else found

    def reading(self, *, named: bool) -> dict[str, Any]:
        """What a request says of axes and lines; `named`: the axes of the data have names."""
        layout = self.layout
        found: dict[str, Any] = {"samples": layout.samples}
        axis = int(layout.turned) if layout.by_dim else layout.dim
        if axis is not None:
            found = {"dim": _TIME if named else axis}
        if layout.parts:
            found["sum"] = _PART if named else max(2, 1 + len(layout.sides))
        hows = (layout.of_samples, layout.of_features)
        given = [_given(*each) for each in zip(hows, self.ids, self.whole, strict=True)]
        if layout.dim is not None and layout.of_features == "mask":
            given[1] = given[1].reshape(layout.sides)
        rows, cols = layout.oriented(given)
        return found | {"rows": rows, "cols": cols}


def numbers(layout: Layout, entries: np.ndarray) -> np.ndarray:
    """What stored entries stand for, longdouble; packed ones stand for the float64 that they are decoded to.

    Rounding to that is part of what CF's conventions say, and of a decoded copy; nothing later is.
    """
    if layout.unsigned:
        entries = entries.view(f"u{entries.dtype.itemsize}")
    if not layout.packed:
        return entries.astype(np.longdouble)
    scale, offset = layout.packing
    return (entries.astype(np.float64) * scale + offset).astype(np.longdouble)


def attributes(layout: Layout, fill: Any, limits: tuple[Any, Any]) -> dict[str, Any]:
    """The CF attributes of an array in which `fill`, and what is beyond the limits, mark gaps."""
    if not layout.described:
        return {}
    found: dict[str, Any] = {"_FillValue": fill}
    if layout.packed:
        found |= dict(zip(("scale_factor", "add_offset"), layout.packing, strict=True))
    if layout.unsigned:
        found["_Unsigned"] = "true"
    if layout.valid == "valid_range":
        found["valid_range"] = list(limits)
    elif layout.valid:
        found |= dict(zip(("valid_min", "valid_max"), limits, strict=True))
    return found


def write(
    folder: Path,
    array: np.ndarray,
    layout: Layout,
    store: str,
    chunks: tuple[int, ...],
    described: dict[str, Any],
) -> str:
    """The data as a Zarr array with attributes, whose axes have names in format 3; its path.

    `chunks` are by samples and axes of features.
    """
    shape = layout.along_axes(chunks)
    names = layout.along_axes((_TIME, "y", "x")[: len(chunks)])
    if layout.parts:
        shape, names = (*shape, -(-layout.parts // 2)), (*names, _PART)
    shards = tuple((2 + i % 2) * side for i, side in enumerate(shape)) if store == "sharded" else None
    second = store == "zarr 2"
    written: zarr.Array[Any] = zarr.create_array(
        str(folder / "a.zarr"),
        shape=array.shape,
        chunks=shape,
        shards=shards,
        dtype=array.dtype,
        zarr_format=2 if second else 3,
        dimension_names=None if second else names,
        attributes=described,
        config={"write_empty_chunks": True},
    )
    written[...] = array
    return str(folder / "a.zarr")


def _ids(rng: np.random.Generator, how: str, count: int, left_out: int) -> np.ndarray:
    """`count` ids of so many more lines, ascending, that can be selected like that."""
    if how == "slice":
        return np.arange(count) + int(rng.integers(left_out + 1))
    if how == "steps":
        step = 1 + left_out // max(1, count - 1)
        return step * np.arange(count)
    return np.sort(rng.permutation(count + left_out)[:count])


def _given(how: str, ids: np.ndarray, length: int) -> Any:
    """The selection as a user writes it."""
    if how == "mask":
        return np.isin(np.arange(length), ids)
    if how == "ids":
        turned = slice(None, None, -1 if len(ids) < length else 1)
        return np.where(ids % 2, ids - length, ids)[turned]
    if how in ("slice", "steps"):
        step = int(ids[1] - ids[0]) if len(ids) > 1 else None
        return slice(int(ids[0]), int(ids[-1]) + 1, step)
    return None
