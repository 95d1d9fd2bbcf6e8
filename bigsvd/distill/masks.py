"""Masks by their texts: uniform, in blocks, of some columns, or those of a dataset's own rows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bigsvd.distill.gap_laws import BlockMasks, Masks, PatternMasks, Shares, UniformMasks, written
from bigsvd.distill.panels import RowPanels
from bigsvd.errors import RequestError
from bigsvd.results.standard import Standard
from bigsvd.sources.vectors import open_places

_SHARES = re.compile(r"(\d+(?:\.\d*)?)\.\.(\d+(?:\.\d*)?)", re.ASCII)
_FORMS = "uniform:LO..HI, blocks:LO..HI:LENGTH (or :HxW), columns:PATH or empirical:PATH"
_ROWS_KEPT_BYTES = 2**26  # of the gaps of a dataset, one bit an entry


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
            f"{written(masks.shape)}",
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
