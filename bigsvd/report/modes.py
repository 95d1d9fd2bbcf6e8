"""Pictures of modes: maps and series of each, and below all what they explain, with North's errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import MaxNLocator

from bigsvd.floats import silent

_MAP_INCHES, _SERIES_INCHES, _ROW_INCHES = 4.2, 5.0, 2.5


@dataclass(frozen=True, eq=False)
class Map:
    """A mode of one variable: values over one axis (c,) or two (y, x), NaN where there are none.

    Attributes:
        axes: what the axes are called, and their coordinates, in the order of `values`.
        downwards: whether rows are drawn from the top, as those of a picture.

    """

    title: str
    values: np.ndarray
    axes: tuple[tuple[str, np.ndarray], ...]
    downwards: bool = False


@dataclass(frozen=True, eq=False)
class Series:
    """The scores of the samples on one mode, against a coordinate of theirs."""

    name: str
    coordinate: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Mode:
    """A mode: its number from 1 on, its share of the variance, a map for each variable, and its series."""

    number: int
    share: float
    maps: Sequence[Map]
    series: Series


@silent
def write_modes(
    modes: Sequence[Mode], shares: np.ndarray, errors: np.ndarray, path: str | os.PathLike[str]
) -> None:
    """Write a PNG to `path`: a row for each mode, and at last the shares (k,) of all, with their errors (k,).

    Draws with Agg: needs no display, leaves pyplot alone.
    """
    maps = len(modes[0].maps)
    size = (_MAP_INCHES * maps + _SERIES_INCHES, _ROW_INCHES * (len(modes) + 1))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(modes) + 1, maps + 1)
    for row, mode in enumerate(modes):
        _draw_row(figure, grid, row, mode)
    _draw_shares(figure.add_subplot(grid[-1, :]), shares, errors)
    figure.savefig(path, format="png")


def _draw_row(figure: Figure, grid: GridSpec, row: int, mode: Mode) -> None:
    for column, one in enumerate(mode.maps):
        axes = figure.add_subplot(grid[row, column])
        draw_map(figure, axes, one)
        axes.set_title(f"{one.title}, mode {mode.number}", fontsize="medium")
    series = figure.add_subplot(grid[row, -1])
    _draw_series(series, mode.series)
    series.set_title(f"scores of mode {mode.number}, {mode.share:.1%} of the variance", fontsize="medium")


def draw_map(figure: Figure, axes: Axes, one: Map) -> None:
    """A mode of one variable, in colours or as a curve."""
    if one.values.ndim == 1:
        _draw_profile(axes, one)
        return
    (y_name, y), (x_name, x) = one.axes
    most = float(np.nanmax(np.abs(one.values), initial=0.0)) or 1.0
    axes.set_facecolor("0.85")  # where there is no value
    picture = axes.pcolormesh(x, y, one.values, cmap="RdBu_r", vmin=-most, vmax=most, shading="nearest")
    figure.colorbar(picture, ax=axes)
    axes.set(xlabel=x_name, ylabel=y_name)
    if one.downwards:
        axes.invert_yaxis()


def _draw_profile(axes: Axes, one: Map) -> None:
    [(name, coordinate)] = one.axes
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.plot(coordinate, one.values, color="0.15", linewidth=1.2)
    axes.set_xlabel(name)


def _draw_series(axes: Axes, series: Series) -> None:
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.plot(series.coordinate, series.scores, color="0.15", linewidth=1.0)
    if series.coordinate.dtype.kind == "M":
        locator = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel(series.name)
    axes.margins(x=0)


def _draw_shares(axes: Axes, shares: np.ndarray, errors: np.ndarray) -> None:
    numbers: Any = np.arange(1, len(shares) + 1)
    axes.errorbar(numbers, 100 * shares, 100 * errors, fmt="o", color="0.15", capsize=3, markersize=4)
    axes.set(xlabel="mode", ylabel="share of the variance (%)", ylim=(0, None), xlim=(0.5, len(shares) + 0.5))
    axes.set_title("Variance explained; bars are North's errors, and modes whose bars overlap are not apart")
    axes.title.set_fontsize("medium")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
