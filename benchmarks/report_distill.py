"""The report of `distill`: what each way of filling did, by data and gaps, and the bars it was to meet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, stdev
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.tables import human_bytes, human_seconds, prose, provenance_lines, table

Row = dict[str, Any]
_MEASURES = {
    "rmse": ("RMSE", "{:.4f}"),
    "recovered": ("recovered", "{:.1%}"),
    "coordinate_error": ("‖ΔZ‖/‖Z‖", "{:.3f}"),
    "s_mean": ("σ, mean error", "{:.1%}"),
    "s_worst": ("σ, worst", "{:.1%}"),
    "coverage": ("in 90 % interval", "{:.3f}"),
    "seconds": ("seconds", "{}"),
    "seconds_per_million": ("seconds for 10⁶ rows", "{}"),
    "peak_bytes": ("memory", "{}"),
    "planned_bytes": ("planned", "{}"),
}
_SIZES = ("peak_bytes", "planned_bytes")
_TIMES = ("seconds", "seconds_per_million")
_WIDE = (*_TIMES, "rmse", "s_mean")  # measures of which the worst way has many times the best's
_COLOURS = (
    "#0b6e4f", "#2f5d9e", "#c8553d", "#7b4fa6", "#b8860b", "#7d7d7d", "#e0a090", "#4a90a4", "#222222",
    "#9acd32", "#ff8c69", "#6a5acd", "#20b2aa",
)  # fmt: skip
_COLUMNS = 3
_LABEL = 16  # letters in a line of what a place of the axis is called


def markdown(results: dict[str, Any]) -> str:
    """The bars, then a table for each dataset and kind of gaps."""
    lines = [f"# {results['title']}", ""]
    if results["bars"]:
        lines += [*table(("what is to be shown", "bar", "measured", "met"), map(_bar, results["bars"])), ""]
    for problem in _names(results["rows"], "problem"):
        lines += [f"## {problem}", ""]
        for setting in _names(_where(results["rows"], problem=problem), "setting"):
            rows = _where(results["rows"], problem=problem, setting=setting)
            lines += [f"{setting}:", "", *_settings(rows), ""]
    for note in results["notes"]:
        lines += [*prose(note), ""]
    return "\n".join([*lines, *provenance_lines(results)]) + "\n"


def _bar(bar: Row) -> list[str]:
    return [bar["what"], bar["bar"], bar["measured"], "yes" if bar["met"] else "**no**"]


def _names(rows: Iterable[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _where(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _settings(rows: list[Row]) -> list[str]:
    """One line for each way of filling."""
    measures = [name for name in _MEASURES if any(row.get(name) is not None for row in rows)]
    headings = ("", *(_MEASURES[name][0] for name in measures))
    body = (
        [method, *(_cell(_where(rows, method=method), name) for name in measures)]
        for method in _names(rows, "method")
    )
    return table(headings, body)


def _cell(rows: list[Row], name: str) -> str:
    """Mean and standard deviation over seeds; of the worst error the worst."""
    values = _values(rows, name)
    if not values:
        return "–"
    if name in _TIMES:
        return human_seconds(fmean(values))
    if name in _SIZES:
        return human_bytes(fmean(values))
    form = _MEASURES[name][1]
    if name == "s_worst":
        return form.format(max(values))
    mean = form.format(fmean(values))
    return mean if len(values) < 2 or stdev(values) == 0 else f"{mean} ± {form.format(stdev(values))}"


def _values(rows: list[Row], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]


def plot(results: dict[str, Any], path: Path) -> None:
    """For each dataset one measure by gaps and way of filling; points with the spread of the seeds."""
    problems = _names(results["rows"], "problem")
    columns = min(_COLUMNS, len(problems))
    lines = -(-len(problems) // columns)
    figure = Figure(figsize=(6.2 * columns + 2, 4.4 * lines), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    methods = _names(results["rows"], "method")
    for axes, problem in zip(panels, problems, strict=False):
        rows = _where(results["rows"], problem=problem)
        settings = _names(rows, "setting")
        for number, method in enumerate(methods):
            _points(axes, rows, settings, method, number, len(methods), results["shown"])
        axes.set_xticks(range(len(settings)), [fill(setting, _LABEL) for setting in settings])
        axes.set(title=problem, ylabel=_MEASURES[results["shown"]][0])
        if results["shown"] in _WIDE:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y", alpha=0.3)
    for axes in panels[len(problems) :]:
        axes.set_axis_off()
    _legend(figure, panels)
    figure.savefig(path, metadata={"Software": None})


def _legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """One for all panels, beside them, where it covers no point."""
    handles: dict[str, Any] = {}
    for axes in panels:
        found, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8)


def _points(
    axes: Any, rows: list[Row], settings: list[str], method: str, number: int, methods: int, shown: str
) -> None:
    """One way of filling, beside the others at each setting."""
    places, means, spreads = [], [], []
    for place, setting in enumerate(settings):
        values = _values(_where(rows, setting=setting, method=method), shown)
        if values:
            places.append(place + 0.7 * (number / max(1, methods - 1) - 0.5))
            means.append(fmean(values))
            spreads.append(stdev(values) if len(values) > 1 else 0.0)
    if places:
        colour = _COLOURS[number % len(_COLOURS)]
        axes.errorbar(
            np.array(places), means, spreads, fmt="o", markersize=4, color=colour, capsize=2, label=method
        )
