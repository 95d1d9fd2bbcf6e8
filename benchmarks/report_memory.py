"""The report of `memory`: peak over bound by shape and budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_bytes, prose, provenance_lines, table

_HEADINGS = (
    "data", "shape", "chunks", "budget", "plan's bound", "peak memory", "÷ bound", "half used",
    "by its own word", "method", "passes", "seconds",
)  # fmt: skip
_COLOURS = {"a quarter": "#0b6e4f", "a tenth": "#c8553d", "data fit": "#2f5d9e"}


def markdown(results: dict[str, Any]) -> str:
    """The table, the worst ratio, and how it was measured."""
    runs = results["runs"]
    stopped = [
        f"* {row['label']}, {row['budget']}: `{row['said']}`" for row in runs if row["status"] != "done"
    ]
    lines = ["# Peak memory against the plan's bound", "", *table(_HEADINGS, map(_cells, runs)), ""]
    return "\n".join([*lines, *stopped, *([""] if stopped else []), *_method(results)]) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    m, n = row["shape"]
    chunks = " × ".join(f"{length:,}" for length in row["chunks"])
    if row["shards"]:
        chunks += " in shards of " + " × ".join(f"{length:,}" for length in row["shards"])
    budget = f"{row['budget']} ({human_bytes(row['budget_bytes'])})"
    given = [row["label"], f"{m:,} × {n:,} {row['dtype']}", chunks, budget]
    if row["status"] != "done":
        return [*given, row["status"], *[""] * (len(_HEADINGS) - 5)]
    return [
        *given,
        human_bytes(row["planned_bytes"]),
        human_bytes(row["peak_memory_bytes"]),
        f"{row['ratio']:.2f}",
        "yes" if row["half_used"] else "no",
        human_bytes(row["own_peak_bytes"]),
        row["method"],
        f"{row['passes']:.3g}",
        f"{row['seconds']:.3g}",
    ]


def _method(results: dict[str, Any]) -> list[str]:
    parameters = results["parameters"]
    done = [row for row in results["runs"] if row["status"] == "done"]
    within = sum(row["ratio"] <= 1.0 for row in done)
    worst = max((row["ratio"] for row in done), default=0.0)
    exceeded = [row["label"] for row in done if row.get("exceeded_bytes")]
    said = f" By their own word these held more: {', '.join(exceeded)}." if exceeded else ""
    own = any(row["budget"] == "of its own" for row in done)
    said += " Runs with a budget of their own ask for what their name says." if own else ""
    return [
        *prose(
            f"{within} of {len(done)} runs stayed within the bound of their plan; the worst used {worst:.2f} "
            "of it. Peak memory is the high-water mark of the resident memory of a fresh process that runs "
            "`bigsvd svd`, as the system keeps it, less what was resident when its embedded cluster "
            "was up and nothing had been read. “By its own word” is bigsvd's own figure, sampled while it "
            f"runs. k = {parameters['k']}, --max-passes {parameters['max_passes']}, "
            f"{parameters['cpus']} CPUs. The entries are random, so compression saves nothing. A budget that "
            f"no plan fits is refused before anything is read.{said}"
        ),
        "",
        *provenance_lines(results),
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """Peak over bound, one group of bars a shape; the line at 1 is the promise."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    labels = list(dict.fromkeys(row["label"] for row in results["runs"]))
    budgets = list(dict.fromkeys(row["budget"] for row in results["runs"]))
    width = 0.8 / len(budgets)
    for place, budget in enumerate(budgets):
        rows = [row for row in results["runs"] if row["budget"] == budget and row["status"] == "done"]
        x = [labels.index(row["label"]) + (place - (len(budgets) - 1) / 2) * width for row in rows]
        axes.bar(x, [row["ratio"] for row in rows], width, color=_COLOURS.get(budget), label=budget)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.axhline(0.5, color="black", linewidth=0.6, linestyle=":")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylabel("peak memory ÷ the plan's bound")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, title="budget", loc="upper right")
    figure.savefig(path, dpi=130, metadata={"Software": None})
