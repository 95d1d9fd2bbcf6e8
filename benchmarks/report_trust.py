"""The report of `trust`: how many cases of each kind, and what was wrong."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import prose, provenance_lines, table

_SHOWN = 20
_LAYOUTS = (
    "Samples are its rows, its columns or any axis of three; some are left out; entries may be packed, "
    "unsigned, limited to a valid range, sums of parts or numbers of alleles; functions may change them; "
    "vectors may be given; a column may be missing throughout. "
)


def markdown(results: dict[str, Any]) -> str:
    """The verdict, the counts by kind, the wrong ones."""
    wrong = results["wrong"]
    lines = ["# Random decompositions against exact statistics and LAPACK", ""]
    lines += [f"**{results['cases']:,} cases, {len(wrong)} wrong.**", ""]
    lines += [*table(("kind", "cases"), _rows(results["counted"])), ""]
    lines += [f"* {entry['findings']} of {entry['case']}" for entry in wrong[:_SHOWN]]
    lines += ["", *_method(results)]
    return "\n".join(lines) + "\n"


def _rows(counted: dict[str, int]) -> list[tuple[str, str]]:
    return [(kind, f"{count:,}") for kind, count in counted.items()]


def _method(results: dict[str, Any]) -> list[str]:
    drawn = results["counted"]
    layouts = _LAYOUTS if any(kind.startswith("samples: ") for kind in drawn) else ""
    text = (
        "Each case is a matrix of up to 260 × 160 entries with its own shape, chunks, type, store, spectrum, "
        f"means, constant columns, gaps, method, k and tolerance, drawn by hypothesis. {layouts}"
        "Means, deviations and counts are compared with those in extended precision; singular values, "
        "residuals, their bounds, the relative error and a region of the reconstruction with LAPACK's in "
        "float64. A tenth is also verified. A case is wrong if anything that its result claims does not "
        "hold, or if refused."
    )
    tried = [f"{count:,} with commit {commit[:12]}" for commit, count in results["commits"].items()]
    if len(tried) > 1:
        text += f" They were tried in more than one sitting: {', '.join(tried)}."
    return [*prose(text), "", *provenance_lines(results)]


def plot(results: dict[str, Any], path: Path) -> None:
    """How the cases divide, by kind."""
    groups: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for kind, count in results["counted"].items():
        name, _, value = kind.partition(": ")
        groups[name].append((value, count))
    figure = Figure(figsize=(10, 11), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(-(-len(groups) // 4), 4)
    for axes, (name, parts) in zip(panels.flat, groups.items(), strict=False):
        values, counts = zip(*parts, strict=True)
        axes.barh(values, counts, color="#0b6e4f")
        axes.set_title(name, fontsize="medium")
        axes.tick_params(labelsize="small")
    for axes in figure.axes[len(groups) :]:
        axes.set_visible(False)
    figure.suptitle(f"{results['cases']:,} random cases by kind, {len(results['wrong'])} wrong")
    figure.savefig(path, format="png")
