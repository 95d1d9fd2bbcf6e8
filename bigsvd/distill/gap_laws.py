"""`Masks`: which entries a row in training is to be thought of as having, drawn by a counter.

What is drawn for a panel depends on the seed, the epoch and the panel alone, so that a training that goes on
after an interruption sees what it would have seen (Salmon et al. 2011).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import google_crc32c
import numpy as np

from bigsvd.distill.rows import Rows


class Masks(ABC):
    """A law of gaps."""

    @property
    @abstractmethod
    def text(self) -> str:
        """How it is asked for, and written down in a student."""

    @property
    def identity(self) -> str:
        """What two laws that draw the same have in common, whatever data they were taken from."""
        return self.text

    def draw(self, seed: int, epoch: int, start: int, b: int, n: int) -> np.ndarray:
        """Which entries of a panel of b rows from `start` on are seen, (b, n) bool."""
        counter = [0, 0, start, epoch]  # the lowest words are those that drawing moves on
        return self._drawn(np.random.Generator(np.random.Philox(key=seed, counter=counter)), b, n)

    def of(self, seed: int, epoch: int, rows: Rows) -> Rows:
        """The rows, seen no more than by what is drawn for them."""
        b, n = rows.seen.shape
        return rows.hide(~self.draw(seed, epoch, rows.start, b, n))

    @abstractmethod
    def _drawn(self, random: np.random.Generator, b: int, n: int) -> np.ndarray:
        """What is seen, (b, n) bool, by these numbers."""


@dataclass(frozen=True)
class Shares:
    """Limits between which the share that is seen of a row is drawn."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"

    def seen(self, random: np.random.Generator, b: int, count: int) -> np.ndarray:
        """Which of so many things are seen in each of b rows, by a share of its own, (b, count) bool."""
        shares = random.uniform(self.low, self.high, (b, 1))
        return np.asarray(random.random((b, count), dtype=np.float32) < shares)


@dataclass(frozen=True)
class UniformMasks(Masks):
    """Entries that are seen one by one."""

    shares: Shares

    @property
    def text(self) -> str:
        """See `Masks.text`."""
        return f"uniform:{self.shares}"

    def _drawn(self, random: np.random.Generator, b: int, n: int) -> np.ndarray:
        return self.shares.seen(random, b, n)


@dataclass(frozen=True, eq=False)
class BlockMasks(Masks):
    """Whole blocks of neighbouring features that are seen or not; each row is cut into blocks elsewhere.

    Attributes:
        size: of a block, along the axes that the features were stacked of. shape: the lengths of these.
        ids: which of these features there are, (n,); None where all are.

    """

    shares: Shares
    size: tuple[int, ...]
    shape: tuple[int, ...]
    ids: np.ndarray | None = None

    @property
    def text(self) -> str:
        """See `Masks.text`."""
        return f"blocks:{self.shares}:{written(self.size)}"

    def _drawn(self, random: np.random.Generator, b: int, n: int) -> np.ndarray:
        del n  # they are those of the shape
        block = self._block_of_each(random, b)
        seen = self.shares.seen(random, b, math.prod(map(self._along, self.shape, self.size)))
        return np.take_along_axis(seen, block, axis=1)

    @staticmethod
    def _along(length: int, size: int) -> int:
        """How many blocks a row has along an axis at most, wherever it is cut."""
        return (length - 1) // size + 2

    def _block_of_each(self, random: np.random.Generator, b: int) -> np.ndarray:
        """The number of the block in which each feature of each row lies, (b, n)."""
        block = np.zeros((b, 1), dtype=np.int64)
        for length, size in zip(self.shape, self.size, strict=True):
            along = (np.arange(length) + random.integers(0, size, (b, 1))) // size
            block = (block[:, :, None] * self._along(length, size) + along[:, None, :]).reshape(b, -1)
        return block if self.ids is None else block[:, self.ids]


def written(lengths: tuple[int, ...]) -> str:
    """Lengths along several axes as a person writes them, such as 28x28."""
    return "x".join(map(str, lengths))


@dataclass(frozen=True, eq=False)
class PatternMasks(Masks):
    """The gaps of rows that there are, each row's drawn among them.

    Attributes:
        asked: how they were asked for. packed: what these rows have, one bit an entry, (p, ⌈n/8⌉) uint8.

    """

    asked: str
    packed: np.ndarray

    @property
    def text(self) -> str:
        """See `Masks.text`."""
        return self.asked

    @property
    def identity(self) -> str:
        """See `Masks.identity`: data in memory have no name, and those at a path may be others by now."""
        return f"{self.asked}, crc32c {google_crc32c.value(np.ascontiguousarray(self.packed))}"

    def _drawn(self, random: np.random.Generator, b: int, n: int) -> np.ndarray:
        chosen = random.integers(0, len(self.packed), b)
        return np.unpackbits(self.packed[chosen], axis=1, count=n).astype(bool)
