"""Forms the long factor from the rows of Y in scratch, without the data.

U = Σ_b (Y_b − r·offset_b)·C_b, in row blocks as tasks: `gram` gives UᵀU, `triangle` the R of a
tall-skinny QR (Demmel et al. 2012, sequential TSQR in each task, then a tree over tasks), `write` stores the
rows. Order is that of the plan's lanes, so the bits do not depend on the number of workers. What tasks find
goes through scratch, since all of it together may be more than fits.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from bigsvd.chunks.buffers import ReusableBuffer
from bigsvd.errors import travels
from bigsvd.execution.executor import Call, results_of
from bigsvd.execution.panel_cache import concurrency_limit, leave_seats
from bigsvd.execution.passes import Context
from bigsvd.machine.blas import one_blas_thread
from bigsvd.orientation import largest_entries
from bigsvd.planning.pieces import PIECE_BYTES, FormingTask, forming_rows
from bigsvd.planning.plan import Plan
from bigsvd.results.factor_array import FactorArray
from bigsvd.scratch import Scratch, ScratchArray

FORMING = "form"  # the folder of scratch for what this takes and leaves
_POST = f"{FORMING}/post"
# Matrices of tasks that are combined at a time, at least.
_LEAST_TOGETHER = 2
# Bytes of the long factor that a task has at least, since it takes some tens of milliseconds to begin.
_TASK_BYTES = 48 * 2**20


@dataclass(frozen=True)
class BasisBlock:
    """Rows `y` of Y in scratch and how they enter: (Y − r·offset)·coefficients; (c,) and (c, C) in scratch.

    The weights r of the rows, (M,), lie in scratch where they are not 1.
    Coefficients are those of the columns from `first` on that are not zero: of a block that was appended to
    a basis and never rotated, its own.
    """

    y: str
    offset: str
    coefficients: str
    columns: int
    first: int
    across: str | None = None


class BasisBlocks:
    """What B·K is the sum of, in scratch: coefficients of all passes may be more than the driver can hold.

    C is the number of columns of K.
    """

    def __init__(self, scratch: Scratch, folder: str) -> None:
        self._scratch = scratch
        self._folder = folder
        self.parts: list[BasisBlock] = []
        self.columns = 0

    def append(self, y: str, offset: np.ndarray, mixing: np.ndarray, across: str | None = None) -> None:
        """K has new columns, for which B·K = (Y − r·offset)·mixing, r those of `across` or 1."""
        self.parts.append(self._written(y, offset, mixing, self.columns, across))
        self.columns += mixing.shape[1]

    def times(self, E: np.ndarray, folder: str) -> BasisBlocks:
        """What B·K·E is the sum of."""
        found = BasisBlocks(self._scratch, folder)
        found.columns = E.shape[1]
        for part in self.parts:
            mixing = self._scratch.read(part.coefficients)
            product = mixing @ E[part.first : part.first + mixing.shape[1]]
            offset = self._scratch.read(part.offset)
            found.parts.append(found._written(part.y, offset, product, 0, part.across))
        return found

    def _written(
        self, y: str, offset: np.ndarray, coefficients: np.ndarray, first: int, across: str | None
    ) -> BasisBlock:
        index = len(self.parts)
        names = f"{self._folder}/offset-{index}", f"{self._folder}/coefficients-{index}"
        self._scratch.write(names[0], offset)
        self._scratch.write(names[1], coefficients)
        return BasisBlock(y, *names, offset.size, first, across)


@dataclass(frozen=True)
class RowBlock:
    """One task: rows (start, stop) of the long factor.

    They are read up to each multiple of `read_rows`, whole panels, so that no chunk of Y is decoded twice,
    and then handled `piece_rows` at a time, since a QR holds some copies of those.

    Attributes:
        columns: C, of the sum over the parts. post: where P (C, c) lies, None where it is the identity.
        token, turns: the run, and how many of its tasks have memory at a time.

    """

    scratch: Scratch
    parts: tuple[BasisBlock, ...]
    columns: int
    post: str | None
    start: int
    stop: int
    read_rows: int
    piece_rows: int
    token: str
    turns: int

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a turn, then free the buffers that lanes no longer use."""
        with concurrency_limit(self.token, self.turns), one_blas_thread:
            leave_seats(self.token)
            yield

    def pieces(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows and values (r, c) float64 of (Σ (Y − r·offset)·C)·P."""
        post = None if self.post is None else self.scratch.read(self.post)
        space = ReusableBuffer()
        opened = self._opened()
        for top in range(self.start // self.read_rows * self.read_rows, self.stop, self.read_rows):
            first, last = max(top, self.start), min(top + self.read_rows, self.stop)
            pieces = [slice(a, min(a + self.piece_rows, last)) for a in range(first, last, self.piece_rows)]
            total = np.zeros((last - first, self.columns))
            for part in opened:  # one after the other, all in the same memory
                Y = self._read(part, slice(first, last), space)
                coefficients = part.coefficients()
                for piece in pieces:
                    there = slice(piece.start - first, piece.stop - first)
                    wide = Y[there].astype(np.float64)
                    wide -= part.shifts(piece)
                    total[there, part.columns] += wide @ coefficients
            for piece in pieces:
                values = total[piece.start - first : piece.stop - first]
                yield piece, values if post is None else values @ post

    def _opened(self) -> list[_Opened]:
        """The parts; coefficients of the first are kept, as many as take little."""
        opened, left = [], PIECE_BYTES
        for part in self.parts:
            read = partial(self.scratch.read, part.coefficients)
            found = read()
            columns = slice(part.first, part.first + found.shape[1])
            left -= found.nbytes
            coefficients = partial(np.asarray, found) if left >= 0 else read
            y, offset = self.scratch.open(part.y), self.scratch.read(part.offset)
            across = None if part.across is None else self.scratch.open(part.across)
            opened.append(_Opened(y, offset, coefficients, columns, across))
        return opened

    def _read(self, part: _Opened, rows: slice, space: ReusableBuffer) -> np.ndarray:
        """Rows of one Y, in memory that is used again; all of them have been written."""
        found = space.take((rows.stop - rows.start, part.y.shape[1]), part.y.dtype)
        part.y.read_into(rows, found)
        return found


@dataclass(frozen=True)
class _Opened:
    """A `BasisBlock` in a task; `columns` of the sum are those its coefficients are of."""

    y: ScratchArray
    offset: np.ndarray
    coefficients: Callable[[], np.ndarray]
    columns: slice
    across: ScratchArray | None

    def shifts(self, rows: slice) -> np.ndarray:
        """What is subtracted from rows of Y."""
        if self.across is None:
            return self.offset
        return np.outer(self.across[rows], self.offset)


class LongFactor:
    """The long factor as a combination of stored Y blocks, the `parts`: (Σ (Y_b − r·offset_b)·C_b)·P.

    P is applied last, to the very numbers whose Gram matrix it was computed from: that is what makes the
    product orthonormal to rounding where C cancels many digits. None stands for the identity.
    """

    def __init__(
        self, context: Context, parts: BasisBlocks, post: np.ndarray | None, chunk_rows: int
    ) -> None:
        scratch, plan = context.scratch, context.plan
        if post is not None:
            scratch.write(_POST, post)
        stored = scratch.open(parts.parts[0].y).dtype  # float64 where a run had to change to it
        task = _task(plan, parts, stored.itemsize)
        turns = max(1, min(plan.threads, plan.forming_bytes // task.bytes))
        self._context = context
        self._columns = parts.columns
        self._blocks = [
            RowBlock(
                scratch, tuple(parts.parts), parts.columns, None if post is None else _POST, start, stop,
                task.read_rows, task.piece_rows, context.token, turns,
            )
            for start, stop in _aligned_lanes(context, chunk_rows, task.stored + 2 * task.columns)
        ]  # fmt: skip

    def _map(self, function: Callable[..., Any], *more: Any) -> list[Any]:
        calls = [Call(function, (block, *more)) for block in self._blocks]
        return results_of(self._context.executor, calls)

    def gram(self) -> np.ndarray:
        """UᵀU (c, c)."""
        total = None
        for name in self._map(gram_rows):
            part = _take(self._context.scratch, name)
            total = part if total is None else total + part
        return np.asarray(total)

    def triangle(self) -> np.ndarray:
        """R (c, c) of the QR factorisation of the long factor, from all tasks' or in a tree of them."""
        scratch = self._context.scratch
        together = max(_LEAST_TOGETHER, PIECE_BYTES // (8 * self._columns**2))
        names = self._map(triangle_rows)
        while len(names) > together:
            groups = [tuple(names[i : i + together]) for i in range(0, len(names), together)]
            calls = [Call(join_triangles, (self._blocks[0], group)) for group in groups]
            names = results_of(self._context.executor, calls)
        return np.asarray(np.linalg.qr(np.concatenate([_take(scratch, name) for name in names]), mode="r"))

    def largest_entries(self) -> np.ndarray:
        """The entry of largest magnitude in each column, with its sign, (c,)."""
        return largest_entries(np.stack(self._map(largest_of_rows)))

    def write(self, target: FactorArray) -> None:
        """Store the rows."""
        self._map(write_rows, target)


def _task(plan: Plan, parts: BasisBlocks, itemsize: int) -> FormingTask:
    """What each task handles at a time."""
    blocks = [part.columns for part in parts.parts]
    piece_rows = forming_rows(sum(blocks), parts.columns, plan.budget_bytes, plan.threads)
    return FormingTask(plan.panel_rows, piece_rows, max(blocks), sum(blocks), parts.columns, itemsize)


def _leave(scratch: Scratch, values: np.ndarray) -> str:
    """Leave a task's matrix in scratch, under a name that no second run of the task has.

    All tasks' together may be more than the driver has memory for.
    """
    name = f"{FORMING}/part-{uuid.uuid4()}"
    scratch.write(name, values)
    return name


def _take(scratch: Scratch, name: str) -> np.ndarray:
    values = scratch.read(name)
    scratch.remove(name)
    return values


def _aligned_lanes(context: Context, chunk_rows: int, columns: int) -> list[tuple[int, int]]:
    """The plan's lanes as row ranges moved to chunk borders, so that no two tasks write one chunk.

    Neighbours are joined up to `_TASK_BYTES`: a task takes some tens of milliseconds to begin.
    """
    plan = context.plan
    least = max(1, _TASK_BYTES // (columns * np.dtype(plan.compute_dtype).itemsize))
    edges = [0]
    for first, _ in plan.lanes:
        edge = min(plan.rows, -(-first * plan.panel_rows // chunk_rows) * chunk_rows)
        if edge - edges[-1] >= least:
            edges.append(edge)
    return [(a, b) for a, b in pairwise([*edges, plan.rows]) if b > a]


@travels
def gram_rows(block: RowBlock) -> str:
    """UᵀU of one task's rows; its name in scratch."""
    with block.slot():
        total = None
        for _, values in block.pieces():
            part = values.T @ values
            if total is None:
                total = part
            else:
                total += part
        return _leave(block.scratch, np.asarray(total))


@travels
def triangle_rows(block: RowBlock) -> str:
    """R of one task's rows; its name in scratch."""
    with block.slot():
        R = None
        for _, values in block.pieces():
            R = np.linalg.qr(values if R is None else np.concatenate([R, values]), mode="r")
        return _leave(block.scratch, np.asarray(R))


@travels
def join_triangles(block: RowBlock, names: tuple[str, ...]) -> str:
    """R of the R of several tasks, which are left for one that runs again."""
    with block.slot():
        R = np.linalg.qr(np.concatenate([block.scratch.read(name) for name in names]), mode="r")
        return _leave(block.scratch, np.asarray(R))


@travels
def largest_of_rows(block: RowBlock) -> np.ndarray:
    """The entry of largest magnitude in each column of one task's rows, with its sign."""
    with block.slot():
        return largest_entries(np.stack([largest_entries(values) for _, values in block.pieces()]))


@travels
def write_rows(block: RowBlock, target: FactorArray) -> None:
    """Store one task's rows, as many whole chunks at a time as are complete."""
    with block.slot():
        found = target.open(block.scratch)
        chunk, dtype = found.chunk, found.array.dtype
        begin, waiting = block.start, np.zeros((0, 0), dtype)
        for rows, values in block.pieces():
            fresh = values.astype(dtype)
            ready = np.concatenate([waiting, fresh]) if waiting.size else fresh
            count = len(ready) if rows.stop == block.stop else len(ready) // chunk * chunk
            if count:
                found[begin : begin + count] = ready[:count]
            begin, waiting = begin + count, ready[count:]
