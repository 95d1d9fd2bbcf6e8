"""The rank plot: singular values and the energy they keep, every chosen k marked."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from bigsvd.floats import silent
from bigsvd.results.rank import Choice, Spectrum, Vector, marks, rank_table, unmarked

_SMALL_MARKERS_FROM = 60  # singular values: from so many on their markers are small
_NARROW, _WIDE = 5.0, 200.0  # largest over smallest singular value: bounds between three ways of labelling
_ZOOM_FROM_PERCENT = 90.0  # of energy in the first triplet, from which the axis does not begin at 0
_LONG_LABEL = 72  # characters of a label of which two do not fit side by side


@silent
def write_plot(
    spectrum: Spectrum,
    choices: Sequence[Choice],
    path: str | os.PathLike[str],
    *,
    true_s: Vector | None = None,
    title: str | None = None,
) -> None:
    """Write a PNG to `path`: sigma_i on a log axis and the cumulative energy in per cent, chosen k marked.

    `true_s` (any number of values, descending, unit of A) is overlaid as open circles where it is given.
    Rules that choose none of the known k are named in the legend. Draws with Agg: needs no display, leaves
    pyplot alone.
    """
    elsewhere = unmarked(choices, spectrum.known)
    figure = Figure(figsize=(10, 5 + 0.1 * len(choices)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    scree, energy = figure.subplots(1, 2)
    _draw_scree(scree, spectrum, true_s)
    _draw_energy(energy, spectrum)
    chosen = marks(choices, spectrum.known)
    for axes in (scree, energy):
        _draw_marks(axes, chosen)
        _finish_axes(axes, spectrum.known)
    _draw_legend(figure, scree, elsewhere)
    if title is not None:
        figure.suptitle(title)
    figure.savefig(path, format="png")


def _draw_scree(axes: Axes, spectrum: Spectrum, true_s: Vector | None) -> None:
    index = np.arange(1, spectrum.known + 1)
    size = 5.0 if spectrum.known < _SMALL_MARKERS_FROM else 2.5
    axes.plot(index, spectrum.s, ".-", color="0.15", linewidth=0.8, markersize=size, label="computed")
    if true_s is not None:
        true = np.asarray(true_s, dtype=np.float64)[: spectrum.known]
        (rings,) = axes.plot(index[: true.size], true, "o", color="tab:blue", label="true")
        rings.set(fillstyle="none", markersize=1.4 * size, markeredgewidth=0.8)
    if spectrum.s[0] > 0:
        axes.set_yscale("log", nonpositive="mask")
        _set_log_ticks(axes)
    axes.set_ylabel(r"singular value $\sigma_k$ (unit of A)")
    axes.set_title("Singular values", fontsize="medium")


def _set_log_ticks(axes: Axes) -> None:
    """Labels that stay few and plain where the values span less than two decades."""
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter(NullFormatter())
    if high / low < _NARROW:
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_minor_locator(NullLocator())
    elif high / low < _WIDE:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        return
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def _draw_energy(axes: Axes, spectrum: Spectrum) -> None:
    kept = 100 * np.array([0.0, *(row.energy for row in rank_table(spectrum))])
    axes.plot(np.arange(spectrum.known + 1), kept, "-", color="0.15", linewidth=1.2)
    missing = 100.0 if kept[1] < _ZOOM_FROM_PERCENT else max(1.1 * (100 - kept[1]), 1e-3)
    axes.set_ylim(100 - missing, 100 + 0.03 * missing)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_ylabel(r"cumulative energy (% of $\|A\|_F^2$)")
    axes.set_title("Energy kept by the k leading triplets", fontsize="medium")


def _draw_marks(axes: Axes, marks: Mapping[int, Sequence[str]]) -> None:
    colours = ("tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
    styles = itertools.cycle(itertools.product(("--", ":", "-."), colours))
    for (k, rules), (line, colour) in zip(marks.items(), styles, strict=False):
        axes.axvline(
            k, linestyle=line, color=colour, linewidth=1.4, zorder=1, label=f"k = {k}: {', '.join(rules)}"
        )


def _finish_axes(axes: Axes, known: int) -> None:
    margin = max(0.5, 0.02 * known)
    axes.set_xlim(-margin, known + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
    axes.set_xlabel("number of triplets k")
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_legend(figure: Figure, scree: Axes, elsewhere: Sequence[str]) -> None:
    """One legend under both panels, where it covers no data; rules without a mark get a text alone."""
    handles, labels = scree.get_legend_handles_labels()
    handles += [Line2D([], [], linestyle="none") for _ in elsewhere]
    labels += elsewhere
    columns = 2 if max(map(len, labels)) < _LONG_LABEL else 1
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small", frameon=False)
