"""Plots of an evaluation: error by share seen, singular values, calibration, an example with its gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from bigsvd.distill.coverage import LEVELS
from bigsvd.distill.evaluation import Evaluation
from bigsvd.distill.figures import grid, legend_below, new_figure
from bigsvd.distill.records import MEAN, ORACLE, Example, Record
from bigsvd.floats import silent

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink",
            "tab:olive", "tab:cyan", "navy", "darkgoldenrod", "darkgreen", "crimson", "indigo")  # fmt: skip
_MARKERS = "osD^v<>phX*P8d"
_DRAWN_SHARE = 0.1  # seen: singular values are shown where the share comes closest to it
_HEADROOM = 1.15  # times the error of the column mean: what errs more is drawn at the upper edge
_LONGEST_LINE = 300  # features of an example that are drawn as a line


def write_plots(evaluation: Evaluation, folder: Path, sample_shape: tuple[int, ...]) -> list[Path]:
    """Write PNGs into a folder, and say which: error.png, sigma.png, example.png, calibration.png.

    Args:
        evaluation: what is drawn.
        folder: which exists.
        sample_shape: the lengths of the axes of a sample; an example of two is drawn as an image.

    """
    drawings: dict[str, Callable[[], Figure | None]] = {
        "error": lambda: error_figure(evaluation),
        "sigma": lambda: sigma_figure(evaluation),
        "calibration": lambda: calibration_figure(evaluation),
        "example": lambda: example_figure(evaluation.example, sample_shape),
    }
    return [path for name, draw in drawings.items() for path in _saved(draw(), folder / f"{name}.png")]


@silent
def _saved(figure: Figure | None, path: Path) -> list[Path]:
    if figure is None:
        return []
    figure.savefig(path, format="png")
    return [path]


def _style(evaluation: Evaluation, method: str) -> dict[str, Any]:
    """The oracle and the mean are bounds, and drawn as such; every other way has its colour in all plots."""
    if method == ORACLE:
        return {"color": "black", "linestyle": "--", "linewidth": 1.2, "marker": "_", "markersize": 9}
    if method == MEAN:
        return {"color": "0.5", "linestyle": ":", "linewidth": 1.6, "marker": "_", "markersize": 9}
    place = [name for name in evaluation.methods if name not in (MEAN, ORACLE)].index(method)
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "markersize": 4,
        "linewidth": 1.2,
    }


@silent
def error_figure(evaluation: Evaluation) -> Figure:
    """RMSE of hidden entries, and error of coordinates, against the share seen; a column for each pattern."""
    patterns = evaluation.patterns
    figure = new_figure(2.4 + 4.2 * len(patterns), 8)
    panels = figure.subplots(2, len(patterns), squeeze=False, sharex="col")
    for column, pattern in enumerate(patterns):
        _draw_errors(panels[0, column], evaluation, pattern, "rmse")
        _draw_errors(panels[1, column], evaluation, pattern, "coordinate_error")
        panels[0, column].set_title(f"seen: {pattern}", fontsize="medium")
        panels[1, column].set_xlabel("share of entries seen")
    panels[0, 0].set_ylabel("RMSE on entries taken away (units of B)\n(large triangles: more than is shown)")
    panels[1, 0].set_ylabel(r"error of coordinates $\|\Delta Z\|/\|Z\|$")
    legend_below(figure, panels[0, 0])
    return figure


def _draw_errors(axes: Axes, evaluation: Evaluation, pattern: str, measure: str) -> None:
    shares = np.array(evaluation.shares)
    top = _HEADROOM * max(evaluation.mean(MEAN, pattern, share, measure) for share in evaluation.shares)
    lowest = top
    for method in evaluation.methods:
        mean = np.array([evaluation.mean(method, pattern, share, measure) for share in shares])
        spread = np.array([evaluation.spread(method, pattern, share, measure) for share in shares])
        if measure == "coordinate_error" and method == ORACLE:
            continue  # it is 0 by definition
        style = _style(evaluation, method)
        axes.errorbar(
            shares,
            np.minimum(mean, top),
            yerr=np.where(mean < top, spread, 0),
            capsize=2,
            label=method,
            **style,
        )
        beyond = mean > top
        axes.plot(shares[beyond], np.full(np.sum(beyond), top), "^", color=style["color"], markersize=10)
        lowest = min(lowest, float(np.nanmin(mean)))
    axes.set_ylim(lowest - 0.05 * (top - lowest), top + 0.03 * (top - lowest))
    _finish_share_axis(axes, shares)


def _finish_share_axis(axes: Axes, shares: np.ndarray) -> None:
    if shares[-1] > 3 * shares[0]:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(shares.tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    grid(axes)


def _nearest(evaluation: Evaluation) -> float:
    return min(evaluation.shares, key=lambda share: abs(math.log(share / _DRAWN_SHARE)))


@silent
def sigma_figure(evaluation: Evaluation) -> Figure:
    """Predicted singular values beside the true ones, and their ratio; means over seeds."""
    pattern, share = evaluation.patterns[0], _nearest(evaluation)
    figure = new_figure(10, 5.4)
    values, ratios = figure.subplots(1, 2)
    true = np.array(evaluation.s)
    _draw_true(values, ratios, true)
    for method in evaluation.methods:
        found = _mean_s(evaluation.of(method, pattern, share), true.size)
        if method in (MEAN, ORACLE) or not np.any(found):
            continue
        number, style = np.arange(1, found.size + 1), _style(evaluation, method)
        style |= {"markersize": 3, "linewidth": 0.8}
        values.plot(number, found, label=method, **style)
        ratios.plot(number, found / true[: found.size], **style)
    figure.suptitle(f"Singular values, {pattern}, {100 * share:g} % seen", fontsize="medium")
    legend_below(figure, values)
    return figure


def _mean_s(records: Sequence[Record], known: int) -> np.ndarray:
    """Predicted singular values, mean over seeds, as many as are known."""
    return np.asarray(np.mean([record.s[:known] for record in records], axis=0))


def _draw_true(values: Axes, ratios: Axes, true: np.ndarray) -> None:
    """The true singular values, and axes around them: what is far from them is not drawn."""
    values.plot(np.arange(1, true.size + 1), true, "-", color="black", linewidth=1.6, label="true", zorder=3)
    values.set_yscale("log")
    values.set_ylim(0.4 * float(true[-1]), 2.5 * float(true[0]))
    values.set_ylabel(r"singular value $\sigma_i$ of the new data")
    ratios.axhline(1, color="black", linewidth=1.6)
    ratios.set_ylim(0, 2)
    ratios.set_ylabel(r"predicted $\sigma_i$ / true $\sigma_i$")
    for axes in (values, ratios):
        axes.set_xlabel("i")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        grid(axes)


@silent
def calibration_figure(evaluation: Evaluation) -> Figure | None:
    """How many hidden entries lie within their intervals, against how many should; None without intervals."""
    known = {method: rows for method in evaluation.methods if (rows := _covered(evaluation, method)).size}
    if not known:
        return None
    figure = new_figure(6, 6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black", linewidth=1, label="as promised")
    for method, rows in known.items():
        mean = np.mean(rows, axis=0)
        around = np.abs(np.array([np.min(rows, axis=0), np.max(rows, axis=0)]) - mean)
        axes.errorbar(LEVELS, mean, yerr=around, capsize=2, label=method, **_style(evaluation, method))
    lowest = min(float(np.min(rows)) for rows in known.values())
    low = max(0.0, min(LEVELS[0], lowest) - 0.05)
    axes.set_xlim(LEVELS[0] - 0.05, 1)
    axes.set_ylim(low, 1.01)
    axes.set_xlabel("level of the interval")
    axes.set_ylabel("share of entries taken away that lie in it")
    axes.set_title("Calibration: all patterns, shares and seeds (bars: their range)", fontsize="medium")
    grid(axes)
    axes.legend(fontsize="small", frameon=False, loc="upper left")
    return figure


def _covered(evaluation: Evaluation, method: str) -> np.ndarray:
    """The shares covered at each level, in all settings (settings, levels)."""
    return np.array([record.covered for record in evaluation.records if record.method == method])


@silent
def example_figure(example: Example, sample_shape: tuple[int, ...]) -> Figure:
    """One row with its gaps, what ways made of it, and what it is."""
    if len(sample_shape) == 2 and math.prod(sample_shape) == len(example.truth):
        return _example_images(example, sample_shape)
    return _example_lines(example)


def _title(example: Example) -> str:
    return f"Row {example.row}, {example.setting.pattern}, {np.mean(example.seen):.0%} seen (units of B)"


def _example_images(example: Example, shape: tuple[int, ...]) -> Figure:
    truth, seen = np.array(example.truth), np.array(example.seen)
    images = {"seen": np.where(seen, truth, np.nan)} | {
        name: np.array(x) for name, x in example.filled.items()
    }
    images["truth"] = truth
    low, high = float(np.min(truth)), float(np.max(truth))
    figure = new_figure(2.1 * len(images) + 0.8, 2.9)
    panels = figure.subplots(1, len(images), squeeze=False)[0]
    for axes, (name, image) in zip(panels, images.items(), strict=True):
        axes.set_facecolor("tab:red")  # what was not seen
        shown = axes.imshow(image.reshape(shape), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(_with_error(name, image, truth, ~seen), fontsize="small")
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(shown, ax=list(panels), shrink=0.8)
    figure.suptitle(f"{_title(example)}; red: not seen", fontsize="medium")
    return figure


def _with_error(name: str, image: np.ndarray, truth: np.ndarray, hidden: np.ndarray) -> str:
    if name in ("seen", "truth") or not np.any(hidden):
        return name
    return f"{name}\nRMSE {np.sqrt(np.mean((image - truth)[hidden] ** 2)):.3g}"


def _example_lines(example: Example) -> Figure:
    truth, seen = np.array(example.truth), np.array(example.seen)
    some = slice(0, _LONGEST_LINE)
    place = np.arange(truth.size)[some]
    filled: Mapping[str, Sequence[float]] = example.filled
    figure = new_figure(11, 1.2 + 1.9 * len(filled))
    panels = figure.subplots(len(filled), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, (name, entries) in zip(panels, filled.items(), strict=True):
        found = np.array(entries)
        axes.plot(place, truth[some], ".", color="0.65", markersize=4, label="truth, not seen")
        axes.plot(place, np.where(seen, truth, np.nan)[some], "o", color="black", markersize=4, label="seen")
        axes.plot(place, found[some], "-", color="tab:blue", linewidth=1.2, label="predicted")
        axes.set_title(_with_error(name, found, truth, ~seen).replace("\n", ": "), fontsize="small")
        grid(axes)
    panels[-1].set_xlabel("feature" if truth.size <= _LONGEST_LINE else f"feature, the first {_LONGEST_LINE}")
    figure.suptitle(_title(example), fontsize="medium")
    legend_below(figure, panels[0])
    return figure
