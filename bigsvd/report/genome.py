"""Pictures of genotypes' components: people by two of them, and what each variant contributes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bigsvd.floats import silent

_ROW_INCHES = 1.9
_SHADES = ("0.25", "tab:blue")  # of contigs, in turn
_MOST_NAMED = 40  # populations that a legend names


@dataclass(frozen=True, eq=False)
class Genome:
    """Where variants lie.

    Attributes:
        contig: of each variant its contig, (variants,) of text; those of one follow each other.
        position: along the contig, (variants,), in base pairs.

    """

    contig: np.ndarray
    position: np.ndarray

    @property
    def spans(self) -> list[slice]:
        """The variants of each contig, in their order."""
        cuts = np.flatnonzero(self.contig[1:] != self.contig[:-1]) + 1
        edges = [0, *cuts.tolist(), len(self.contig)]
        return [slice(start, stop) for start, stop in pairwise(edges)]

    @property
    def places(self) -> np.ndarray:
        """Of each variant its place along all contigs, one behind the other, (variants,) in base pairs."""
        found, end = np.empty(len(self.position)), 0.0
        for span in self.spans:
            found[span] = self.position[span] - self.position[span].min() + end
            end = float(found[span].max())
        return found


@silent
def write_people(
    scores: np.ndarray,
    shares: Sequence[float],
    numbers: tuple[int, int],
    groups: np.ndarray | None,
    path: str | os.PathLike[str],
) -> None:
    """Write a PNG of people by two components, coloured by their groups where these are given.

    Args:
        scores: on two components, (people, 2).
        shares: of the variance that they explain.
        numbers: what they are called, from 1 on.
        groups: of each person, (people,) of text.
        path: of the file.

    Draws with Agg: needs no display, leaves pyplot alone.

    """
    figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = np.unique(groups) if groups is not None else np.array([])
    if groups is None:
        axes.scatter(scores[:, 0], scores[:, 1], s=10, color="0.25", linewidths=0)
    for name, colour in zip(names, colormaps["turbo"](np.linspace(0.05, 0.95, len(names))), strict=True):
        some = scores[groups == name]
        axes.scatter(some[:, 0], some[:, 1], s=12, color=colour, linewidths=0, label=str(name))
    if 0 < len(names) <= _MOST_NAMED:
        figure.legend(loc="outside right center", frameon=False, markerscale=2)
    axes.set(**{f"{axis}label": f"PC {i} ({share:.2%})"
                for axis, i, share in zip("xy", numbers, shares, strict=True)})  # fmt: skip
    figure.savefig(path, format="png")


@silent
def write_loadings(
    loadings: np.ndarray, numbers: Sequence[int], genome: Genome, path: str | os.PathLike[str]
) -> None:
    """Write a PNG with a row for each component: its loadings (variants, c) along the genome.

    A few neighbours that stand out by far are a region in strong linkage, such as an inversion, and no
    ancestry. Draws with Agg: needs no display, leaves pyplot alone.
    """
    figure = Figure(figsize=(10, _ROW_INCHES * len(numbers) + 0.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    rows = np.atleast_1d(figure.subplots(len(numbers), 1, sharex=True))
    for axes, number, column in zip(rows, numbers, loadings.T, strict=True):
        _draw_loadings(axes, column, genome)
        axes.set_ylabel(f"PC {number}")
    rows[0].set_title("Loadings of the variants, by contig", fontsize="medium")
    figure.savefig(path, format="png")


def _draw_loadings(axes: Axes, loadings: np.ndarray, genome: Genome) -> None:
    places, spans = genome.places, genome.spans
    axes.axhline(0, color="0.7", linewidth=0.8)
    for number, span in enumerate(spans):
        shade = _SHADES[number % len(_SHADES)]
        axes.plot(places[span], loadings[span], ".", color=shade, markersize=2, rasterized=True)
    middles = [float(places[span][[0, -1]].mean()) for span in spans]
    axes.set_xticks(middles, [str(genome.contig[span.start]) for span in spans], fontsize="x-small")
    axes.tick_params(axis="x", length=0)
    axes.margins(x=0.005)
