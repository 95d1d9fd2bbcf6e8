"""The report of `memory-sweep`: peak over bound of every random request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.tables import human_bytes, prose, provenance_lines, table

_HEADINGS = (
    "case", "shape", "chunks", "spectrum", "k", "options", "begun", "budget", "plan's bound", "peak memory",
    "÷ bound", "passes", "seconds",
)  # fmt: skip
_MUCH_BYTES = 100_000_000
_TICKS_MB = (10, 20, 50, 100, 200, 500)


def markdown(results: dict[str, Any]) -> str:
    """The worst ratio and how it was measured, then the table."""
    runs = results["runs"]
    stopped = [f"* {row['number']}: {row['status']}: `{row['said']}`" for row in runs if not _done(row)]
    lines = ["# Peak memory against the plan's bound, random requests", "", *_method(results), ""]
    lines += [*stopped, *([""] if stopped else []), *table(_HEADINGS, map(_cells, filter(_done, runs)))]
    return "\n".join(lines) + "\n"


def _done(row: dict[str, Any]) -> bool:
    return bool(row["status"] == "done")


def _cells(row: dict[str, Any]) -> list[str]:
    m, n = row["shape"]
    chunks = " × ".join(f"{length:,}" for length in row["chunks"])
    chunks += " in shards of " + " × ".join(map(str, row["shards"])) if row["shards"] else ""
    return [
        str(row["number"]),
        f"{m:,} × {n:,} {row['dtype']}",
        chunks,
        row["spectrum"],
        str(row["k"]),
        " ".join(row["options"]),
        row["begun"],
        human_bytes(row["budget_bytes"]),
        human_bytes(row["planned_bytes"]),
        human_bytes(row["peak_memory_bytes"]),
        f"{row['ratio']:.2f}",
        f"{row['passes']:.3g}",
        f"{row['seconds']:.3g}",
    ]


def _method(results: dict[str, Any]) -> list[str]:
    parameters, runs = results["parameters"], results["runs"]
    done = list(filter(_done, runs))
    ratios = [row["ratio"] for row in done]
    much = [row for row in done if row["planned_bytes"] > _MUCH_BYTES]
    refused = [row for row in runs if "refused_bytes" in row]
    named = sum(map(_done, refused))
    return [
        *prose(
            f"{sum(ratio <= 1.0 for ratio in ratios)} of {len(done)} runs stayed within the bound of their "
            f"plan; the worst used {max(ratios, default=0.0):.2f} of it. Of the {len(much)} plans above "
            f"{human_bytes(_MUCH_BYTES)}, {sum(row['half_used'] for row in much)} were used to at least a "
            f"half. {len(refused)} requests were given less than the least that fits and refused; with the "
            f"budget that the refusal named {named} of them ran. {parameters['count']} cases of seed "
            f"{parameters['seed']}, {parameters['cpus']} CPUs; shape, chunks, entries, k, options and budget "
            "are random. Measured as in `memory`."
        ),
        "",
        *provenance_lines(results),
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """Peak over bound by bound; the line at 1 is the promise."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    done = list(filter(_done, results["runs"]))
    axes.scatter([row["planned_bytes"] / 1e6 for row in done], [row["ratio"] for row in done], s=12)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.axhline(0.5, color="black", linewidth=0.6, linestyle=":")
    axes.set_xscale("log")
    axes.set_xticks(_TICKS_MB, [str(tick) for tick in _TICKS_MB])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("the plan's bound, MB")
    axes.set_ylabel("peak memory ÷ the plan's bound")
    axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=130, metadata={"Software": None})
