"""The report of `cells`: time, memory and variances of each run, and the first two as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, prose, provenance_lines, table

_COLOURS = {"bigsvd": "#0b6e4f", "arpack": "#2f5d9e", "covariance_eigh": "#8fb0d9"}

Row = dict[str, Any]


def markdown(results: Row) -> str:
    """A table for each task, and how it was measured."""
    lines = ["# Principal components of single cells", ""]
    for task in results["tasks"]:
        lines += [f"## {task['name']}, k = {task['k']}", "", *_task(task), ""]
    return "\n".join([*lines, *_method(results), *provenance_lines(results)]) + "\n"


def _task(task: Row) -> list[str]:
    headings = (
        "", "seconds", "peak memory of the process", "beyond imports", "variance from scanpy's", "passes",
        "seconds by part",
    )  # fmt: skip
    done = {name: run for name, run in task["runs"].items() if run["status"] == "done"}
    failed = [f"* {_label(name)}: {run['status']}" for name, run in task["runs"].items() if name not in done]
    return [
        *table(headings, (_cells(name, run) for name, run in done.items())),
        *([""] * bool(failed)),
        *failed,
    ]


def _label(name: str) -> str:
    return name if name == "bigsvd" else f"scanpy, {name}"


def _cells(name: str, run: Row) -> list[str]:
    parts = ", ".join(f"{part} {seconds:.3g}" for part, seconds in run["seconds_by_part"].items())
    return [
        f"{_label(name)}, {run['method']}" if "method" in run else _label(name),
        f"{run['seconds']:.3g}",
        human_bytes(run["peak_rss_bytes"]),
        human_bytes(run["peak_rss_bytes"] - run["imported_bytes"]),
        f"{run['difference']:.1e}" if "difference" in run else "",
        f"{run['passes']:.3g}" if "passes" in run else "",
        parts,
    ]


def _method(results: Row) -> list[str]:
    parameters = results["parameters"]
    runs = [run for task in results["tasks"] for run in task["runs"].values()]
    version = next((f" scanpy is {run['version']}." for run in runs if "version" in run), "")
    return [
        *prose(
            "The made cells lie in an AnnData store, CSR in Zarr. Counts are normalised to 10,000 a cell, "
            "logarithms of 1 + these are taken, some genes or all are centred, and components written back "
            "(bigsvd) or left in memory (scanpy: `read_elem`, `normalize_total`, `log1p`, `pca`). Each run "
            f"is a process of its own on {parameters['cpus']} CPUs; imports are not timed. Its budget is "
            f"{parameters['memory']}, its tolerance the default; it also certifies its answer. The last but "
            "two column is the worst relative difference of a variance from those of scanpy's first solver."
            + version
        ),
        "",
    ]


def plot(results: Row, path: Path) -> None:
    """Seconds and peak memory as bars, a line for each run."""
    rows = [
        (f"{task['name']}\n{_label(name)}", name, run)
        for task in results["tasks"]
        for name, run in task["runs"].items()
        if run["status"] == "done"
    ][::-1]
    figure = Figure(figsize=(11, 1.5 + 0.6 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, unit in ((left, "seconds", 1.0), (right, "peak_rss_bytes", 1e9)):
        values = [run[key] / unit for _, _, run in rows]
        bars = axes.barh(range(len(rows)), values, 0.6, color=[_COLOURS[name] for _, name, _ in rows])
        axes.bar_label(bars, fmt="%.3g", padding=4, fontsize=9)
        axes.set_xlim(0, 1.2 * max(values, default=1.0))
    left.set_xlabel("seconds")
    right.set_xlabel("peak memory of the process, GB")
    left.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
