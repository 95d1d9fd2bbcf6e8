"""The report of `climate`: time, memory and errors of each way, and the first two as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, prose, provenance_lines, table

_OURS, _OTHERS = "#0b6e4f", "#2f5d9e"

Row = dict[str, Any]


def markdown(results: Row) -> str:
    """The table, and how it was measured."""
    parameters = results["parameters"]
    size = "{times:,} × {latitudes} × {longitudes}".format(**parameters)
    headings = ("", "seconds, median", "÷ bigsvd", "peak beyond imports", "error of s, worst")
    done = [row for row in results["ways"] if row["status"] == "done"]
    failed = [f"* {row['name']}: {row['status']}" for row in results["ways"] if row["status"] != "done"]
    return "\n".join(
        [
            f"# EOFs of a field of {size}, k = {parameters['k']}",
            "",
            *table(headings, (_cells(row, done[0]["seconds"]) for row in done)),
            "",
            *failed,
            *([""] * bool(failed)),
            *_method(results),
            *provenance_lines(results),
        ]
    )


def _cells(row: Row, seconds: float) -> list[str]:
    return [
        f"{row['name']} ({row['version']})",
        f"{row['seconds']:.1f}",
        f"{row['seconds'] / seconds:.2f}",
        human_bytes(row["peak_memory_bytes"]),
        f"{row['error']:.1e}",
    ]


def _method(results: Row) -> list[str]:
    parameters = results["parameters"]
    return [
        *prose(
            f"{human_bytes(parameters['data_bytes'])} of float32 in Zarr, opened by `xarray.open_zarr`, "
            f"{1 - parameters['ocean']:.0%} of the grid land without values; anomalies are weighted by "
            f"√cos(latitude). Each run is a process of its own on {parameters['cpus']} CPUs, from the lazy "
            "array to components and scores; imports are not timed. bigsvd's budget is "
            f"{parameters['memory']}, its tolerance the default; it also certifies its answer. Ways take "
            f"turns in {parameters['repeat']} rounds, of which one of more than "
            f"{parameters['slow_seconds']:.0f} s takes part in the first alone. Errors are relative to the "
            "eigenvalues of the Gram matrix in float64."
        ),
        "",
    ]


def plot(results: Row, path: Path) -> None:
    """Seconds and peak memory as bars, a line for each way."""
    rows = [row for row in results["ways"] if row["status"] == "done"][::-1]
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    colours = [_OURS if row["name"] == "bigsvd" else _OTHERS for row in rows]
    for axes, key, unit in ((left, "seconds", 1.0), (right, "peak_memory_bytes", 1e9)):
        values = [row[key] / unit for row in rows]
        bars = axes.barh(range(len(rows)), values, 0.6, color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=4, fontsize=9)
        axes.set_xlim(0, 1.2 * max(values, default=1.0))
    left.set_xlabel("seconds")
    right.set_xlabel("peak memory beyond imports, GB")
    left.set_yticks(range(len(rows)), [row["name"] for row in rows])
    figure.savefig(path, dpi=110, metadata={"Software": None})
