"""The report of `pca`: time, memory and errors of each contender, and both as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, prose, provenance_lines, table

_COLOURS = {"bigsvd": "#0b6e4f", "before": "#7fb8a4", "sklearn": "#2f5d9e", "pcaone": "#c8553d"}
_LEAST_ERROR = 1e-16  # a smaller one is drawn there

Row = dict[str, Any]


def markdown(results: Row) -> str:
    """The table, what bigsvd's parts took, and how it was measured."""
    parameters = results["parameters"]
    leading = parameters["leading"]
    headings = (
        "contender", "seconds", "passes", "peak memory", f"worst σ error of the first {leading}",
        f"of all {parameters['k']}", "worst residual", "predicted ÷ taken",
    )  # fmt: skip
    done = [row for row in results["contenders"] if "seconds" in row]
    failed = [
        f"* {row['label']}: {row['status']}" for row in results["contenders"] if row["status"] != "done"
    ]
    lines = [f"# PCA of genotypes: {_title(results)}", "", *table(headings, map(_cells, done)), ""]
    lines += [*failed, *([""] if failed else [])]
    return "\n".join([*lines, *_parts(results), *_method(results), *provenance_lines(results)]) + "\n"


def _title(results: Row) -> str:
    parameters = results["parameters"]
    shape = f"{parameters['samples']:,} × {parameters['variants']:,} int8"
    missing = f", {parameters['missing']:.1%} missing" if parameters["missing"] else ""
    return f"{shape} ({human_bytes(parameters['data_bytes'])}){missing}, k = {parameters['k']}"


def _cells(row: Row) -> list[str]:
    last = [run for run in row["runs"] if run["status"] == "done"][-1]
    several = len(row["runs"]) > 1
    spread = f" ({row['fastest_seconds']:.3g} to {row['slowest_seconds']:.3g})" if several else ""
    predicted = (
        f"{row['predicted_seconds'] / row['seconds_in_run']:.2f}" if "predicted_seconds" in row else ""
    )
    return [
        row["label"],
        f"{row['seconds']:.3g}{spread}",
        f"{row['passes']:.3g}" if "passes" in row else "",
        human_bytes(row["peak_memory_bytes"]),
        f"{row['leading_error']:.1e}",
        f"{row['error']:.1e}",
        f"{last['max_residual']:.1e}" if "max_residual" in last else "",
        predicted,
    ]


def _parts(results: Row) -> list[str]:
    """What each part of bigsvd's last run took."""
    rows = []
    for row in results["contenders"]:
        done = [run for run in row["runs"] if run["status"] == "done" and "pass_seconds" in run]
        if done:
            parts, passes = done[-1]["seconds_by_part"], done[-1]["pass_seconds"]
            shown = ", ".join(f"{seconds:.3g}" for seconds in passes)
            words = [f"{parts[name]:.3g}" for name in ("warm start", "the rest")]
            rows.append([row["label"], done[-1]["method"], words[0], shown, words[1]])
    headings = ("seconds of a run", "method", "warm start", "passes", "the rest")
    return [*table(headings, rows), ""] if rows else []


def _method(results: Row) -> list[str]:
    parameters = results["parameters"]
    against = f" “bigsvd before” is commit {results['against'][:12]}." if results["against"] else ""
    return [
        *prose(
            "The genotypes are simulated as DataSimulator does: six ancestral groups, five regions, admixed "
            "individuals; so five components stand out of the noise and the others lie in its bulk, where "
            "one direction is hardly better than another. They are stored as Zarr chunks of all samples and "
            "some variants, and for PCAone as a .bed file. Variants are centred and divided by their "
            "standard deviation; by PCAone by √(2f(1−f)), so its singular values are held against those of "
            "that matrix, after the one factor that fits best was taken out. The exact singular values are "
            "LAPACK's, of the float64 Gram matrix of the samples. "
            f"Every run is a fresh process on {parameters['cpus']} CPUs; contenders took turns, "
            f"{parameters['repeat']} rounds, without those that took more than "
            f"{parameters['slow_seconds']:g} s in later ones. Seconds are medians, imports not counted, "
            f"errors the worst of the runs. bigsvd's budget is {parameters['memory']}; it also writes, "
            "checks and publishes its factors, and certifies them. scikit-learn is given the standardised "
            "array, whose making counts. Peak memory is the process's high-water mark less what was resident "
            f"after imports; PCAone's is of the whole process.{against} The machine's load average was "
            f"{results['machine']['load_average_at_start']:.2f} before the first run."
        ),
        "",
    ]


def plot(results: Row, path: Path) -> None:
    """Seconds as bars and errors as points, a line for each contender."""
    rows = [row for row in results["contenders"] if "seconds" in row][::-1]
    figure = Figure(figsize=(11, 1.8 + 0.5 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_seconds(left, rows)
    _draw_errors(right, rows, results["parameters"])
    left.set_yticks(range(len(rows)), [row["label"] for row in rows])
    figure.suptitle(_title(results))
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _draw_seconds(axes: Axes, rows: list[Row]) -> None:
    for place, row in enumerate(rows):
        colour = next(colour for name, colour in _COLOURS.items() if row["name"].startswith(name))
        axes.barh(place, row["seconds"], 0.6, color=colour)
        passes = f", {row['passes']:.3g} passes" if "passes" in row else ""
        axes.annotate(
            f"{row['seconds']:.3g} s{passes}", (row["seconds"], place), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    axes.set_xlim(0, 1.45 * max((row["seconds"] for row in rows), default=1.0))
    axes.set_xlabel("seconds")


def _draw_errors(axes: Axes, rows: list[Row], parameters: Row) -> None:
    for name, marker, label in (
        ("leading_error", "o", f"first {parameters['leading']}"),
        ("error", "x", f"all {parameters['k']}"),
    ):
        errors = [max(_LEAST_ERROR, row[name]) for row in rows]
        axes.scatter(errors, range(len(rows)), marker=marker, color="#333333", label=label, zorder=3)
    axes.set_xscale("log")
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("worst error of the singular values")
    if rows:
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
