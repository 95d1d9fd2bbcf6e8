"""Forms the long factor from the rows of Y in scratch, without the data.

U = Σ_b (Y_b − 1·offset_b)·C_b, in row blocks as Dask tasks: `gram` gives UᵀU, `triangle` the R of a
tall-skinny QR (Demmel et al. 2012, sequential TSQR in each task, one more QR over tasks), `write` stores the
rows. Order is that of the plan's lanes, so the bits do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bigsvd.blas import one_blas_thread
from bigsvd.chunks import Workspace
from bigsvd.errors import ChunkCorruptError, ChunkMissingError, StorageError
from bigsvd.passes import Context, await_workers, cluster_errors
from bigsvd.scratch import Scratch
from bigsvd.sources.base import Source
from bigsvd.sources.open import open_source

_PIECE_BYTES = 4 * 2**20
_BUDGET_SHARE = 1 / 16  # for the pieces of all tasks that run at a time
_TASK_BYTES = 48 * 2**20


@dataclass(frozen=True)
class Part:
    """Rows of Y in scratch and how they enter: (Y − 1·offset)·coefficients; (c,) and (c, L)."""

    name: str
    offset: np.ndarray
    coefficients: np.ndarray


@dataclass(frozen=True)
class RowBlock:
    """One task: rows (start, stop) of the long factor.

    They are read up to each multiple of `read_rows`, whole panels, so that no chunk of Y is decoded twice,
    and then handled `piece_rows` at a time, since a QR holds some copies of those.
    """

    scratch: Scratch
    parts: tuple[tuple[str, str, str], ...]
    post: str
    start: int
    stop: int
    read_rows: int
    piece_rows: int

    def pieces(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows and values (r, c) float64 of (Σ (Y − 1·offset)·C)·P."""
        post = self.scratch.read(self.post)
        space = Workspace()
        opened = [
            (open_source(self.scratch.path / y), self.scratch.read(offset), self.scratch.read(coefficients))
            for y, offset, coefficients in self.parts
        ]
        for top in range(self.start // self.read_rows * self.read_rows, self.stop, self.read_rows):
            first, last = max(top, self.start), min(top + self.read_rows, self.stop)
            pieces = [slice(a, min(a + self.piece_rows, last)) for a in range(first, last, self.piece_rows)]
            total = np.zeros((last - first, post.shape[0]))
            for y, offset, coefficients in opened:  # one after the other, all in the same memory
                Y = self._read(y, slice(first, last), space)
                for piece in pieces:
                    there = slice(piece.start - first, piece.stop - first)
                    total[there] += (Y[there].astype(np.float64) - offset) @ coefficients
            for piece in pieces:
                yield piece, total[piece.start - first : piece.stop - first] @ post

    def _read(self, y: Source, rows: slice, space: Workspace) -> np.ndarray:
        """Rows of one Y, read as panels are: Zarr's own pipeline would take most of the time."""
        try:
            return y.read(rows, slice(0, y.facts.shape[1]), space)
        except (ChunkMissingError, ChunkCorruptError) as error:
            raise StorageError(
                f"{y.facts.name} is damaged ({error.message})", f"delete {self.scratch.path} and run again"
            ) from error


@dataclass(frozen=True)
class Target:
    """Where the long factor goes: a scratch array (M, k), or (k, M) if `transposed`."""

    name: str
    transposed: bool


class LongFactor:
    """The long factor as a combination of stored Y blocks, the `parts`: (Σ (Y_b − 1·offset_b)·C_b)·P.

    P is applied last, to the very numbers whose Gram matrix it was computed from: that is what makes the
    product orthonormal to rounding where C cancels many digits.
    """

    def __init__(self, context: Context, parts: list[Part], post: np.ndarray, chunk_rows: int) -> None:
        scratch = context.scratch
        names = []
        for index, part in enumerate(parts):
            offset, coefficients = f"form/offset-{index}", f"form/coefficients-{index}"
            scratch.write(offset, part.offset)
            scratch.write(coefficients, part.coefficients)
            names.append((part.name, offset, coefficients))
        scratch.write("form/post", post)
        columns = sum(part.offset.size for part in parts) + 2 * post.shape[0]
        piece_rows = _piece_rows(context, columns)
        read_rows = max(1, piece_rows // context.plan.panel_rows) * context.plan.panel_rows
        self._context = context
        self._blocks = [
            RowBlock(scratch, tuple(names), "form/post", start, stop, read_rows, piece_rows)
            for start, stop in _aligned_lanes(context, chunk_rows, columns)
        ]

    def _map(self, function: Callable[..., Any], *more: Any) -> list[Any]:
        await_workers(self._context.client)
        futures = self._context.client.map(
            function, self._blocks, *([value] * len(self._blocks) for value in more), pure=False
        )
        with cluster_errors():
            return list(self._context.client.gather(futures))

    def gram(self) -> np.ndarray:
        """UᵀU (c, c)."""
        return np.asarray(np.sum(self._map(gram_rows), axis=0))

    def triangle(self) -> np.ndarray:
        """R (c, c) of the QR factorisation of the long factor."""
        return np.asarray(np.linalg.qr(np.concatenate(self._map(triangle_rows)), mode="r"))

    def signs(self) -> np.ndarray:
        """Sign of the entry of largest magnitude in each column, (c,)."""
        extremes = np.stack(self._map(extreme_rows))
        largest = np.argmax(np.abs(extremes), axis=0)
        return np.where(extremes[largest, np.arange(extremes.shape[1])] < 0, -1.0, 1.0)

    def write(self, target: Target) -> None:
        """Store the rows."""
        self._map(write_rows, target)


def _piece_rows(context: Context, columns: int) -> int:
    """Rows handled at a time; enough for a QR of them to be worth its R."""
    plan = context.plan
    most = min(_PIECE_BYTES, int(_BUDGET_SHARE * plan.budget_bytes / plan.threads))
    return max(most // (8 * columns), 2 * columns)


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


def gram_rows(block: RowBlock) -> np.ndarray:
    """UᵀU of one task's rows."""
    with one_blas_thread:
        total = None
        for _, values in block.pieces():
            part = values.T @ values
            total = part if total is None else total + part
        return np.asarray(total)


def triangle_rows(block: RowBlock) -> np.ndarray:
    """R of one task's rows."""
    with one_blas_thread:
        R = None
        for _, values in block.pieces():
            R = np.linalg.qr(values if R is None else np.concatenate([R, values]), mode="r")
        return np.asarray(R)


def extreme_rows(block: RowBlock) -> np.ndarray:
    """The entry of largest magnitude in each column of one task's rows, with its sign."""
    with one_blas_thread:
        best: np.ndarray | None = None
        for _, values in block.pieces():
            largest = np.argmax(np.abs(values), axis=0)
            found = values[largest, np.arange(values.shape[1])]
            best = found if best is None else np.where(np.abs(found) > np.abs(best), found, best)
        return np.asarray(best)


def write_rows(block: RowBlock, target: Target) -> None:
    """Store one task's rows, as many whole chunks at a time as are complete."""
    with one_blas_thread:
        array = block.scratch.open(target.name)
        chunk = array.chunks[1 if target.transposed else 0]
        begin, waiting = block.start, np.zeros((0, 0), array.dtype)
        for rows, values in block.pieces():
            fresh = values.astype(array.dtype)
            ready = np.concatenate([waiting, fresh]) if waiting.size else fresh
            count = len(ready) if rows.stop == block.stop else len(ready) // chunk * chunk
            if count:
                done = slice(begin, begin + count)
                array[(slice(None), done) if target.transposed else done] = (
                    ready[:count].T if target.transposed else ready[:count]
                )
            begin, waiting = begin + count, ready[count:]
