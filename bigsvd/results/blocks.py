"""`Blocked`: an array-like that is had in blocks of lines along one axis, each made when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import numpy as np

Make = Callable[[], np.ndarray]


class Keep(Protocol):
    """Whoever keeps arrays that were made, so that they are not made again."""

    def __call__(self, key: Hashable, make: Make) -> np.ndarray:
        """The array of that key, which nobody may change; made now unless it is kept."""


def keep_nothing(key: Hashable, make: Make) -> np.ndarray:  # noqa: ARG001 - of a `Keep`
    """A `Keep` that makes each array anew."""
    return make()


class Blocked:
    """An array of one or two axes, of which block b holds the lines from b·grain along `axis`.

    It is read by slices of step 1, and along `axis` by ascending integers too. What lies in one block comes
    as a view of it.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        axis: int,
        grain: int,
        block: Callable[[int], np.ndarray],
    ) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._axis, self._grain, self._block = axis, grain, block

    @property
    def chunks(self) -> tuple[int, ...]:
        """The lengths of a block."""
        return tuple(self._grain if i == self._axis else side for i, side in enumerate(self.shape))

    def __getitem__(self, key: Any) -> np.ndarray:
        parts = list(key) if isinstance(key, tuple) else [key]
        parts += [slice(None)] * (self.ndim - len(parts))
        lines, parts[self._axis] = parts[self._axis], slice(None)
        found = self._lines(lines)[tuple(parts)]
        return np.asarray(found)

    def _lines(self, lines: Any) -> np.ndarray:
        """Some lines, whole."""
        if isinstance(lines, slice):
            start, stop, step = lines.indices(self.shape[self._axis])
            if step != 1:
                message = f"a step of {step}, which blocks are not read by"
                raise IndexError(message)
            return self._joined([self._within(b, start, stop) for b in self._blocks_of(start, stop)])
        index = np.asarray(lines)
        numbers = index // self._grain
        parts = [
            self._block(b).take(index[numbers == b] - b * self._grain, axis=self._axis)
            for b in np.unique(numbers).tolist()
        ]
        return self._joined(parts)

    def _blocks_of(self, start: int, stop: int) -> range:
        return range(start // self._grain, -(-stop // self._grain) if stop > start else start // self._grain)

    def _within(self, b: int, start: int, stop: int) -> np.ndarray:
        first, block = b * self._grain, self._block(b)
        lines = slice(max(start - first, 0), min(stop - first, block.shape[self._axis]))
        return block[(slice(None),) * self._axis + (lines,)]

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        if len(parts) == 1:
            return parts[0]
        if not parts:
            empty = [0 if i == self._axis else side for i, side in enumerate(self.shape)]
            return np.empty(empty, self.dtype)
        return np.concatenate(parts, axis=self._axis)
