"""The report of `service fuzz`: what was asked, and whether each answer was as the document says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_seconds, prose, provenance_lines, table


def markdown(results: dict[str, Any]) -> str:
    """A line for each operation, then how it was measured."""
    operations, statuses = results["operations"], results["statuses"]
    answers = ", ".join(f"{count:,} × {status}" for status, count in statuses.items())
    lines = [
        f"# Fuzzed: {results['server_errors']} server errors and {len(results['failures'])} other wrong "
        f"answers to {results['cases']:,} random requests",
        "",
        *table(("operation", "requests"), [(name, f"{count:,}") for name, count in operations.items()]),
        "",
        f"Answers: {answers}.",
        "",
        *(f"* {failure.splitlines()[0]}" for failure in results["failures"]),
        *([""] if results["failures"] else []),
        *prose(
            "Schemathesis makes requests that match the OpenAPI document and requests that do not, to the "
            "application in one process. Half of them name jobs, results and links that are "
            "there; streams of events are "
            "among them. Each answer is held to its status, media type, headers and schema; what does not "
            f"match the document has to be refused. It took {human_seconds(results['seconds'])}."
        ),
        "",
        *provenance_lines(results),
    ]
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """How many answers had each status."""
    statuses = results["statuses"]
    figure = Figure(figsize=(9, 3.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colours = ["#c8553d" if status >= "500" else "#0b6e4f" for status in statuses]
    bars = axes.bar(list(statuses), list(statuses.values()), color=colours)
    axes.bar_label(bars)
    axes.set(xlabel="status", ylabel="answers")
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})
