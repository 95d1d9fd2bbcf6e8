"""The report of `service soak`: what a server holds while it carries out hundreds of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.service_soak import growth
from benchmarks.tables import human_bytes, human_seconds, prose, provenance_lines, table

_HELD = {"memory_bytes": "memory", "descriptors": "open descriptors", "threads": "threads"}
_HEADINGS = ("held by", "of what", "once settled", "more in 100 jobs", "at most")


def markdown(results: dict[str, Any]) -> str:
    """A line for each thing that is held, then how it was measured."""
    p, server = results["parameters"], results["server"]
    _, memory = growth(server, "memory_bytes")
    _, descriptors = growth(server, "descriptors")
    states = ", ".join(f"{count} {state}" for state, count in sorted(results["states"].items()))
    lines = [
        f"# Soak: over {p['jobs']} jobs a server holds {human_bytes(memory)} and "
        f"{descriptors:.1f} descriptors more in 100",
        "",
        *table(_HEADINGS, [*_lines("server", server), *_lines("scheduler", results["scheduler"])]),
        "",
        *prose(
            f"{p['jobs']} jobs on {p['shape'][0]} × {p['shape'][1]} float32, {p['at_once']} at a time, "
            f"{_where(p)}: {states}, in {human_seconds(server[-1]['seconds'])}. When one has "
            "ended a client follows its "
            "events, opens its rank table and a region, makes a link and revokes it, and lists "
            "jobs. Settled is the "
            "server after a fifth of the jobs; growth is the median of all slopes between two later samples."
        ),
        "",
        *provenance_lines(results),
    ]
    return "\n".join(lines) + "\n"


def _where(parameters: dict[str, Any]) -> str:
    workers = parameters["workers"]
    return (
        f"on a Dask cluster of {workers} workers" if workers else "each in a process of the server's machine"
    )


def _lines(who: str, samples: list[dict[str, Any]]) -> list[list[str]]:
    return [_line(who, samples, name) for name in _HELD] if samples else []


def _line(who: str, samples: list[dict[str, Any]], name: str) -> list[str]:
    settled, more = growth(samples, name)
    most = max(each[name] for each in samples)
    if name == "memory_bytes":
        return [who, _HELD[name], human_bytes(settled), human_bytes(more), human_bytes(most)]
    return [who, _HELD[name], f"{settled:.0f}", f"{more:.1f}", f"{most:.0f}"]


def plot(results: dict[str, Any], path: Path) -> None:
    """Memory and descriptors by the number of jobs that have ended."""
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    memory, descriptors = figure.subplots(1, 2)
    for who, colour in (("server", "#0b6e4f"), ("scheduler", "#c8553d")):
        samples = results[who]
        jobs = [each["jobs"] for each in samples]
        memory.plot(jobs, [each["memory_bytes"] / 1e6 for each in samples], color=colour, label=who)
        descriptors.plot(jobs, [each["descriptors"] for each in samples], color=colour, label=who)
    memory.set(xlabel="jobs that have ended", ylabel="resident memory, MB", ylim=(0, None))
    descriptors.set(xlabel="jobs that have ended", ylabel="open descriptors", ylim=(0, None))
    for axes in (memory, descriptors):
        axes.grid(alpha=0.3)
    if results["scheduler"]:
        memory.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
