"""A picture of a score by rank, beside the scores of what has no rank."""

from __future__ import annotations

import os
from collections.abc import Mapping

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bigsvd.floats import silent

_COLOURS = ("#c8553d", "#2f5d9e", "#8a6d3b")


@silent
def write_gains(
    by_rank: Mapping[int, float], beside: Mapping[str, float], path: str | os.PathLike[str], *, label: str
) -> None:
    """Write a PNG: a curve over k, on a logarithmic axis, with a line and a name for each of the others."""
    figure = Figure(figsize=(7, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    ranks = sorted(by_rank)
    axes.plot(ranks, [by_rank[k] for k in ranks], "o-", color="#0b6e4f", label="PureSVD")
    for number, (name, score) in enumerate(beside.items()):
        axes.axhline(score, color=_COLOURS[number % len(_COLOURS)], linestyle="--", label=name)
    axes.set(xscale="log", xlabel="k", ylabel=label)
    axes.set_xticks(ranks, [str(k) for k in ranks], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})
