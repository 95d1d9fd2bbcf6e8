"""`Masks`: which entries a row in training is to be thought of as having, drawn by a counter.

What is drawn for a panel depends on the seed, the epoch and the panel alone, so that a training that goes on
after an interruption sees what it would have seen (Salmon et al. 2011).
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bigsvd.distill.panels import RowPanels
from bigsvd.distill.rows import Rows
from bigsvd.errors import RequestError
from bigsvd.results.standard import Standard
from bigsvd.sources.vectors import open_places

_SHARES = re.compile(r"(\d+(?:\.\d*)?)\.\.(\d+(?:\.\d*)?)", re.ASCII)
_FORMS = "uniform:LO..HI, blocks:LO..HI:LENGTH (or :HxW), columns:PATH or empirical:PATH"
_ROWS_KEPT_BYTES = 2**26  # of the gaps of a dataset, one bit an entry


class Masks(ABC):
    """A law of gaps."""

    @property
    @abstractmethod
    def text(self) -> str:
        """How it is asked for, and written down in a student."""

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
        return f"blocks:{self.shares}:{_by(self.size)}"

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


def _by(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))


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

    def _drawn(self, random: np.random.Generator, b: int, n: int) -> np.ndarray:
        chosen = random.integers(0, len(self.packed), b)
        return np.unpackbits(self.packed[chosen], axis=1, count=n).astype(bool)


def empirical(text: str, panels: RowPanels) -> PatternMasks:
    """The gaps of a dataset's own rows; of a large one those of panels that are spread over it evenly.

    Raises:
        RequestError: nothing of the dataset was observed.

    """
    found = [np.packbits(rows.seen, axis=1) for rows in panels.some(_spread(panels))]
    packed = np.concatenate(found)
    if not packed.any():
        raise RequestError(
            f"{panels.source.facts.name} has no observed entry", "give data of which something was seen"
        )
    return PatternMasks(text, packed)


def _spread(panels: RowPanels) -> list[int]:
    """As many panels as may be kept, by number."""
    panel_bytes = math.ceil(panels.standard.n / 8) * panels.rows_per_panel
    most = min(len(panels), max(1, _ROWS_KEPT_BYTES // panel_bytes))
    return [*map(int, np.linspace(0, len(panels) - 1, most))]


def parse_masks(
    text: str, standard: Standard, shape: tuple[int, ...], rows_of: Callable[[str], RowPanels]
) -> Masks:
    """The masks that a text asks for.

    Args:
        text: "uniform:LO..HI"; "blocks:LO..HI:LENGTH", or ":HxW" where features were stacked of axes;
            "columns:PATH" of a vector of truth values or of indices of features that are seen in every row;
            "empirical:PATH" of a dataset, whose gaps they are.
        standard: of the teacher, whose features the masks are of.
        shape: the lengths of the axes that the features of its data were stacked of.
        rows_of: opens a dataset by its path, in the units of the teacher.

    Raises:
        RequestError: it is none of these, or a share is not in 0..1.

    """
    kind, _, rest = text.partition(":")
    if kind == "empirical" and rest:
        return empirical(text, rows_of(rest))
    if kind == "columns" and rest:
        return _columns(text, rest, standard.n)
    shares, _, size = rest.partition(":")
    if kind not in ("uniform", "blocks") or bool(size) != (kind == "blocks"):
        raise _unknown(text)
    limits = _limits(text, shares)
    if kind == "uniform":
        return UniformMasks(limits)
    return _blocks(text, BlockMasks(limits, _sides(text, size), shape, standard.ids), standard.n)


def _unknown(text: str) -> RequestError:
    return RequestError(f"masks={text!r} is not known", f"give {_FORMS}")


def _limits(text: str, shares: str) -> Shares:
    """The limits of the share seen, which are written as 0.1..0.5."""
    match = _SHARES.fullmatch(shares)
    if not match:
        raise _unknown(text)
    low, high = map(float, match.groups())
    if not 0.0 <= low <= high <= 1.0 or high == 0.0:
        raise RequestError(f"masks={text!r} has shares from {low:g} to {high:g}", "give 0 <= LO <= HI <= 1")
    return Shares(low, high)


def _sides(text: str, size: str) -> tuple[int, ...]:
    """A size that is written as 50 or 8x8."""
    sides = size.split("x")
    if not all(side.isdecimal() and int(side) for side in sides):
        raise _unknown(text)
    return tuple(map(int, sides))


def _blocks(text: str, masks: BlockMasks, n: int) -> BlockMasks:
    """The same; where one length is given, along the features as they follow each other."""
    if len(masks.size) == 1:
        return replace(masks, shape=(n,), ids=None)
    if len(masks.size) != len(masks.shape):
        raise RequestError(
            f"masks={text!r} has blocks along {len(masks.size)} axes, the features lie along "
            f"{_by(masks.shape)}",
            "give a side for each of these axes, or one length",
        )
    return masks


def _columns(text: str, path: str, n: int) -> PatternMasks:
    """The features that are seen in every row, of truth values or indices at a path."""
    values = open_places("masks", Path(path), None, n).values.reshape(-1)
    if values.dtype != bool:
        values = _truths(text, values, n)
    if values.size != n or not values.any():
        raise RequestError(
            f"masks={text!r} has {values.size} truth values, {np.count_nonzero(values)} of them true",
            f"give one for each of the {n} features, true where it is seen",
        )
    return PatternMasks(text, np.packbits(values)[None, :])


def _truths(text: str, ids: np.ndarray, n: int) -> np.ndarray:
    """Features by index as truth values (n,)."""
    if not np.all((ids >= 0) & (ids < n)):
        raise RequestError(f"masks={text!r} has indices beyond the {n} features", f"give 0 to {n - 1}")
    return np.isin(np.arange(n), ids)
