"""The report of `service kills`: how often servers were killed, and what became of their jobs."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_seconds, prose, provenance_lines, table

_HEADINGS = (
    "jobs go to", "acknowledged", "done once", "made twice", "attempts that overlap", "attempts, at most",
    "SIGKILLs", "back after, median", "at most",
)  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    """A line for each kind of server, then how it was measured."""
    p = results["parameters"]
    lines = [
        f"# Killed servers: {results['right']} of {len(results['jobs'])} acknowledged jobs done, each once, "
        f"over {len(results['killed'])} SIGKILLs",
        "",
        *table(_HEADINGS, [_line(kind, results) for kind in _kinds(results)]),
        "",
        *prose(
            f"Real server processes (`bigsvd serve`) on one machine; each job decomposes {p['shape'][0]} × "
            f"{p['shape'][1]} float32, two at a time for each server. Jobs are sent by four clients while "
            "others run, each with one key until it is acknowledged. A server is killed when as many "
            f"jobs are acknowledged as seed {p['seed']} decides: every other time at once, else up to 3 s "
            "later; then it is started again. Read in the records of the jobs: whether a job was done once, "
            "and whether an attempt began before the last word of the one before. The machine had other work "
            f"too, a load of {results['machine']['load_average_at_start']:.0f} at the start: that is what a "
            "server's start waits for."
        ),
        "",
        *provenance_lines(results),
    ]
    return "\n".join(lines) + "\n"


def _kinds(results: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["kind"] for row in results["jobs"]))


def _line(kind: str, results: dict[str, Any]) -> list[str]:
    jobs = [row for row in results["jobs"] if row["kind"] == kind]
    back = [row["back_seconds"] for row in results["killed"] if row["kind"] == kind] or [0.0]
    return [
        kind,
        str(len(jobs)),
        str(sum(row["state"] == "done" and row["done"] == 1 for row in jobs)),
        str(sum(row["made"] > 1 for row in jobs)),
        str(sum(row["overlaps"] for row in jobs)),
        str(max(row["attempts"] for row in jobs)),
        str(sum(row["kind"] == kind for row in results["killed"])),
        human_seconds(median(back)),
        human_seconds(max(back)),
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """Seconds until a killed server answered again, by how many jobs were acknowledged then."""
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for kind, colour in zip(_kinds(results), ("#0b6e4f", "#c8553d"), strict=False):
        own = [row for row in results["killed"] if row["kind"] == kind]
        moments = [row["acknowledged"] for row in own], [row["back_seconds"] for row in own]
        axes.scatter(*moments, color=colour, alpha=0.7, label=kind)
    axes.set(xlabel="jobs acknowledged when a server was killed", ylabel="seconds until it answered again")
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
