"""The plot of a score for each k, beside what the same k leaves of A and what its factors take."""

from __future__ import annotations

import os
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from bigsvd.floats import silent
from bigsvd.results.rank import RankRow, Spectrum, rank_table
from bigsvd.results.scoring import Scored


@silent
def write_scores(
    spectrum: Spectrum, scored: Scored, path: str | os.PathLike[str], *, title: str | None = None
) -> None:
    """Write a PNG to `path`: score, relative error and bytes against k, and in each the k of the best score.

    Draws with Agg: needs no display, leaves pyplot alone.
    """
    figure = Figure(figsize=(12, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    score, error, size = figure.subplots(1, 3)
    rows = rank_table(spectrum)
    _draw_score(score, scored)
    _draw_error(error, rows)
    _draw_bytes(size, rows, spectrum.matrix_bytes)
    for axes in (score, error, size):
        _finish(axes, scored)
    if title is not None:
        figure.suptitle(title)
    figure.savefig(path, format="png")


def _draw_score(axes: Axes, scored: Scored) -> None:
    axes.plot(scored.k, scored.values, "o-", color="0.15", linewidth=1.0, markersize=4)
    axes.set(ylabel=scored.name)
    axes.set_title(f"{scored.name}: the higher the better", fontsize="medium")


def _draw_error(axes: Axes, rows: Sequence[RankRow]) -> None:
    axes.plot([row.k for row in rows], [row.relative_error for row in rows], "-", color="0.15", linewidth=1.2)
    axes.set_ylim(0, None)
    axes.set(ylabel=r"$\|A - A_k\|_F\,/\,\|A\|_F$")
    axes.set_title("Relative error", fontsize="medium")


def _draw_bytes(axes: Axes, rows: Sequence[RankRow], matrix_bytes: int) -> None:
    axes.plot([row.k for row in rows], [row.bytes for row in rows], "-", color="0.15", linewidth=1.2)
    axes.axhline(matrix_bytes, color="0.6", linewidth=1.0, label="the matrix itself")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(EngFormatter("B"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(ylabel="bytes of the factors")
    axes.set_title("Size", fontsize="medium")


def _finish(axes: Axes, scored: Scored) -> None:
    axes.axvline(scored.best, linestyle="--", color="tab:orange", zorder=1, label=f"best: k = {scored.best}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("number of triplets k")
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize="small")
