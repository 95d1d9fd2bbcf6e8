"""The report of `faults`: what died, how often, and what became of the jobs."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tables import human_seconds, prose, provenance_lines, table

_HEADINGS = (
    "killed in the middle", "jobs", "done", "the same bits", "attempts", "resumed by hand",
    "lanes begun again, at most", "seconds, median",
)  # fmt: skip
_NOTHING = "nothing"


def markdown(results: dict[str, Any]) -> str:
    """A line for each kind of death, then how it was measured."""
    p, rows = results["parameters"], results["kills"]
    same, lanes = sum(row["same_bits"] for row in rows), results["undisturbed"]["lanes"]
    lines = [
        f"# Deaths: {same} of {len(rows)} jobs ended with the bits of an undisturbed run",
        "",
        *table(_HEADINGS, [_undisturbed(results), *(_line(kind, rows) for kind in _kinds(rows))]),
        "",
        *prose(
            f"Each job decomposes {p['shape'][0]:,} × {p['shape'][1]:,} float32 in {p['passes']} passes "
            f"({lanes} lanes in all) on {p['workers']} workers of one thread, and meets one death, at a "
            f"moment that seed {p['seed']} decides. Scheduler and workers are started again as under "
            "`restart: unless-stopped`. Bits are compared with those of one run of the job's own plan in one "
            "process. Attempts are the most that a job took; a job was resumed by hand where its driver had "
            "died with the scheduler that would have started another."
        ),
        *_blind(results.get("blind")),
        "",
        *provenance_lines(results),
    ]
    return "\n".join(lines) + "\n"


def _kinds(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["death"] for row in rows))


def _undisturbed(results: dict[str, Any]) -> list[str]:
    return [_NOTHING, "1", "1", "1", "1", "0", "0", human_seconds(results["undisturbed"]["seconds"])]


def _line(kind: str, rows: list[dict[str, Any]]) -> list[str]:
    own = [row for row in rows if row["death"] == kind]
    return [
        kind,
        str(len(own)),
        str(sum(row["state"] == "done" for row in own)),
        str(sum(row["same_bits"] for row in own)),
        str(max(row["attempts"] for row in own)),
        str(sum(row["resumed"] for row in own)),
        str(max(row["lanes_again"] for row in own)),
        human_seconds(median(row["seconds"] for row in own)),
    ]


def _blind(blind: dict[str, Any] | None) -> list[str]:
    if blind is None:
        return []
    return [
        "",
        f"With scheduler and workers off, the states of {blind['records']:,} jobs were told in "
        f"{human_seconds(blind['seconds'])}, {blind['right']:,} of them right.",
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """Seconds of each job by what was killed, beside those of an undisturbed one."""
    rows = results["kills"]
    kinds = _kinds(rows)
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, kind in enumerate(kinds):
        own = [row for row in rows if row["death"] == kind]
        for same, colour in ((True, "#0b6e4f"), (False, "#c8553d")):
            seconds = [row["seconds"] for row in own if row["same_bits"] is same]
            axes.scatter(seconds, [place] * len(seconds), color=colour, alpha=0.7)
    axes.axvline(results["undisturbed"]["seconds"], color="#888888", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.invert_yaxis()
    axes.set(xlabel="seconds of a job; dashed: of one without a death", xlim=(0, None))
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})
