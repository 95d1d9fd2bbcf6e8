"""The report of `service load`: how long jobs took to be taken in, in bursts and at a pace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_seconds, prose, provenance_lines, table

_HEADINGS = (
    "jobs come", "chunk readers", "jobs", "p50", "p99", "at most", "chunks a second meanwhile",
)  # fmt: skip
_HOW = {"burst": "all clients at once", "pace": "one after the other"}


def markdown(results: dict[str, Any]) -> str:
    """A line for each way that jobs came, then how it was measured."""
    p, rows = results["parameters"], results["rows"]
    worst = next(row for row in rows if row["how"] == "pace" and row["readers"])
    lines = [
        f"# Load: a job of {p['clients']} clients beside {p['readers']} chunk readers is taken in within "
        f"{human_seconds(_quantile(worst, 0.99))} (p99); one key from all makes "
        f"{results['jobs_of_one_key']} job",
        "",
        *table(_HEADINGS, map(_line, rows)),
        "",
        *prose(
            f"`bigsvd serve` on SQLite, which syncs each commit. {p['clients']} clients, each "
            "with a connection of its own, "
            f"create {p['rounds']} jobs each: all at the same moment, {p['rounds']} times, so "
            "that the last waits for the "
            f"work of all before it; or each when its turn has come, {p['a_second']:g} a second in all. "
            f"Readers ask for one chunk after the other of a reconstruction of {p['shape'][0]:,} "
            f"× {p['shape'][1]:,}, "
            f"k = {p['k']}, as fast as they get them. No job runs meanwhile: the driver of the "
            "one that has the "
            "place sleeps. Clients and readers share the machine with the server. A job counts "
            "as taken in when the client has "
            "the whole answer 202, after its commit."
        ),
        "",
        *provenance_lines(results),
    ]
    return "\n".join(lines) + "\n"


def _quantile(row: dict[str, Any], share: float) -> float:
    return float(np.quantile(row["seconds"], share))


def _line(row: dict[str, Any]) -> list[str]:
    return [
        _HOW[row["how"]],
        str(row["readers"]),
        f"{row['jobs']:,}",
        *(human_seconds(_quantile(row, share)) for share in (0.5, 0.99, 1.0)),
        f"{row['chunks_a_second']:.0f}" if row["readers"] else "",
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """The share of jobs that were taken in within so many seconds, each way."""
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    styles = {"burst": "#c8553d", "pace": "#0b6e4f"}
    for row in results["rows"]:
        shares = np.arange(1, row["jobs"] + 1) / row["jobs"]
        axes.step(
            1e3 * np.array(row["seconds"]), shares, color=styles[row["how"]], where="post",
            linestyle="-" if row["readers"] else "--", label=f"{_HOW[row['how']]}, {row['readers']} readers",
        )  # fmt: skip
    axes.axvline(100, color="#888888", linewidth=1)
    axes.set(xlabel="milliseconds until a job is taken in", ylabel="share of jobs", xscale="log", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
