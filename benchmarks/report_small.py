"""The report of `small`: seconds of a call by shape, and what many calls leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, human_seconds, prose, provenance_lines, table

_HEADINGS = (
    "float64 noise", "method", "passes", "a call", "processor", "first call", "predicted ÷ taken", "NumPy",
    "its processor", "σ error",
)  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    """Each case, then what many calls leave."""
    p, left = results["parameters"], results["left"]
    lines = [
        "# Small matrices: a call beside NumPy's full decomposition",
        "",
        *table(_HEADINGS, map(_case, results["cases"])),
        "",
        f"After {p['calls']:,} calls on 300 × 70 ({human_seconds(left['seconds'])}) the process has "
        f"{left['threads']} more threads, {left['open_files']} more open files, {left['folders']} more "
        f"temporary folders, and {human_bytes(left['memory_bytes'])} more memory.",
        "",
        *prose(
            f"k = {p['k']}; medians of {p['repeat']} calls after the first of that shape, in one process on "
            f"{p['cpus']} processors, in turn with `numpy.linalg.svd` of the same matrix, not standardised. "
            "The stored matrix lies in chunks of 200 rows, and its factors are published on a disk. The "
            "values are held against LAPACK's in float64, of the standardised matrix where that is "
            "decomposed. Predicted is the time of the plan, of the run without opening and publishing."
        ),
        "",
        *provenance_lines(results),
    ]
    return "\n".join(lines) + "\n"


def _case(row: dict[str, Any]) -> list[str]:
    times = [human_seconds(row[name]) for name in ("seconds", "cpu_seconds", "first_seconds")]
    by_numpy = [human_seconds(row[name]) for name in ("numpy_seconds", "numpy_cpu_seconds")]
    ratio = f"{row['predicted_seconds'] / row['seconds']:.2f}"
    error = f"{row['sigma_error']:.1e}"
    return [row["case"], row["method"], f"{row['passes']:g}", *times, ratio, *by_numpy, error]


def plot(results: dict[str, Any], path: Path) -> None:
    """Seconds of a call and of NumPy's, by case."""
    cases = results["cases"]
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = np.arange(len(cases))
    for offset, name, label, colour in (
        (-0.2, "seconds", "bigsvd, k leading", "#0b6e4f"),
        (0.2, "numpy_seconds", "NumPy, all", "#c8553d"),
    ):
        axes.barh(places + offset, [row[name] for row in cases], 0.4, color=colour, label=label)
    axes.axvline(0.1, color="#888888", linewidth=1, linestyle="--")
    axes.set_yticks(places, [row["case"] for row in cases])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="seconds of a call")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
