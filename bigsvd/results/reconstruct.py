"""Any part of A ≈ U·diag(s)·Vt (times scales, plus mean), computed when it is read and never stored.

One value, `LowRank`, and ways to read it: `region` gives a NumPy block, `to_dask` a Dask array, and
`virtual_store.to_zarr` a read-only Zarr array that other programs open as if it lay on disk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from bigsvd.devices.arithmetic import multiply
from bigsvd.devices.base import Device
from bigsvd.devices.cpu import CpuDevice
from bigsvd.floats import silent
from bigsvd.results.kept import Kept

if TYPE_CHECKING:
    import dask.array

Block: TypeAlias = npt.NDArray[np.floating[Any]]
Selection: TypeAlias = int | slice | Sequence[int] | Sequence[bool] | npt.NDArray[np.integer[Any] | np.bool_]
_Positions: TypeAlias = range | npt.NDArray[np.intp]

_NDIM = 2
_PIECE_BYTES = 64 * 2**20
_FAR = 2.0**30  # factors of lines beyond this, or its inverse, are left to float64


class ArrayLike(Protocol):
    """An array that is read by ``[...]``, and by ``.oindex[...]`` where it has one: NumPy or Zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""

    def __getitem__(self, key: Any, /) -> Any:
        """The entries at `key`."""


class Gaps(Protocol):
    """Which entries of A have no value."""

    def among(
        self, rows: npt.NDArray[np.intp], cols: npt.NDArray[np.intp]
    ) -> Iterable[tuple[tuple[slice, slice], npt.NDArray[np.bool_]]]:
        """Parts of ``A[rows][:, cols]``, both ascending, and which entries of each have no value.

        Parts that are left out have no gaps.
        """


@dataclass(frozen=True, eq=False)
class LowRank:
    """A ≈ diag(row_scale)·(U·diag(s)·Vt)·diag(scale) + 1·mean, an (m, n) matrix held as its factors.

    Where the features are A's rows it is diag(scale)·(U·diag(s)·Vt)·diag(row_scale) + mean·1.

    Shapes that do not fit each other, negative or NaN singular values, chunks below 1 and other dtypes are
    refused with ValueError.

    Attributes:
        U: (m, ≥k); only its first k columns are read.
        s: (k,) float64, not negative. Fewer values than `U` has columns make the truncation to k.
        Vt: (≥k, n); only its first k rows are read.
        mean: of the features, (n,) or (m,), in the units of A, or None where nothing was subtracted.
        scale: the same of what was divided by. row_scale: of the samples, (m,) or (n,), or None. NaN in
            either is what is not known.
        chunks: rows and columns of the blocks that a reader of the whole matrix should ask for.
        dtype: float32 or float64, of what is computed and of the arithmetic.
        device: where large products are made; it must be there for whoever reads.
        features_axis: the axis of A that numbers the features.
        gaps: which entries are to be NaN, since A has no value there; None where all are to be numbers.
        kept: which rows and columns of the data A is, where it is not all of them: others are NaN.

    """

    U: ArrayLike
    s: npt.NDArray[np.float64] = field(repr=False)
    Vt: ArrayLike
    mean: ArrayLike | None = field(repr=False)
    scale: ArrayLike | None = field(repr=False)
    chunks: tuple[int, int]
    dtype: np.dtype[Any]
    device: Device = field(default=CpuDevice(), repr=False)
    row_scale: ArrayLike | None = field(default=None, repr=False)
    features_axis: int = 1
    gaps: Gaps | None = field(default=None, repr=False)
    kept: Kept | None = None

    def __post_init__(self) -> None:
        k = len(self.s)
        shapes = self.U.shape, self.Vt.shape
        if any(len(shape) != _NDIM for shape in shapes) or min(self.U.shape[1], self.Vt.shape[0]) < k:
            raise ValueError(
                f"U {self.U.shape} and Vt {self.Vt.shape} do not hold the vectors of {k} singular values"
            )
        if not (self.s >= 0).all():
            raise ValueError("s has a negative or undefined singular value")
        own = self.U.shape[0], self.Vt.shape[-1]
        features, samples = own[self.features_axis], own[1 - self.features_axis]
        for name, line in (("mean", self.mean), ("scale", self.scale)):
            if line is not None and line.shape != (features,):
                raise ValueError(f"{name} has shape {line.shape} but the matrix has {features} features")
        if self.row_scale is not None and self.row_scale.shape != (samples,):
            raise ValueError(f"row_scale has shape {self.row_scale.shape} but there are {samples} samples")
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ValueError(f"dtype is {self.dtype} but a reconstruction is float32 or float64")
        if len(self.chunks) != _NDIM or min(self.chunks) < 1:
            raise ValueError(f"chunks are {self.chunks} but must be two positive lengths")

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), of the data."""
        if self.kept is not None:
            return self.kept.shape
        return self.U.shape[0], self.Vt.shape[1]

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """`chunks`, no longer than the matrix."""
        (m, n), (height, width) = self.shape, self.chunks
        return min(height, max(m, 1)), min(width, max(n, 1))

    @property
    def ndim(self) -> int:
        """2, which is how Dask knows an array."""
        return _NDIM

    def __getitem__(self, key: Any) -> Any:
        """The entries at `key`, as `getitem`."""
        return getitem(self, key)

    def __len__(self) -> int:
        """M."""
        return self.shape[0]

    def __iter__(self) -> Iterator[Block]:
        """The rows, one computed at a time."""
        return (self[row] for row in range(self.shape[0]))

    def __eq__(self, other: object) -> bool:
        """Same factors: NumPy arrays by their entries, Zarr arrays by where they lie."""
        if not isinstance(other, LowRank):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        return hash((self.shape, self.chunks, self.dtype))


@silent
def region(low_rank: LowRank, rows: Selection, cols: Selection) -> Block:
    """Entries ``A[rows, cols]`` of what `LowRank` stands for, each axis selected on its own.

    `rows` and `cols` are each an int (drops the axis), a slice, a 1-D integer array or list (any order,
    repeats allowed), or a boolean mask of the axis' length; negative integers count from the end. Two arrays
    select their outer product, as Zarr's `oindex` and ``A[np.ix_(rows, cols)]`` do. The result is
    (rows, cols), in `low_rank.dtype`; with two ints it is 0-dimensional.

    Each chunk of U and Vt that holds a selected row or column is read once, no other is read, and beside the
    result and the shorter factor about 64 MiB are held. An index outside the axis, a mask of another length
    or anything else is refused with IndexError before anything is read.
    """
    m, n = low_rank.shape
    row_axis, col_axis = _Axis.parse(rows, m, 0), _Axis.parse(cols, n, 1)
    block = _block(low_rank, row_axis.positions, col_axis.positions)
    arranged: Block = block[row_axis.arrange][..., col_axis.arrange]
    return arranged


def getitem(low_rank: LowRank, key: Any) -> Any:
    """`region` by one subscript: ``A[i]``, ``A[i, j]``, ``A[a:b, c:d]``, ``A[...]``, ``A[..., j]``.

    Returns an array in `low_rank.dtype`, or a NumPy scalar where both axes are given an int. More than two
    indices, more than one ellipsis and new axes are refused with IndexError.
    """
    rows, cols = row_and_column(key)
    return region(low_rank, rows, cols)[()]


def row_and_column(key: Any) -> tuple[Any, Any]:
    """The two selections that the subscript of a matrix means, whole axes where it leaves one out."""
    parts = list(key) if isinstance(key, tuple) else [key]
    ellipses = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    given = len(parts) - len(ellipses)
    if given > _NDIM:
        raise IndexError(f"too many indices for array: array is 2-dimensional, but {given} were indexed")
    at = ellipses[0] if ellipses else len(parts)
    rows, cols = parts[:at] + [slice(None)] * (_NDIM - given) + parts[at + 1 :]
    return rows, cols


def to_dask(low_rank: LowRank) -> dask.array.Array:
    """The (m, n) Dask array of the reconstruction, in blocks of `low_rank.chunks`.

    Each block, or the part of it that is asked for, is computed from its own rows of U and columns of Vt. The
    graph holds the factors once and by reference where they are Zarr arrays, so it can be sent to a cluster
    that reaches their store.
    """
    import dask.array  # noqa: PLC0415 - importing bigsvd must not import Dask

    return dask.array.from_array(
        low_rank, chunks=low_rank.chunk_shape, asarray=False, meta=np.empty((0, 0), low_rank.dtype)
    )


@dataclass(frozen=True)
class _Axis:
    """A selection along one axis: the positions to read, ascending and each once, and how to arrange them."""

    positions: _Positions
    arrange: int | slice | npt.NDArray[np.intp]

    @classmethod
    def parse(cls, selection: Selection, length: int, axis: int) -> _Axis:
        """The selection along an axis of `length`; IndexError for whatever NumPy refuses."""
        if isinstance(selection, slice):
            asked = range(*selection.indices(length))
            return cls(asked, slice(None)) if asked.step > 0 else cls(asked[::-1], slice(None, None, -1))
        index = np.asarray(selection)
        if index.size == 0 and not isinstance(selection, np.ndarray):
            index = index.astype(np.intp)
        if index.dtype.kind not in ("iu" if index.ndim == 0 else "iub") or index.ndim > 1:
            raise IndexError(
                f"axis {axis} is indexed by {selection!r}, but only integers, slices (`:`), ellipsis (`...`) "
                "and one-dimensional integer or boolean arrays are valid indices"
            )
        if index.dtype.kind == "b":
            return cls._parse_mask(index, length, axis)
        return cls._parse_integers(index, length, axis)

    @classmethod
    def _parse_mask(cls, mask: npt.NDArray[Any], length: int, axis: int) -> _Axis:
        if len(mask) != length:
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis}; size of axis is {length} but "
                f"size of corresponding boolean axis is {len(mask)}"
            )
        return cls(np.flatnonzero(mask), slice(None))

    @classmethod
    def _parse_integers(cls, index: npt.NDArray[Any], length: int, axis: int) -> _Axis:
        outside = (index < -length) | (index >= length)
        if outside.any():
            raise IndexError(f"index {index[outside][0]} is out of bounds for axis {axis} with size {length}")
        wrapped = index.astype(np.intp)
        wrapped[wrapped < 0] += length
        if wrapped.ndim == 0:
            return cls(range(int(wrapped), int(wrapped) + 1), 0)
        if (wrapped[1:] > wrapped[:-1]).all():
            return cls(wrapped, slice(None))
        return cls(*np.unique(wrapped, return_inverse=True))


def _block(low_rank: LowRank, rows: _Positions, cols: _Positions) -> Block:
    """The entries at some positions of the data, NaN where they were left out."""
    if low_rank.kept is None:
        return _product(low_rank, rows, cols)
    block = np.full((len(rows), len(cols)), np.nan, low_rank.dtype)
    (at_rows, own_rows), (at_cols, own_cols) = (
        low_rank.kept.among(axis, np.asarray(positions, dtype=np.intp))
        for axis, positions in enumerate((rows, cols))
    )
    block[np.ix_(at_rows, at_cols)] = _product(low_rank, own_rows, own_cols)
    return block


def _product(low_rank: LowRank, rows: _Positions, cols: _Positions) -> Block:
    """(U[rows]·√s) @ (√s·Vt[:, cols]) · row_scale · scale + mean, of the samples and features there.

    Half of each singular value goes to either side: no intermediate then leaves the range of float32 unless
    the result does, although s itself may (s grows with √(m·n), the entries of U and Vt shrink with it).
    """
    # Before any read: a block too large for memory is refused at once.
    block = np.empty((len(rows), len(cols)), low_rank.dtype)
    if block.size == 0:
        return block
    both, axis = (rows, cols), low_rank.features_axis
    features, samples = _subscript(both[axis]), _subscript(both[1 - axis])
    scale, across = _factor(low_rank.scale, features), _factor(low_rank.row_scale, samples)
    if low_rank.dtype == np.float32 and not (_moderate(scale) and _moderate(across)):
        wide = _product(replace(low_rank, dtype=np.dtype(np.float64)), rows, cols)
        with np.errstate(over="ignore", under="ignore"):
            return wide.astype(low_rank.dtype)
    if len(cols) <= len(rows):
        right = _right(low_rank, cols)
        for piece in _pieces(low_rank, rows, _grain(low_rank.U, 0)):
            multiply(low_rank.device, _left(low_rank, rows[piece]), right, block[piece])
    else:
        left = _left(low_rank, rows)
        for piece in _pieces(low_rank, cols, _grain(low_rank.Vt, 1)):
            multiply(low_rank.device, left, _right(low_rank, cols[piece]), block[:, piece])
    by_feature = (block.T, block)[axis]
    if across is not None:
        by_feature *= across.astype(low_rank.dtype)[:, None]
    if scale is not None:
        by_feature *= scale.astype(low_rank.dtype)
    if low_rank.mean is not None:
        by_feature += _read(low_rank.mean, (features,), low_rank.dtype)
    if low_rank.gaps is not None:
        for part, missing in low_rank.gaps.among(np.asarray(rows), np.asarray(cols)):
            block[part][missing] = np.nan
    return block


def _factor(array: ArrayLike | None, some: slice | npt.NDArray[np.intp]) -> Block | None:
    """What some lines are multiplied by, float64; None where they are not."""
    if array is None:
        return None
    return _read(array, (some,), np.dtype(np.float64))


def _moderate(factor: Block | None) -> bool:
    """Whether float32 holds the factors and what they make of numbers that it holds well."""
    if factor is None:
        return True
    size = np.abs(factor[np.isfinite(factor) & (factor != 0)])
    return bool(np.all((size > 1 / _FAR) & (size < _FAR)))


def _left(low_rank: LowRank, rows: _Positions) -> Block:
    """U[rows]·√s, (rows, k)."""
    u = _read(low_rank.U, (_subscript(rows), slice(0, len(low_rank.s))), low_rank.dtype)
    scaled: Block = u * np.sqrt(low_rank.s).astype(low_rank.dtype)
    return scaled


def _right(low_rank: LowRank, cols: _Positions) -> Block:
    """√s·Vt[:, cols], (k, cols)."""
    vt = _read(low_rank.Vt, (slice(0, len(low_rank.s)), _subscript(cols)), low_rank.dtype)
    scaled: Block = vt * np.sqrt(low_rank.s).astype(low_rank.dtype)[:, None]
    return scaled


def _read(array: ArrayLike, subscripts: tuple[Any, ...], dtype: np.dtype[Any]) -> Block:
    return np.asarray(getattr(array, "oindex", array)[subscripts], dtype=dtype)


def _subscript(positions: _Positions) -> slice | npt.NDArray[np.intp]:
    """How to ask an array for `positions`.

    Only a step of 1 becomes a slice: Zarr's slices also read chunks that a long step jumps over.
    """
    if isinstance(positions, range) and positions.step == 1:
        return slice(positions.start, positions.stop)
    return np.asarray(positions, dtype=np.intp)


def _pieces(low_rank: LowRank, positions: _Positions, grain: int) -> Iterator[slice]:
    """Cuts of `positions` that read about `_PIECE_BYTES` each, between chunks so that none is read twice."""
    grain_bytes = max(grain * len(low_rank.s) * low_rank.dtype.itemsize, 1)
    length = max(_PIECE_BYTES // grain_bytes, 1) * grain
    edges = range((int(positions[0]) // length + 1) * length, int(positions[-1]) + 1, length)
    cuts = [0, *(bisect_left(positions, edge) for edge in edges), len(positions)]
    return (slice(start, stop) for start, stop in pairwise(cuts) if start < stop)


def _grain(array: ArrayLike, axis: int) -> int:
    """How many positions along `axis` are stored, and so best read, together."""
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    return int(chunks[axis]) if chunks else 1


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)
